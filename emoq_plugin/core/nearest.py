"""Nearest codewords: the inner product kernel that learning and encoding share."""

import torch
from torch import Tensor

# Elements of a block of the score table: 4 MB of float32.
TABLE_ELEMENTS = 1 << 20
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)


def half_squared_norms(codebook: Tensor) -> Tensor:
    """Return ``0.5 * ||c_k||^2``.

    Parameters
    ----------
    codebook : (K, D) Tensor

    Returns
    -------
    half_norms : (K,) Tensor
    """
    return 0.5 * codebook.square().sum(dim=-1)


def score_table(frames: Tensor, codebook: Tensor, half_norms: Tensor) -> Tensor:
    """Compute ``<x_n, c_k> - 0.5 ||c_k||^2`` for all pairs, (N, K) float32.

    On a CPU the product goes to oneDNN, whose float32 kernels were 2.1 to 2.3 times
    as fast as those behind `torch.addmm` (MKL) on an AMD processor, see
    docs/performance.md; elsewhere, or where torch lacks it, `torch.addmm` computes the
    same.
    """
    if _ONEDNN and frames.device.type == "cpu" and frames.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(
            frames, codebook, -half_norms, "none", [], ""
        )
    return torch.addmm(half_norms, frames, codebook.T, beta=-1.0)


def nearest_codewords(
    frames: Tensor, codebook: Tensor, *, half_norms: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the codeword of smallest squared Euclidean distance for every frame.

    ``argmin_k ||x - c_k||^2 = argmax_k <x, c_k> - 0.5 ||c_k||^2``, so the work is a
    matrix product, done in blocks whose score table stays in the cache; no (N, K, D)
    tensor and no full (N, K) matrix exists. The lowest index wins a tie.

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
    rows = max(256, TABLE_ELEMENTS // len(codebook))
    parts = [
        score_table(block, codebook, half_norms).max(dim=1)
        for block in frames.split(rows)
    ]
    if len(parts) == 1:
        return parts[0].indices, parts[0].values
    return torch.cat([p.indices for p in parts]), torch.cat([p.values for p in parts])


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
    norms = frames.square().sum(dim=1)
    return norms.sub_(scores, alpha=2.0).clamp_min_(0)
