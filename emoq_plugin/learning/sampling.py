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
        self.keys = torch.empty(0, dtype=torch.float64)
        self.frames: Tensor | None = None
        self.weights = torch.empty(0, dtype=torch.float64)

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
        bound = self.keys[-1] if len(self.keys) == self.size else torch.inf
        chosen = (keys < bound).nonzero().squeeze(1)
        if len(chosen) > self.size:
            chosen = chosen[keys[chosen].topk(self.size, largest=False).indices]
        if len(chosen):
            picked = frames[chosen.to(frames.device)]
            self.merge(keys[chosen], picked, weights[chosen])

    def merge(self, keys: Tensor, frames: Tensor, weights: Tensor) -> None:
        """Join a sample (of another process, say) with this one."""
        if self.frames is not None:
            keys = torch.cat([self.keys, keys])
            frames = torch.cat([self.frames, frames])
            weights = torch.cat([self.weights, weights])
        order = keys.argsort(stable=True)[: self.size]
        self.keys, self.weights = keys[order], weights[order]
        self.frames = frames[order.to(frames.device)]
