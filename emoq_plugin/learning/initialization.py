"""First codebooks: k-means++ or random frames, from a weighted sample of the stream."""

import math

import torch
from torch import Tensor

from emoq_plugin.core.nearest import score_table

# Squared distances below this share of the norms are rounding, that is, zero.
_ROUNDING = 1e-6


def random_codebook(frames: Tensor, n_codes: int) -> Tensor:
    """Take the first `n_codes` distinct frames of a sample that is in random order.

    Parameters
    ----------
    frames : (S, D) Tensor
        From `WeightedReservoir`, whose order is random.
    n_codes : int

    Returns
    -------
    codebook : (n_codes, D) Tensor

    Raises
    ------
    ValueError
        If the sample has fewer distinct frames.
    """
    _, inverse = torch.unique(frames, dim=0, return_inverse=True)
    seen: set[int] = set()
    first = [
        i for i, g in enumerate(inverse.tolist()) if not (g in seen or seen.add(g))
    ]
    if len(first) < n_codes:
        raise ValueError(_too_few(len(first), n_codes))
    return frames[first[:n_codes]].clone()


def k_means_plus_plus(
    frames: Tensor, n_codes: int, *, seed: int, weights: Tensor | None = None
) -> Tensor:
    """Choose spread-out frames: greedy k-means++.

    Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding": each
    next codeword is drawn with probability proportional to its weighted squared
    distance to the nearest one so far; of ``2 + log K`` draws the best is kept.

    Parameters
    ----------
    frames : (S, D) float32 Tensor
    n_codes : int
    seed : int
    weights : (S,) Tensor, optional

    Returns
    -------
    codebook : (n_codes, D) Tensor

    Raises
    ------
    ValueError
        If there are fewer distinct frames than codewords.
    """
    generator = torch.Generator().manual_seed(seed)
    if weights is None:
        weights = torch.ones(len(frames))
    weights = weights.to(frames.device, torch.float64)
    norms = frames.square().sum(dim=1)  # (S,)

    def draw(mass: Tensor, count: int) -> Tensor:
        below = mass.cumsum(0)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        spots = torch.searchsorted(below, uniform.to(mass.device) * below[-1])
        return spots.clamp_max(len(mass) - 1)

    def distances(picked: Tensor) -> Tensor:
        pair = norms[:, None] + norms[picked]  # (S, trials)
        scores = score_table(frames, frames[picked], 0.5 * norms[picked])
        squared = norms[:, None] - 2 * scores
        return torch.where(squared > _ROUNDING * pair, squared, 0.0)

    trials = 2 + int(math.log(n_codes))
    chosen = [draw(weights, 1)]
    closest = distances(chosen[0])[:, 0]
    while len(chosen) < n_codes:
        mass = closest * weights
        if not mass.sum() > 0:
            raise ValueError(_too_few(len(chosen), n_codes))
        picked = draw(mass, trials)
        nearer = torch.minimum(closest[:, None], distances(picked))  # (S, trials)
        best = (nearer * weights[:, None]).sum(dim=0).argmin()
        chosen.append(picked[best : best + 1])
        closest = nearer[:, best]
        closest[picked[best]] = 0.0
    return frames[torch.cat(chosen)].clone()


def _too_few(found: int, wanted: int) -> str:
    return (
        f"only {found} distinct frames for a codebook of {wanted} codewords: "
        f"lower the codebook size to {found} or less, or add data"
    )
