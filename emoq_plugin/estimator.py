"""EmoQuantizer: learn, apply and share an emotion-aware quantizer in a few lines."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from emoq_plugin.core.bank import BALANCED, CodebookBank
from emoq_plugin.core.normalization import KINDS
from emoq_plugin.core.rvq import Quantized
from emoq_plugin.learning.fit_bank import QuantizerConfig
from emoq_plugin.routing.base import get_router
from emoq_plugin.routing.head import fit_head
from emoq_plugin.routing.learn import TrainingClips
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.routing.systems import SPECIFIC, System
from emoq_plugin.speech.clips import by_name, open_clips

# The class of all clips where no label is given.
UNLABELLED = "unlabelled"


class EmoQuantizer(BaseEstimator):
    """Emotion-aware residual vector quantizer with a router.

    Parameters
    ----------
    codebook_size : int or list of L int, default=64
        Codewords K of each level.
    n_levels : int, default=1
        L, where `codebook_size` is one number.
    router : str or None, default="calibrated"
        Chooses the expert of a clip: see `emoq_plugin.routing.base.routers`. None for
        one balanced codebook, which needs no labels.
    expert_set : str, default="specific"
        Experts: ``specific`` (one emotion each), ``biased<percent>``, ``capacity``
        (the control), see `emoq_plugin.learning.weighting.expert_weights`.
    norm : {"level", "corpus", "clip", "speaker"}, default="level"
        What is removed before quantizing, see `core.normalization.Normalization`.
    clip_bits : int, optional
        Bits of a clip code for what lasts (the mean frame), beside the frame codes,
        which encode what it leaves; see `core.clip_code.ClipCode`. No clip code when
        None. It also sends what the norms `clip` and `level` remove.
    clip_window : float, optional
        Seconds, at least 0.5, after which another clip code is sent; one a clip when
        None.
    clip_aware : bool, default=True
        Spend its bits on what separates the emotions, where there are labels.
    clip_code : dict, optional
        Fields of `emoq_plugin.learning.clip_code.ClipCodeSettings` that differ.
    classes : sequence of str, optional
        Names of the columns of vote shares; of labels, those that occur.
    frame_rate : float, default=50.0
        Frames a second of the features, Hz.
    route_depth : int, default=1
        Levels that routers look at.
    learning : dict, optional
        Fields of `emoq_plugin.learning.settings.LearningSettings` that differ.
    seed : int, default=0
    device : str, default="cpu"
        torch device for learning the codebooks.

    Attributes
    ----------
    classes_ : list of str
    bank_ : CodebookBank
        All experts, and what routers have learned.
    quantizer_ : RoutedQuantizer
        What is applied and saved.
    n_features_in_ : int
        D.
    held_out_posteriors_ : dict of str to (N, C) array
        Speaker-held-out posteriors of the training clips, by router.

    Notes
    -----
    Learning takes about ``2 N K D`` operations for a pass over N frames, a level and an
    expert that weighs them; a generator is kept in a temporary file, and the arks of a
    `feats.scp` are read in every pass, so memory does not grow with their number.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> clips = [random.normal(i % 2, 1, (30, 4)) for i in range(8)]
    >>> labels = ["happy" if i % 2 else "sad" for i in range(8)]
    >>> q = EmoQuantizer(codebook_size=4, router="distortion", norm="corpus")
    >>> out = q.fit(clips, labels)(clips[:2])
    >>> out.codes.shape, out.route.ravel().tolist()
    ((2, 30, 1), [1, 0])
    >>> q.decode(out.codes, out.route).shape
    (2, 30, 4)
    >>> q = EmoQuantizer(codebook_size=4, router=None, norm="corpus", clip_bits=2)
    >>> out = q.fit(clips, labels)(clips[:2])
    >>> out.clip_codes.shape, out.bits.tolist()
    ((2, 1, 3), [62.0, 62.0])
    """

    def __init__(
        self,
        codebook_size: int | Sequence[int] = 64,
        n_levels: int = 1,
        *,
        router: str | None = "calibrated",
        expert_set: str = SPECIFIC,
        norm: str = "level",
        clip_bits: int | None = None,
        clip_window: float | None = None,
        clip_aware: bool = True,
        clip_code: Mapping[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        frame_rate: float = 50.0,
        route_depth: int = 1,
        learning: Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.codebook_size = codebook_size
        self.n_levels = n_levels
        self.router = router
        self.expert_set = expert_set
        self.norm = norm
        self.clip_bits = clip_bits
        self.clip_window = clip_window
        self.clip_aware = clip_aware
        self.clip_code = clip_code
        self.classes = classes
        self.frame_rate = frame_rate
        self.route_depth = route_depth
        self.learning = learning
        self.seed = seed
        self.device = device

    def fit(
        self,
        features: Any,
        emotions: Sequence[str] | np.ndarray | Mapping[str, str] | None = None,
        *,
        speakers: Sequence[str] | Mapping[str, str] | None = None,
        work_dir: str | Path | None = None,
    ) -> Self:
        """Learn codebooks and router.

        Parameters
        ----------
        features : sequence, mapping, iterator, str or Path
            N clips: (T, D) arrays or tensors, a generator of them, or the path of a
            `feats.scp`; see `speech.clips.open_clips`.
        emotions : sequence of N labels, (N, C) array of vote shares, or mapping
            By name where the clips have names. Not needed without a router.
        speakers : sequence of N str, or mapping, optional
            For speaker-held-out posteriors and ``norm="speaker"``.
        work_dir : str or Path, optional
            For a checkpoint, from which the same call goes on, and
            `learning.jsonl`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For settings out of range; clips, labels and speakers that do not fit each
            other (with both numbers); a class without clips; fewer frames than
            codewords; more `clip_bits` than the clips support (with both numbers);
            NaN or infinite features (with clip and frame).
        """
        sizes = self._sizes()
        config = self._config(labelled=emotions is not None)
        clips, lengths = open_clips(features)
        names = list(lengths)
        known, targets = self._targets(emotions, names)
        specification = getattr(clips, "specification", None)
        training = TrainingClips(
            clips,
            lengths,
            names,
            targets,
            known,
            self._speakers(speakers, names),
            config,
            specification.frame_rate_hz if specification else self.frame_rate,
            card={"seed": self.seed, "route_depth": self.route_depth},
            device=self.device,
        )
        if specification:
            training.card["feature"] = specification.to_json()
            training.card["feature_fingerprint"] = specification.fingerprint()
        depth = min(self.route_depth, len(sizes))
        clip_code = None
        if self.clip_bits is not None:
            clip_code = training.learn_clip_code(self.clip_bits)
        work = work_dir and Path(work_dir)
        bank = training.learn(sizes, work_dir=work, clip_code=clip_code)
        shared, held_out = training.fit_shared_routers()
        own = training.fit_routers(bank, depth=depth)
        bank.router_parameters = own | shared
        if emotions is None:
            bank.emotions = []
        else:
            system = System.parse(self._system)
            head = fit_head(training, bank, system, depth=depth, held_out=held_out)
            bank.router_parameters = bank.router_parameters | head
        self.classes_ = list(bank.emotions)
        self.bank_: CodebookBank = bank
        self.n_features_in_ = bank.dimension
        self.held_out_posteriors_ = held_out
        self.quantizer_ = RoutedQuantizer(bank, self._system, depth=depth)
        return self

    def check(
        self,
        names: Sequence[str],
        emotions: Any,
        speakers: Any = None,
    ) -> None:
        """Refuse settings, labels and speakers as `fit` would, without features.

        Parameters
        ----------
        names : sequence of N str
        emotions, speakers
            As for `fit`.

        Raises
        ------
        ValueError
        """
        self._sizes()
        self._config(labelled=emotions is not None)
        self._targets(emotions, names)
        if speakers is not None or self.norm == "speaker":
            self._speakers(speakers, names)

    # What is checked, in the order of the constructor.

    @property
    def _system(self) -> str:
        codes = BALANCED if self.router is None else f"{self.expert_set}-{self.router}"
        return codes if self.clip_bits is None else f"{codes}+clip{self.clip_bits}"

    def _sizes(self) -> list[int]:
        sizes = self.codebook_size
        if isinstance(sizes, int | np.integer):
            sizes = [int(sizes)] * self.n_levels
        if not sizes or min(sizes) < 2:
            raise ValueError(
                f"codebook_size is {self.codebook_size}, n_levels {self.n_levels}: "
                "expected at least 2 codewords and 1 level"
            )
        if self.route_depth < 1:
            raise ValueError(f"route_depth is {self.route_depth}, expected at least 1")
        return list(sizes)

    def _config(self, *, labelled: bool) -> QuantizerConfig:
        expert_sets = [BALANCED]
        if self.router is not None:
            router = get_router(self.router)
            if router.is_control:
                raise ValueError(
                    f"router '{self.router}' is a control, which nobody can apply to "
                    "clips without labels: choose another one"
                )
            expert_sets = [*router.also, self.expert_set]
        if self.clip_bits is not None and self.clip_bits < 1:
            raise ValueError(
                f"clip_bits is {self.clip_bits}, expected at least 1, or None for no "
                "clip code"
            )
        if self.clip_bits is None and (self.clip_window or self.clip_code):
            raise ValueError(
                "clip_window and clip_code belong to a clip code: give clip_bits too"
            )
        if self.norm not in KINDS:
            raise ValueError(f"norm is '{self.norm}', expected one of {KINDS}")
        learning = {**(self.learning or {}), "seed": self.seed}
        return QuantizerConfig(
            norm=self.norm,
            expert_sets=expert_sets,
            clip_window=self.clip_window,
            clip_aware=self.clip_aware and labelled,
            clip_code={**(self.clip_code or {}), "seed": self.seed},
            learning=learning,
        )

    def _targets(
        self, emotions: Any, names: Sequence[str]
    ) -> tuple[list[str], np.ndarray]:
        """Return the classes and the share of each clip in them, (N, C)."""
        if emotions is None:
            if self.router is not None:
                raise ValueError(
                    f"router '{self.router}' needs emotions: give a label or vote "
                    "shares for each clip, or router=None"
                )
            return [UNLABELLED], np.ones((len(names), 1))
        emotions = by_name(emotions, names, "emotions")
        shares = np.asarray(emotions)
        if shares.ndim == 1:
            labels = [str(label) for label in shares.tolist()]
            known = list(self.classes or sorted(set(labels)))
            if unknown := sorted(set(labels) - set(known)):
                raise ValueError(f"label '{unknown[0]}' is none of classes {known}")
            return known, np.eye(len(known))[[known.index(label) for label in labels]]
        if shares.ndim != 2 or shares.shape[1] != len(self.classes or ()):
            raise ValueError(
                f"emotions have shape {shares.shape}, expected (clips,) labels, or "
                f"(clips, classes) vote shares with classes=[...], {len(shares)} by "
                f"{len(self.classes or ())}"
            )
        shares = shares.astype(np.float64)
        total = shares.sum(axis=1)
        bad = ~np.isfinite(shares).all(axis=1) | (shares < 0).any(axis=1) | (total <= 0)
        if bad.any():
            raise ValueError(
                f"clip {names[bad.argmax()]}: votes {shares[bad.argmax()].tolist()}, "
                "expected numbers from 0 that are not all 0"
            )
        return [str(name) for name in self.classes], shares / total[:, None]

    def _speakers(self, speakers: Any, names: Sequence[str]) -> dict[str, str]:
        if speakers is None:
            if self.norm == "speaker":
                raise ValueError("norm='speaker' needs speakers: one for each clip")
            if self.router is not None and get_router(self.router).shared:
                logging.warning(
                    "no speakers given: the posteriors of router '%s' are held out by "
                    "clip, not by speaker",
                    self.router,
                )
            return {name: name for name in names}
        speakers = by_name(speakers, names, "speakers")
        found = {name: str(who) for name, who in zip(names, speakers)}
        if self.router is not None and get_router(self.router).shared:
            count = len(set(found.values()))
            if count < 2:
                raise ValueError(
                    f"found {count} speaker, expected at least 2 for speaker-held-out "
                    "posteriors: leave speakers out to hold out clips instead"
                )
        return found

    # What is applied, see RoutedQuantizer.

    @property
    def _fitted(self) -> RoutedQuantizer:
        if not hasattr(self, "quantizer_"):
            raise NotFittedError("this EmoQuantizer has learned nothing: call fit")
        return self.quantizer_

    def __call__(self, features: Any, lengths: Any = None, **options: Any) -> Quantized:
        """Quantize clips; see `RoutedQuantizer.forward`."""
        return self._fitted(features, lengths, **options)

    def encode(self, features: Any, lengths: Any = None, **options: Any) -> Any:
        """Return the codes of clips; see `RoutedQuantizer.forward`."""
        return self._fitted.encode(features, lengths, **options)

    def decode(
        self, codes: Any, route: Any, weights: Any = None, clip_codes: Any = None
    ) -> Any:
        """Return the features of codes; see `RoutedQuantizer.decode`."""
        return self._fitted.decode(codes, route, weights, clip_codes)

    def predict_proba(self, features: Any) -> np.ndarray:
        """Return class posteriors; see `RoutedQuantizer.predict_proba`."""
        return self._fitted.predict_proba(features)

    def predict(self, features: Any) -> list[str]:
        """Return the most likely class of each clip."""
        return self._fitted.predict(features)

    def score(self, features: Any, emotions: Any) -> float:
        """Return the macro-F1 of `predict`; see `RoutedQuantizer.score`."""
        return self._fitted.score(features, emotions)

    def units(self, audio: Any, **options: Any) -> Any:
        """Return the units of speech; see `RoutedQuantizer.units`."""
        return self._fitted.units(audio, **options)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the artifact that `emoq_plugin.load` reads."""
        self._fitted.save_pretrained(directory)

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> str:
        """Upload the artifact to the Hugging Face hub; give the commit's address."""
        return self._fitted.push_to_hub(repo_id, private=private)
