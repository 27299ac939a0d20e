"""Weighted samples of a stream, drawn by the frames' positions."""

import numpy as np
import torch
from torch import Tensor


def uniform_of_index(index: np.ndarray, seed: int) -> np.ndarray:
    """Hash positions to uniform numbers, so that any chunking draws the same ones.

    SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators") over ``index`` with a stream chosen by ``seed``.

    Parameters
    ----------
    index : (N,) integer array
        Positions of frames in the whole stream.
    seed : int

    Returns
    -------
    uniform : (N,) float64 array
        In the open interval (0, 1).
    """
    with np.errstate(over="ignore"):
        state = index.astype(np.uint64) + np.uint64((seed * 0x632BE59BD9B4E019) % 2**64)
        state = (state + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def exponential_of_index(index: np.ndarray, seed: int) -> Tensor:
    """Hash positions to ``-log(u)``, (N,) float64: standard exponential numbers."""
    return torch.from_numpy(uniform_of_index(index, seed)).log_().neg_()


class WeightedReservoir:
    """Weighted sample without replacement of a stream, for one expert.

    Every frame gets the key ``-log(u) / w``; the `size` smallest keys are kept
    (Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir"). A frame
    of weight zero is never drawn.

    Parameters
    ----------
    size : int
        Frames to keep.
    """

    def __init__(self, size: int):
        self.size = size
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self._waiting = 0
        self._bound = torch.inf  # no frame with a larger key can be kept

    def add(self, frames: Tensor, weights: Tensor, exponentials: Tensor) -> None:
        """Offer frames to the sample.

        Parameters
        ----------
        frames : (N, D) Tensor
        weights : (N,) Tensor
            Not negative.
        exponentials : (N,) float64 Tensor
            What `exponential_of_index` gives for the frames' positions.
        """
        weights = weights.detach().to("cpu", torch.float64)
        keys = exponentials / weights  # infinite where the weight is zero
        chosen = (keys < self._bound).nonzero().squeeze(1)
        if len(chosen) > self.size:
            chosen = chosen[keys[chosen].topk(self.size, largest=False).indices]
        if len(chosen):
            picked = frames.index_select(0, chosen.to(frames.device))
            self.merge(keys[chosen], picked, weights[chosen])

    def merge(self, keys: Tensor, frames: Tensor, weights: Tensor) -> None:
        """Join a sample (of another process, say) with this one."""
        self._parts.append((keys, frames, weights))
        self._waiting += len(keys)
        # Sorting costs a copy of the frames, so it waits until it pays.
        if self._waiting > 2 * self.size or (
            self._bound == torch.inf and self._waiting >= self.size
        ):
            self._settle()

    def clear(self) -> None:
        """Forget all frames."""
        self._parts, self._waiting, self._bound = [], 0, torch.inf

    def _settle(self) -> None:
        if len(self._parts) == 0 or self._waiting == 0:
            return
        keys, frames, weights = (torch.cat(column) for column in zip(*self._parts))
        order = keys.argsort(stable=True)[: self.size]
        kept = frames.index_select(0, order.to(frames.device))
        self._parts = [(keys[order], kept, weights[order])]
        self._waiting = len(order)
        if len(order) == self.size:
            self._bound = float(keys[order[-1]])

    @property
    def sample(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Keys (S,), frames (S, D) (None while there are none) and weights (S,)."""
        self._settle()
        if not self._parts:
            empty = torch.empty(0, dtype=torch.float64)
            return empty, None, empty
        return self._parts[0]

    @property
    def keys(self) -> Tensor:
        """Keys of the frames kept, ascending, (S,) float64."""
        return self.sample[0]

    @property
    def frames(self) -> Tensor | None:
        """Frames kept, by ascending key, (S, D); None while there are none."""
        return self.sample[1]

    @property
    def weights(self) -> Tensor:
        """Weights of the frames kept, (S,) float64."""
        return self.sample[2]
