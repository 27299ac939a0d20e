"""What routers learn from: training clips, their shares, and a bank."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.core.bank import CodebookBank, places_of_classes
from emoq_plugin.core.batch_encoding import batch_encoding, masked_pool


@dataclass
class FittedRouter:
    """What a router has learned.

    Attributes
    ----------
    parameters : dict of str to Tensor
    held_out : (N, C) float64 array, optional
        Speaker-held-out posteriors of the training clips.
    """

    parameters: dict[str, Tensor]
    held_out: np.ndarray | None = None


@dataclass
class RouterTraining:
    """Training clips, for `Router.fit`.

    Attributes
    ----------
    read : callable
        Gives the normalised features of N clips, (T, D) Tensors, from the first clip
        on whenever it is called.
    targets : (N, C) array
        Class shares, rows sum to one.
    speakers : sequence of N str
    n_frames : int
        Of all clips together.
    frame_rate_hz : float
    read_left : callable, optional
        As `read`, what the clip code of the bank leaves of them; `read` without one.
    bank : CodebookBank, optional
        Whose codes routers may ask for; routers that are `shared` are fitted without.
    expert_set : str
        One expert a class.
    depth : int
        Levels that routers look at.
    settings : mapping of str to Any
        By router.
    """

    read: Callable[[], Iterable[Tensor]]
    targets: np.ndarray
    speakers: Sequence[str]
    n_frames: int
    frame_rate_hz: float
    read_left: Callable[[], Iterable[Tensor]] | None = None
    bank: CodebookBank | None = None
    expert_set: str = "specific"
    depth: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    def pooled(self) -> Tensor:
        """Mean and deviation over time of the clips, (N, 2 D)."""
        return self._of_bank[0]

    def distortions(self) -> Tensor:
        """Distortion of each clip by the expert of each class, (N, C)."""
        return self._of_bank[1]

    def _clips(self) -> Iterable[tuple[Tensor, Tensor]]:
        if self.read_left is None:
            return ((frames, frames) for frames in self.read())
        return zip(self.read(), self.read_left(), strict=True)

    @cached_property
    def _of_bank(self) -> tuple[Tensor, Tensor]:
        bank = self.bank.of_what_is_left()
        experts = bank.expert_set(self.expert_set)
        places = [
            bank.experts.index(experts[p])
            for p in places_of_classes(experts, bank.emotions)
        ]
        pooled, distortions = [], []
        for frames, left in self._clips():
            every = torch.ones(1, len(frames), dtype=torch.bool)
            pooled.append(masked_pool(frames[None], every))
            clip = batch_encoding(bank, left[None])
            distortions.append(clip.distortion(places, self.depth))
        return torch.cat(pooled), torch.cat(distortions)
