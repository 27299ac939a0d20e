"""From features, labels and a fold to a learned CodebookBank."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.core.bank import CodebookBank, expert_set_of
from emoq_plugin.core.clip_code import ClipCode
from emoq_plugin.core.clip_statistics import window_frames
from emoq_plugin.core.normalization import (
    KINDS,
    Normalization,
    fit_normalization,
)
from emoq_plugin.files import (
    check_options,
    check_ranges,
    check_types,
    errors_of,
    read_options,
)
from emoq_plugin.learning.clip_code import ClipCodeSettings
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import UtteranceSource
from emoq_plugin.learning.weighting import check_expert_sets, expert_weights, is_blind

BUDGETS = ("all", "equal")


@dataclass(frozen=True)
class QuantizerConfig:
    """What is in `conf/quantizer/*.yaml`.

    Attributes
    ----------
    norm : {"corpus", "clip", "level", "speaker"}, default="level"
    expert sets : list of str
        Experts to learn: balanced, specific, biased<percent>, capacity.
    frame_budget : {"all", "equal"}, default="all"
        `equal` cuts each expert's clips to the frames of the poorest expert.
    chunk_frames : int, default=8192
    memory_mb : float, default=512
        Frames are kept in memory while they fit; others are read in each pass.
    clip_window : float, optional
        Seconds that a clip code is of, where systems have one (``+clip<bits>``); the
        whole clip when None.
    clip_aware : bool, default=True
        Spend its bits on what tells the emotions apart.
    clip_code : dict
        Fields of `ClipCodeSettings`; its seed is that of `learning`.
    learning : dict
        Fields of `LearningSettings`.
    calibrated : dict
        Fields of `emoq_plugin.routing.fit_calibrated.CalibratedSettings`.
    """

    norm: str = "level"
    expert_sets: list[str] = field(
        default_factory=lambda: ["balanced", "specific", "biased95", "capacity"]
    )
    frame_budget: str = "all"
    chunk_frames: int = 8192
    memory_mb: float = 512.0
    clip_window: float | None = None
    clip_aware: bool = True
    clip_code: dict[str, Any] = field(default_factory=dict)
    learning: dict[str, Any] = field(default_factory=dict)
    calibrated: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_expert_sets(self.expert_sets)
        check_ranges(
            self,
            [
                ("norm", self.norm in KINDS, f"one of {KINDS}"),
                ("frame_budget", self.frame_budget in BUDGETS, f"one of {BUDGETS}"),
                ("chunk_frames", self.chunk_frames >= 1, "at least 1"),
                ("memory_mb", 0 <= self.memory_mb < np.inf, "a number from 0"),
            ],
        )
        if self.clip_window is not None:
            window_frames(self.clip_window, 1.0)  # refuses what is too short
        known = get_type_hints(ClipCodeSettings)
        check_options(self.clip_code, known, "clip_code")
        check_types(self.clip_code, known, "clip_code")
        with errors_of("clip_code"):
            _ = self.clip_code_settings
        with errors_of("learning"):
            LearningSettings(**self.learning)

    @property
    def clip_code_settings(self) -> ClipCodeSettings:
        """Settings of clip codes, with the seed of the learning."""
        seed = self.learning.get("seed", 0)
        return ClipCodeSettings(**{"seed": seed} | self.clip_code)

    @property
    def has_classes(self) -> bool:
        """Whether an expert set has one expert a class."""
        return any(not is_blind(expert_set) for expert_set in self.expert_sets)

    @classmethod
    def read(cls, path: str | Path) -> "QuantizerConfig":
        """Read a YAML file.

        Raises
        ------
        ValueError
            For an unknown option, with those that exist, or a value of another type or
            out of range.
        """
        values = read_options(path, cls.__dataclass_fields__)
        learning = values.get("learning") or {}
        known = LearningSettings.__dataclass_fields__
        check_options(learning, known, f"{path}: learning")
        check_types(learning, get_type_hints(LearningSettings), f"{path}: learning")
        check_types({**values, "learning": learning}, get_type_hints(cls), path)
        with errors_of(path):
            return cls(**{**values, "learning": learning})


class NormalizedClips:
    """Clips of a feature store after normalisation, in memory where they fit.

    With a clip code, what it leaves of them: the input of frame codes.

    Parameters
    ----------
    features : mapping of str to (T, D) float32 array
    normalization : Normalization
    speaker_means : mapping of str to (D,) Tensor or None
        By utterance.
    memory_bytes : float
    clip_code : ClipCode, optional
    """

    def __init__(
        self,
        features: Mapping[str, np.ndarray],
        normalization: Normalization,
        *,
        speaker_means: Callable[[str], Tensor | None],
        memory_bytes: float = 0.0,
        clip_code: ClipCode | None = None,
    ):
        self.features = features
        self.normalization = normalization
        self.speaker_means = speaker_means
        self.room = memory_bytes
        self.clip_code = clip_code
        self.kept: dict[str, np.ndarray] = {}
        self._clip_codes: dict[str, Tensor] = {}  # small, and slow to find

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the clips in the order of `names`."""
        for name in names:
            if name in self.kept:
                yield name, self.kept[name]
                continue
            raw = torch.from_numpy(self.features[name])
            with errors_of(f"utterance '{name}'"):
                frames = self._normalise(name, raw).numpy()
            if frames.nbytes <= self.room:
                self.room -= frames.nbytes
                self.kept[name] = frames
            yield name, frames

    def _normalise(self, name: str, raw: Tensor) -> Tensor:
        mean = self.speaker_means(name)
        if self.clip_code is None:
            return self.normalization(raw, mean)
        whole = self.normalization(raw, mean, sent=True)
        if name not in self._clip_codes:
            self._clip_codes[name] = self.clip_code.encode_clips(whole[None])
        known = self.clip_code.offset(self._clip_codes[name], n_frames=len(whole))
        return whole - known[0]


def speaker_means(
    features: Mapping[str, np.ndarray], speaker: Mapping[str, str]
) -> dict[str, Tensor]:
    """Average all frames of each speaker; no label is looked at.

    Parameters
    ----------
    features : mapping of str to (T, D) array
    speaker : mapping of str to str
        Speaker by utterance.

    Returns
    -------
    means : dict of str to (D,) float32 Tensor
        By speaker.
    """
    sums: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for name, frames in features.items():
        who = speaker[name]
        sums[who] = sums.get(who, 0.0) + frames.sum(axis=0, dtype=np.float64)
        counts[who] = counts.get(who, 0) + len(frames)
    return {
        who: torch.from_numpy((total / counts[who]).astype(np.float32))
        for who, total in sums.items()
    }


def learn_bank(
    features: Mapping[str, np.ndarray],
    lengths: Mapping[str, int],
    targets: np.ndarray,
    *,
    utterances: Sequence[str],
    emotions: Sequence[str],
    sizes: Sequence[int],
    config: QuantizerConfig,
    means: Callable[[str], Tensor | None],
    normalization: Normalization | None = None,
    clip_code: ClipCode | None = None,
    card: Mapping[str, Any] | None = None,
    held_out: Collection[str] = (),
    expert_sets: Collection[str] | None = None,
    work_dir: str | Path | None = None,
    device: str = "cpu",
) -> CodebookBank:
    """Learn the normalisation and all experts from training clips.

    Parameters
    ----------
    features : mapping of str to (T, D) float32 array
        By utterance, for example a `FeatureStore`.
    lengths : mapping of str to int
    targets : (U, C) array
        Class shares of the training clips.
    utterances : sequence of U str
        The training clips; nothing else is read.
    emotions : sequence of C str
    sizes : sequence of int
        Codebook size of each level.
    config : QuantizerConfig
    means : callable
        Utterance to the mean frame of its speaker, or to None.
    normalization : Normalization, optional
        Learned here when absent.
    clip_code : ClipCode, optional
        Frame codes are learned on what it leaves.
    card : mapping, optional
        Notes kept in the artifact.
    held_out : collection of str, optional
        Clips that take part in the weighting (so that experts mean the same) but not
        in the learning.
    expert sets : collection of str, optional
        Those of the configuration that are learned, all when None; what an expert
        learns from does not depend on it.
    work_dir : str or Path, optional
        For the checkpoint and `learning.jsonl`.
    device : str, default="cpu"

    Returns
    -------
    bank : CodebookBank

    Raises
    ------
    ValueError
        For a class with fewer frames than codewords and the like.
    """
    if normalization is None:
        normalization = fit_bank_normalization(features, utterances, config, means)
    counts = np.array([lengths[u] for u in utterances])
    settings = LearningSettings(**config.learning)
    experts, weights = expert_weights(
        config.expert_sets,
        targets,
        counts,
        emotions=emotions,
        seed=settings.seed,
        equal_budget=config.frame_budget == "equal",
    )
    if expert_sets is not None:
        learned = [
            e for e, name in enumerate(experts) if expert_set_of(name) in expert_sets
        ]
        experts, weights = [experts[e] for e in learned], weights[:, learned]
    left_out = set(held_out)
    kept = np.array([u not in left_out for u in utterances])
    weights = weights * kept[:, None]
    room = config.memory_mb * 2**20
    width = features[utterances[0]].shape[1] + len(experts)  # values and weights
    # EMA shuffles utterances, so its chunks are others in every pass.
    keep = settings.algorithm == "lloyd" and 4 * counts[kept].sum() * width <= room
    clips = NormalizedClips(
        features,
        normalization,
        speaker_means=means,
        memory_bytes=0 if keep else room,
        clip_code=clip_code,
    )
    source = UtteranceSource(
        clips.read,
        dict(zip(utterances, counts.tolist())),
        weights=weights,
        chunk_frames=config.chunk_frames,
        keep=keep,
    )
    logging.info(
        "learning %d experts, K = %s, from %d frames of %d clips",
        len(experts),
        " ".join(map(str, sizes)),
        counts[kept].sum(),
        kept.sum(),
    )
    work = Path(work_dir) if work_dir else None
    codebooks = learn_residual_codebooks(
        source,
        sizes,
        experts=experts,
        settings=settings,
        checkpoint=work and work / "checkpoint.safetensors",
        log_file=work and work / "learning.jsonl",
        device=device,
    )
    notes = {
        "training_utterances": int(kept.sum()),
        "training_frames": int(counts[kept].sum()),
        "learning": vars(settings),
        "frame_budget": config.frame_budget,
        "expert_frames": dict(zip(experts, source.expert_frames().tolist())),
    }
    return CodebookBank(
        experts,
        [codebook.cpu() for codebook in codebooks],
        normalization,
        emotions=emotions,
        card={**notes, **(card or {})},
        clip_code=clip_code,
    )


def fit_bank_normalization(
    features: Mapping[str, np.ndarray],
    utterances: Sequence[str],
    config: QuantizerConfig,
    means: Callable[[str], Tensor | None],
) -> Normalization:
    """Learn the corpus statistics from the training clips."""
    dimension = features[utterances[0]].shape[1]
    read: list[str] = []

    def clips() -> Iterator[tuple[Tensor, Tensor | None]]:
        for utterance in utterances:
            read[:] = [utterance]
            yield torch.from_numpy(features[utterance]), means(utterance)

    try:
        return fit_normalization(config.norm, clips(), dimension=dimension)
    except ValueError as error:
        raise ValueError(f"utterance '{read[0]}': {error}") from error
