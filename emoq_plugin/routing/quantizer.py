"""RoutedQuantizer (Emo-Q): a bank, a router, and the stream they make together."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoq_plugin.core.artifact import Artifact
from emoq_plugin.core.bank import CodebookBank, member
from emoq_plugin.core.batch import PADDING, as_batch
from emoq_plugin.core.batch_encoding import batch_encoding, decode_batch
from emoq_plugin.core.clip_statistics import count_windows
from emoq_plugin.core.rvq import Quantized
from emoq_plugin.devices import exact_float32
from emoq_plugin.files import check_types
from emoq_plugin.routing.base import RoutingInputs
from emoq_plugin.routing.head import has_head, posteriors
from emoq_plugin.routing.systems import System


class RoutedQuantizer(Artifact, nn.Module):
    """Routes each clip at a shallow depth, then encodes it with the chosen expert.

    Parameters
    ----------
    bank : CodebookBank
    system : str
        ``balanced`` or ``<expert set>-<router>``, with ``+clip<bits>`` where the bank
        has a clip code.
    depth : int, default=1
        Levels that the router looks at, of those that the bank has.
    n_levels : int, optional
        Levels of the code stream; all that the bank has when None.

    Raises
    ------
    ValueError
        For a system whose experts the bank lacks, a control (which needs labels or
        names of clips), or levels that were not learned.
    """

    def __init__(
        self,
        bank: CodebookBank,
        system: str,
        *,
        depth: int = 1,
        n_levels: int | None = None,
    ):
        super().__init__()
        self.system = System.parse(system)
        if self.system.needs_labels:
            raise ValueError(
                f"system '{system}' is a control of experiments, which needs labels "
                "or names of clips: choose another router"
            )
        if self.system.beside:
            raise ValueError(
                f"system '{system}' is a control of experiments, whose heads hear the "
                f"route of '{self.system.beside.name}': choose one of its parts"
            )
        experts = self.system.experts(bank)
        if not experts:
            raise ValueError(
                f"system '{system}' has no frame codes to encode with: take "
                f"'balanced+{system}', and leave its frame codes away"
            )
        self.bank = bank.subset(experts)
        self.depth = min(depth, bank.n_levels)
        self.n_levels = bank.n_levels if n_levels is None else n_levels
        if not 1 <= self.n_levels <= bank.n_levels:
            raise ValueError(
                f"n_levels is {n_levels}, expected 1 to {bank.n_levels}, which were "
                "learned"
            )
        if depth < 1:
            raise ValueError(f"depth is {depth}, expected at least 1")
        self._speech: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the encoder of `units` out: a copy loads its own when it needs one."""
        return self.__dict__ | {"_speech": None}

    @exact_float32()
    def forward(
        self,
        x: Any,
        lengths: Any = None,
        *,
        n_levels: int | None = None,
        speaker_mean: Tensor | None = None,
    ) -> Quantized:
        """Route, encode and decode clips.

        Parameters
        ----------
        x : (B, T, D) Tensor or array, or sequence of B (T, D)
            See `core.batch.as_batch`; what comes out is of the kind that came in.
        lengths : (B,) Tensor, optional
        n_levels : int, optional
        speaker_mean : (B, D) Tensor, optional

        Returns
        -------
        quantized : Quantized
            `route` counts the experts in the order of ``bank.experts``.

        Raises
        ------
        ValueError
            For frames that are NaN or infinite, with clip and frame.
        """
        x, lengths, back = as_batch(x, lengths)
        levels = self.n_levels if n_levels is None else n_levels
        clips = batch_encoding(self.bank, x, lengths, speaker_mean=speaker_mean)
        inputs = RoutingInputs(clips, depth=min(self.depth, levels))
        route, weights = self.system.route(inputs)
        codes = clips.codes(route, levels)
        frame_bits = sum(map(math.log2, self.bank.sizes[:levels])) * route.shape[1]
        code, beside = self.bank.clip_code, clips.clip_codes
        n_windows = count_windows(clips.lengths, None if code is None else code.window)
        side_bits = self.system.side_bits(self.bank, n_windows)
        bits = clips.lengths.double() * frame_bits + side_bits
        return Quantized(
            features=back(self.decode(codes, route, weights, beside)),
            codes=back(codes),
            route=back(route),
            weights=back(weights),
            bits=back(bits),
            clip_codes=None if beside is None else back(beside),
        )

    def encode(self, x: Any, lengths: Any = None, **options: Any) -> Any:
        """Return the codes of `forward`."""
        return self(x, lengths, **options).codes

    def decode(
        self, codes: Any, route: Any, weights: Any = None, clip_codes: Any = None
    ) -> Any:
        """Decode a batch of codes with its routes and clip codes.

        Parameters
        ----------
        codes : (B, T, M * L) int64 Tensor or array
        route : (B, M) int64 Tensor or array
        weights : (B, M) Tensor or array, optional
            Needed where experts are mixed.
        clip_codes : (B, N, C) int64 Tensor or array, optional
            Needed where the quantizer has a clip code.

        Returns
        -------
        features : (B, T, D) Tensor or array
            Zero where padded.

        Raises
        ------
        ValueError
            For a code outside its codebook, a mixture without weights, or clip codes
            that are missing or do not fit the clips.
        """
        if isinstance(codes, np.ndarray):
            parts = (codes, route, weights, clip_codes)
            stream = (None if v is None else torch.as_tensor(v) for v in parts)
            return self.decode(*stream).numpy()
        if weights is None:
            if route.shape[1] > 1:
                raise ValueError(
                    f"routes mix {route.shape[1]} experts: give their weights too"
                )
            weights = torch.ones(route.shape, device=codes.device)
        mixed = decode_batch(self.bank, codes, route, weights, clip_codes)
        features = self.bank.normalization.inverse(mixed)
        return torch.where((codes[..., :1] != PADDING), features, 0)

    @property
    def has_head(self) -> bool:
        """Whether `predict_proba` has what it needs."""
        return has_head(self.bank)

    @exact_float32()
    def router_posteriors(
        self, features: Any, lengths: Any = None, *, speaker_mean: Tensor | None = None
    ) -> np.ndarray | None:
        """Return class posteriors (B, C) of what the router hears; None without any."""
        router = self.system.router
        if router is None or not router.gives_posteriors:
            return None
        x, lengths, _ = as_batch(features, lengths)
        clips = batch_encoding(self.bank, x, lengths, speaker_mean=speaker_mean)
        return router.posteriors(RoutingInputs(clips, depth=self.depth)).cpu().numpy()

    def predict_proba(
        self, features: Any, lengths: Any = None, *, speaker_mean: Tensor | None = None
    ) -> np.ndarray:
        """Return class posteriors (B, C) of clips by what their units keep.

        The head is a logistic regression on mean and deviation of the reconstruction,
        on the route and on what the clip code decodes to, see `routing.head`.

        Raises
        ------
        ValueError
            If the quantizer was not learned with labels by `EmoQuantizer.fit`.
        """
        x, lengths, _ = as_batch(features, lengths)
        found = self(x, lengths, speaker_mean=speaker_mean)
        stream = (found.codes, found.route, found.weights, found.clip_codes)
        return posteriors(self.bank, *stream).cpu().numpy()

    def predict(self, features: Any, lengths: Any = None) -> list[str]:
        """Return the most likely class of each clip; see `predict_proba`."""
        best = self.predict_proba(features, lengths).argmax(axis=1)
        return [self.bank.emotions[n] for n in best]

    def score(self, features: Any, emotions: Sequence[str]) -> float:
        """Return the macro-F1 of `predict` over the classes that occur.

        Parameters
        ----------
        features : sequence of N (T, D) arrays
            Clips of speakers that nothing was learned from.
        emotions : sequence of N labels

        Raises
        ------
        ValueError
            For another number of labels, or a label that is no class.
        """
        from sklearn.metrics import f1_score

        labels = [str(label) for label in emotions]
        if len(labels) != len(features):
            raise ValueError(f"{len(labels)} emotions for {len(features)} clips")
        found = self.predict(features)
        known = self.bank.emotions
        if unknown := sorted(set(labels) - set(known)):
            raise ValueError(f"label '{unknown[0]}' is none of classes {known}")
        return float(
            f1_score(labels, found, labels=sorted(set(labels)), average="macro")
        )

    @property
    def bits(self) -> tuple[float, float]:
        """Bits of a frame and, for its route and one clip code, of a clip."""
        sizes = self.bank.sizes[: self.n_levels]
        frame_bits = sum(map(math.log2, sizes)) * self.system.n_streams
        return frame_bits, self.system.side_bits(self.bank)

    def __repr__(self) -> str:
        sizes = self.bank.sizes[: self.n_levels]
        frame_bits, side_bits = self.bits
        code, clip_code = self.bank.clip_code, ""
        if code is not None:
            every = "clip" if code.window is None else f"{code.window} frames"
            clip_code = f"; clip code of {code.bits:g} bits every {every}"
        names = ", ".join(map(member, self.bank.experts))
        return (
            f"RoutedQuantizer({self.system.name}: experts {names}; codewords "
            f"{' '.join(map(str, sizes))}; norm {self.bank.normalization.kind}; "
            f"{frame_bits:g} bits a frame, {side_bits:.3g} a clip{clip_code})"
        )

    def units(self, audio: Any, *, device: str = "cpu", **options: Any) -> Any:
        """Return the units of speech, by the encoder of its feature specification.

        Parameters
        ----------
        audio : str, Path, ((N,) float array, Hz), or a list of these
        device : str, default="cpu"
            torch device of encoder and quantizer.
        **options
            Of `emoq_plugin.speech.pipeline.SpeechToUnits` (`model_dir`) and its call
            (`multi_channel`, `speaker_mean`).

        Returns
        -------
        units : Units or list of Units
            See `emoq_plugin.units.clip_units.Units`; a list for a list.
        """
        from emoq_plugin.speech.pipeline import SpeechToUnits

        place = (device, options.pop("model_dir", None))
        if self._speech is None or self._speech[0] != place:
            speech = SpeechToUnits(self, device=device, model_dir=place[1])
            self._speech = (place, speech)
        self.to(device)  # it may have been moved since
        many = audio if isinstance(audio, list) else [audio]
        found = list(self._speech[1](many, **options))
        return found if isinstance(audio, list) else found[0]

    @property
    def codebooks_sha256(self) -> str:
        """SHA-256 over codebooks and normalisation of the experts in use."""
        return self.bank.codebooks_sha256

    def config(self) -> dict:
        """Return all that is not a tensor."""
        own = {
            "system": self.system.name,
            "depth": self.depth,
            "n_levels": self.n_levels,
        }
        return self.bank.config() | own

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors under their names in the file."""
        return self.bank.tensors()

    def stored(self) -> dict[str, Tensor]:
        """Return the tensors as a file holds them."""
        return self.bank.stored()

    def golden(self) -> dict[str, list[str]]:
        """Return the codes of golden frames by expert, see `core.golden`."""
        return self.bank.golden()

    @classmethod
    def from_config(cls, config: dict, tensors: dict[str, Tensor]) -> "RoutedQuantizer":
        """Build what `config` and `tensors` describe."""
        if "arm" in config:  # what a system was called when 0.1.0 was young
            config = {"system": config["arm"], **config}
        types = {"system": str, "depth": int, "n_levels": int}
        check_types(config, types, "config")
        bank = CodebookBank.from_config(config, tensors)
        if not 1 <= config["depth"] <= bank.n_levels:
            raise ValueError(
                f"depth is {config['depth']}, expected 1 to {bank.n_levels}"
            )
        return cls(
            bank,
            config["system"],
            depth=config["depth"],
            n_levels=config["n_levels"],
        )
