"""Exponential moving average learning of residual codebooks (the paper's algorithm)."""

import torch
from torch import Tensor

from emoq_plugin.core.nearest import nearest_codewords, squared_distances
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import FrameSource


def ema_update(
    codebook: Tensor,
    counts: Tensor,
    sums: Tensor,
    *,
    residual: Tensor,
    weights: Tensor,
    codes: Tensor,
    decay: float,
    dead_threshold: float,
    generator: torch.Generator,
) -> tuple[Tensor, int]:
    """Move one codebook by one chunk, then re-seed its dead codewords.

    van den Oord et al. 2017, "Neural discrete representation learning", appendix A.1,
    with frame weights: ``n <- decay n + (1 - decay) sum w``,
    ``m <- decay m + (1 - decay) sum w x``, ``c = m / n``.

    Parameters
    ----------
    codebook : (K, D) Tensor
    counts : (K,) Tensor
        Changed in place.
    sums : (K, D) Tensor
        Changed in place.
    residual : (N, D) Tensor
    weights : (N,) Tensor
        Mean 1.
    codes : (N,) int64 Tensor
    decay : float
    dead_threshold : float
        Codewords with a smaller average count take random frames of the chunk. This
        happens after the averages are applied, so that nothing overwrites it.
    generator : torch.Generator

    Returns
    -------
    codebook : (K, D) Tensor
    n_dead : int
    """
    mass = torch.zeros_like(counts).index_add_(0, codes, weights)
    mean = torch.zeros_like(sums).index_add_(0, codes, residual * weights[:, None])
    counts.mul_(decay).add_(mass, alpha=1 - decay)
    sums.mul_(decay).add_(mean, alpha=1 - decay)
    codebook = sums / counts.clamp_min(1e-12)[:, None]
    dead = (counts < dead_threshold).nonzero().squeeze(1)[: len(residual)]
    if len(dead):
        order = torch.randperm(len(residual), generator=generator)[: len(dead)]
        codebook[dead] = residual[order.to(residual.device)]
        counts[dead] = dead_threshold
        sums[dead] = codebook[dead] * dead_threshold
    return codebook, len(dead)


def ema_epoch(
    source: FrameSource,
    codebooks: list[Tensor],
    averages: list[Tensor],
    *,
    active: list[int],
    settings: LearningSettings,
    epoch: int,
) -> list[list[dict]]:
    """Read the stream once in random order and move all levels of every active expert.

    Parameters
    ----------
    source : FrameSource
        One chunk is one step.
    codebooks : list of L (E, K_l, D) Tensors
        Changed in place.
    averages : list of 2 L Tensors
        Counts (E, K_l) and sums (E, K_l, D) of each level; changed in place.
    active : list of int
    settings : LearningSettings
    epoch : int

    Returns
    -------
    statistics : list over active experts of lists over levels
        Objective, used codewords, perplexity and re-seeded codewords during the epoch.
    """
    device = codebooks[0].device
    generator = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
    usage = [torch.zeros(c.shape[:2], dtype=torch.float64) for c in codebooks]
    distortion = torch.zeros((len(codebooks), len(codebooks[0])), dtype=torch.float64)
    dead = torch.zeros_like(distortion, dtype=torch.long)
    for chunk in source.chunks(order_seed=settings.seed + epoch):
        frames, weights = chunk.frames.to(device), chunk.weights.to(device)
        for e in active:
            rows = weights[:, e].nonzero().squeeze(1)
            if not len(rows):
                continue
            residual, weight = frames[rows], weights[rows, e]
            weight = weight / weight.mean()
            for level, codebook in enumerate(codebooks):
                codes, scores = nearest_codewords(residual, codebook[e])
                far = weight * squared_distances(residual, scores)
                distortion[level, e] += far.sum().double().cpu()
                used = torch.bincount(codes, weights=weight.double())
                usage[level][e, : len(used)] += used.cpu()
                quantized = codebook[e][codes]
                codebook[e], n_dead = ema_update(
                    codebook[e],
                    averages[2 * level][e],
                    averages[2 * level + 1][e],
                    residual=residual,
                    weights=weight,
                    codes=codes,
                    decay=settings.decay,
                    dead_threshold=settings.dead_threshold,
                    generator=generator,
                )
                dead[level, e] += n_dead
                residual = residual - quantized
    statistics = []
    for e in active:
        share = [table[e] / table[e].sum() for table in usage]
        statistics.append(
            [
                {
                    "objective": float(distortion[level, e] / usage[level][e].sum()),
                    "used": int((share[level] > 0).sum()),
                    "perplexity": float(torch.special.entr(share[level]).sum().exp()),
                    "dead": int(dead[level, e]),
                }
                for level in range(len(codebooks))
            ]
        )
    return statistics
