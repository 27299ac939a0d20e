"""From training clips to a complete bank: codebooks of all experts, and all routers."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.core.bank import CodebookBank, member
from emoq_plugin.core.clip_code import ClipCode
from emoq_plugin.core.clip_statistics import (
    clip_statistics,
    count_windows,
    cut_windows,
    window_frames,
)
from emoq_plugin.core.normalization import Normalization
from emoq_plugin.files import errors_of
from emoq_plugin.learning.clip_code import fit_clip_code
from emoq_plugin.learning.distributed import alone
from emoq_plugin.learning.fit_bank import (
    NormalizedClips,
    QuantizerConfig,
    fit_bank_normalization,
    learn_bank,
    speaker_means,
)
from emoq_plugin.routing.base import routers
from emoq_plugin.routing.fit_calibrated import CalibratedSettings
from emoq_plugin.routing.training import RouterTraining


@dataclass
class TrainingClips:
    """Training clips and what all banks that are learned from them share.

    Stage 4 and `EmoQuantizer.fit` learn by it.

    Parameters
    ----------
    features : mapping of str to (T, D) float32 array
        By utterance; read again in every pass, for example a `FeatureStore`.
    lengths : mapping of str to int
    utterances : sequence of U str
        The training clips; nothing else is read.
    targets : (U, C) array
        Class shares, rows sum to one.
    emotions : sequence of C str
    speaker : mapping of str to str
        Speaker by utterance.
    config : QuantizerConfig
    frame_rate_hz : float
    card : mapping, optional
        Kept in the artifact.
    device : str, default="cpu"
    """

    features: Mapping[str, np.ndarray]
    lengths: Mapping[str, int]
    utterances: Sequence[str]
    targets: np.ndarray
    emotions: Sequence[str]
    speaker: Mapping[str, str]
    config: QuantizerConfig
    frame_rate_hz: float
    card: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._clip_codes: dict[tuple, ClipCode] = {}

    @property
    def speakers(self) -> list[str]:
        """The training speakers, sorted."""
        return sorted({self.speaker[u] for u in self.utterances})

    @cached_property
    def means(self) -> Callable[[str], Tensor | None]:
        """Utterance to the mean frame of its speaker, where the normalisation asks."""
        if self.config.norm != "speaker":
            return lambda utterance: None
        found = speaker_means(self.features, self.speaker)
        return lambda utterance: found[self.speaker[utterance]]

    @cached_property
    def normalization(self) -> Normalization:
        """Learned from the training clips."""
        return fit_bank_normalization(
            self.features, self.utterances, self.config, self.means
        )

    def of(self, speakers: Collection[str]) -> set[str]:
        """Return the clips of some speakers."""
        return {u for u in self.utterances if self.speaker[u] in speakers}

    def learn(
        self,
        sizes: Sequence[int],
        *,
        work_dir: Path | None = None,
        without: Collection[str] = (),
        clip_code: ClipCode | None = None,
        expert_sets: Sequence[str] | None = None,
    ) -> CodebookBank:
        """Learn the codebooks of a bank.

        Parameters
        ----------
        sizes : sequence of int
            Codebook size of each level.
        work_dir : Path, optional
            For the checkpoint and the log.
        without : collection of str, optional
            Speakers whose clips are left out.
        clip_code : ClipCode, optional
            From `learn_clip_code`; frame codes are learned on what it leaves.
        expert_sets : sequence of str, optional
            Of the configuration; all when None.
        """
        split = {
            "training_speakers": sorted(set(self.speakers) - set(without)),
            "held_out_speakers": sorted(without),
        }
        return learn_bank(
            self.features,
            self.lengths,
            self.targets,
            utterances=self.utterances,
            emotions=self.emotions,
            sizes=sizes,
            config=self.config,
            means=self.means,
            normalization=self.normalization,
            clip_code=clip_code,
            card={**self.card, **split},
            held_out=self.of(without),
            expert_sets=expert_sets,
            work_dir=work_dir,
            device=self.device,
        )

    def learn_clip_code(
        self,
        n_bits: int,
        *,
        without: Collection[str] = (),
    ) -> ClipCode:
        """Learn a clip code of the normalised training clips.

        By `clip_window`, `clip_aware` and `clip_code` of the configuration. The same
        one for the same bits and speakers, so it is learned once.

        Parameters
        ----------
        n_bits : int
            Of a clip, or of a window.
        without : collection of str, optional
            Speakers whose clips are left out.

        Raises
        ------
        ValueError
            See `learning.clip_code.fit_clip_code` and `clip_statistics.window_frames`.
        """
        key = (n_bits, *sorted(without))
        if key not in self._clip_codes:
            beside = f"without speakers {' '.join(sorted(without))}" if without else ""
            # Every process has all clips.
            with alone(), errors_of(f"clip code{beside and f' {beside}'}"):
                self._clip_codes[key] = self._learn_clip_code(n_bits, without)
        return self._clip_codes[key]

    def _learn_clip_code(self, n_bits: int, without: Collection[str]) -> ClipCode:
        config = self.config
        settings, window = config.clip_code_settings, config.clip_window
        frames = None if window is None else window_frames(window, self.frame_rate_hz)
        left_out = self.of(without)
        rows = [n for n, u in enumerate(self.utterances) if u not in left_out]
        lengths = torch.tensor([self.lengths[self.utterances[n]] for n in rows])
        step = -(-int(count_windows(lengths, frames).sum()) // settings.max_clips)
        statistics, shares = [], []
        for n in rows[::step]:  # no more are held than are learned from
            name = self.utterances[n]
            with errors_of(f"utterance '{name}'"):
                # A copy: a clip of a temporary file is mapped, not read.
                raw = torch.from_numpy(np.array(self.features[name]))
                clip = self.normalization(raw, self.means(name), sent=True)
            found = clip_statistics(*cut_windows(clip[None], None, frames))
            statistics.append(found)
            shares.append(np.repeat(self.targets[n : n + 1], len(found), axis=0))
        return fit_clip_code(
            torch.cat(statistics),
            np.concatenate(shares) if config.clip_aware else None,
            n_bits=n_bits,
            window=frames,
            settings=settings,
        )

    def fit_routers(
        self, bank: CodebookBank, *, depth: int, without: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Fit the routers that look at the codes of one bank."""
        expert_set = one_expert_a_class(bank)
        if expert_set is None:
            return {}
        left_out = self.of(without)
        seen = [u for u in self.utterances if u not in left_out]
        training = self._training(seen)
        training.bank, training.expert_set, training.depth = bank, expert_set, depth
        if bank.clip_code is not None:
            training.read_left = self._reader(seen, bank.clip_code)
        return fit_routers(training, shared=False)[0]

    def fit_shared_routers(self) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
        """Fit the routers that look at features alone: the same for all banks.

        Returns
        -------
        parameters : dict of str to Tensor
        held_out : dict of str to (U, C) array
            Speaker-held-out posteriors of the training clips, by router.
        """
        # A class without any clip is refused by the learning of the bank.
        if not self.config.has_classes or not self.targets.any(axis=0).all():
            return {}, {}
        training = self._training(self.utterances)
        return fit_routers(training, shared=True)

    def _training(self, utterances: Sequence[str]) -> RouterTraining:
        row = {u: n for n, u in enumerate(self.utterances)}
        return RouterTraining(
            self._reader(utterances),
            self.targets[[row[u] for u in utterances]],
            [self.speaker[u] for u in utterances],
            n_frames=sum(self.lengths[u] for u in utterances),
            frame_rate_hz=self.frame_rate_hz,
            settings={
                "calibrated": CalibratedSettings.read(
                    self.config.calibrated, "calibrated"
                )
            },
        )

    def _reader(
        self, utterances: Sequence[str], clip_code: ClipCode | None = None
    ) -> Callable[[], Iterator[Tensor]]:
        clips = NormalizedClips(
            self.features,
            self.normalization,
            speaker_means=self.means,
            memory_bytes=self.config.memory_mb * 2**20,
            clip_code=clip_code,
        )
        return lambda: (torch.from_numpy(f) for _, f in clips.read(utterances))


def one_expert_a_class(bank: CodebookBank) -> str | None:
    """Return the first expert set whose experts are the classes; None without one."""
    for name in bank.expert_sets:
        if [member(e) for e in bank.expert_set(name)] == bank.emotions:
            return name
    return None


def fit_routers(
    training: RouterTraining, *, shared: bool
) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """Fit all routers that learn.

    Parameters
    ----------
    training : RouterTraining
    shared : bool
        Those that look at features alone, or the others, which look at the bank.

    Returns
    -------
    parameters : dict of str to Tensor
        For `CodebookBank.router_parameters`: ``<router>.<name>``.
    held_out : dict of str to (N, C) array
        Speaker-held-out posteriors of the training clips, by router.
    """
    parameters, held_out = {}, {}
    for name, router in routers().items():
        if router.shared is not shared or (fitted := router.fit(training)) is None:
            continue
        parameters |= {f"{name}.{key}": v for key, v in fitted.parameters.items()}
        if fitted.held_out is not None:
            held_out[name] = fitted.held_out
    return parameters, held_out
