"""Nearest codewords: the inner product kernel that learning and encoding share."""

import torch
from torch import Tensor


def half_squared_norms(codebook: Tensor) -> Tensor:
    """Give ``0.5 * ||c_k||^2``.

    Parameters
    ----------
    codebook : (K, D) Tensor

    Returns
    -------
    half_norms : (K,) Tensor
    """
    return 0.5 * codebook.square().sum(dim=-1)


def nearest_codewords(
    frames: Tensor, codebook: Tensor, *, half_norms: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the codeword of smallest squared Euclidean distance for every frame.

    ``argmin_k ||x - c_k||^2 = argmax_k <x, c_k> - 0.5 ||c_k||^2``, so the work is one
    matrix product and no (N, K, D) tensor exists. The lowest index wins a tie.

    Parameters
    ----------
    frames : (N, D) float32 Tensor
    codebook : (K, D) float32 Tensor
    half_norms : (K,) Tensor, optional
        What `half_squared_norms` gives, when it is at hand.

    Returns
    -------
    codes : (N,) int64 Tensor
    scores : (N,) float32 Tensor
        ``<x, c> - 0.5 ||c||^2`` of the winner; the squared distance is
        ``||x||^2 - 2 * score``.
    """
    if half_norms is None:
        half_norms = half_squared_norms(codebook)
    table = torch.addmm(half_norms, frames, codebook.T, beta=-1.0)  # (N, K)
    scores, codes = table.max(dim=1)
    return codes, scores


def squared_distances(frames: Tensor, scores: Tensor) -> Tensor:
    """Turn winning scores into squared distances, not below zero.

    Parameters
    ----------
    frames : (N, D) Tensor
    scores : (N,) Tensor
        From `nearest_codewords`.

    Returns
    -------
    distances : (N,) Tensor
    """
    return (frames.square().sum(dim=1) - 2 * scores).clamp_min_(0)
