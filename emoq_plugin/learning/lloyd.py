"""Weighted Lloyd k-means for several experts: one pass over the data, one update."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emoq_plugin.core.nearest import SearchTable
from emoq_plugin.learning.portions import LevelCache, Portion
from emoq_plugin.learning.sampling import WeightedReservoir, exponential_of_index
from emoq_plugin.learning.sources import FrameSource

# Elements that are added to the sums at a time.
ACCUMULATED_ELEMENTS = 1 << 19
# Share of frames that moved in the pass before up to which only those that move are
# added again, which takes two sums for one.
FEW_MOVED = 0.4
# Frames drawn after a pass to re-seed dead codewords; more of them wait a pass.
RESEEDS = 64


@dataclass
class PassStatistics:
    """What one pass over the data says of one expert.

    Attributes
    ----------
    sums : (P, K, D) float64 Tensor
        Weighted sum of the frames of each codeword: of one part, or of the high and the
        low part of exact sums.
    mass : (K,) float64 Tensor
        Weight of the frames of each codeword.
    distortion : (1,) float64 Tensor
        Weighted sum of squared distances.
    moved : (1,) float64 Tensor
        Weight of the frames whose codeword is not the one of the pass before.
    length : (1,) float64 Tensor
        Sum of the norms of weighted frames.
    reach : (1,) float64 Tensor
        The largest of these norms.
    """

    sums: Tensor
    mass: Tensor
    distortion: Tensor
    moved: Tensor
    length: Tensor
    reach: Tensor

    @classmethod
    def empty(cls, codebook: Tensor, *, exact: bool = False) -> "PassStatistics":
        """Return statistics of no frames for a (K, D) codebook."""
        n_codes, device = len(codebook), codebook.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        ones = (zeros(1) for _ in range(4))
        return cls(zeros(2 if exact else 1, *codebook.shape), zeros(n_codes), *ones)

    @property
    def objective(self) -> float:
        """Weighted mean of the squared distance of a frame to its codeword."""
        return float(self.distortion / self.mass.sum())

    @property
    def used(self) -> int:
        """Number of codewords that some frame chose."""
        return int((self.mass > 0).sum())

    @property
    def n_dead(self) -> int:
        """Number of codewords that no frame chose."""
        return len(self.mass) - self.used

    @property
    def perplexity(self) -> float:
        """Exponential of the entropy of codeword use."""
        share = self.mass / self.mass.sum()
        return float(torch.exp(torch.special.entr(share).sum()))


def unit_of_sums(statistics: PassStatistics, n_frames: int) -> float:
    """Choose the unit of the high parts of exact sums.

    Float64 holds any sum of multiples of a power of two exactly, if the sum is below
    2^53 of them. What a frame lacks of its high part is its low part, in a unit that
    sums of low parts need.

    Parameters
    ----------
    statistics : PassStatistics
        Of a pass of all processes.
    n_frames : int
        That the pass has summed.

    Returns
    -------
    unit : float
        0 where even the low unit is coarse beside the mean frame: too many frames, or
        some that are far larger than most.
    """
    limit, length = float(statistics.reach) * n_frames, float(statistics.length)
    if not 0 < limit < math.inf or not length < math.inf:
        return 0.0
    unit = 2.0 ** (math.frexp(limit)[1] - 52)
    return unit if _low_unit(unit, n_frames) * n_frames < length * 2.0**-40 else 0.0


def _low_unit(unit: float, n_frames: int) -> float:
    return unit * 2.0 ** (math.frexp(n_frames)[1] - 53)


@dataclass(frozen=True)
class Summation:
    """How the frames of an expert are summed in a pass.

    Attributes
    ----------
    unit : float, default=0.0
        From `unit_of_sums`; 0 sums plain float64.
    n_frames : int, default=0
        Of the expert.
    only_moved : bool, default=False
        The sums hold those of the pass before.
    """

    unit: float = 0.0
    n_frames: int = 0
    only_moved: bool = False

    def parts(self, frames: Tensor) -> Tensor:
        """Split (N, D) float64 frames into what is summed exactly, (P, N, D)."""
        if not self.unit:
            return frames[None]
        parts = frames.new_empty((2, *frames.shape))
        high, low = parts
        # Adding and taking away a large number rounds to its unit.
        large = 1.5 * 2.0**52 * self.unit
        torch.add(frames, large, out=high).sub_(large)
        large = 1.5 * 2.0**52 * _low_unit(self.unit, self.n_frames)
        torch.sub(frames, high, out=low).add_(large).sub_(large)
        return parts


def accumulate(
    statistics: PassStatistics,
    portion: Portion,
    codes: Tensor,
    before: Tensor | None,
    summation: Summation,
) -> None:
    """Add the weighted frames to the sums and masses of their codewords.

    Sums are float64, in short blocks, which keep the conversion in the cache. Exact
    ones have no order: neither chunks nor processes show, nor that only the frames that
    moved were added again.

    Parameters
    ----------
    statistics : PassStatistics
    portion : Portion
        Of N frames.
    codes, before : (N,) int64 Tensors
        Of this pass and of the one before.
    summation : Summation
    """
    frames, n_codes = portion.frames, len(statistics.mass)
    # In float64: bincount adds in the type of the weights.
    weights = None if portion.weights is None else portion.weights.double()
    statistics.mass += torch.bincount(codes, weights, minlength=n_codes)
    if summation.only_moved:
        moved = (codes != before).nonzero().squeeze(1)
        frames, weights = frames[moved], None if weights is None else weights[moved]
        codes, before = codes[moved], before[moved]
    rows = max(1, ACCUMULATED_ELEMENTS // frames.shape[1])
    for start in range(0, len(frames), rows):
        block = slice(start, start + rows)
        exact = frames[block].double()
        if weights is not None:
            exact.mul_(weights[block, None])
        for sums, part in zip(statistics.sums, summation.parts(exact), strict=True):
            sums.index_add_(0, codes[block], part)
            if summation.only_moved:
                sums.index_add_(0, before[block], part, alpha=-1)


def update(
    codebook: Tensor, statistics: PassStatistics, distant: Tensor | None = None
) -> Tensor:
    """Move every codeword to its mean; re-seed the dead ones with distant frames.

    Parameters
    ----------
    codebook : (K, D) Tensor
    statistics : PassStatistics
        Of a pass with this codebook.
    distant : (R, D) Tensor, optional
        From `draw_distant`; dead codewords beyond them stay as they are.

    Returns
    -------
    codebook : (K, D) Tensor
        Dead codewords are set after the means are in place, so that nothing overwrites
        them.
    """
    alive = statistics.mass > 0
    means = statistics.sums.sum(dim=0) / statistics.mass.clamp_min(1e-300)[:, None]
    codebook = torch.where(alive[:, None], means.to(codebook.dtype), codebook)
    if distant is not None:
        dead = (~alive).nonzero().squeeze(1)
        distinct = _first_distinct(distant)[: len(dead)]
        codebook[dead[: len(distinct)]] = distant[distinct].to(codebook.dtype)
    return codebook


def _first_distinct(frames: Tensor) -> Tensor:
    """Return the positions of the first occurrence of every distinct row, in order."""
    _, group = torch.unique(frames, dim=0, return_inverse=True)
    position = torch.arange(len(frames), device=frames.device)
    first = torch.full_like(position, len(frames))
    first.scatter_reduce_(0, group, position, "amin")
    return first[first < len(frames)].sort().values


def lloyd_pass(
    source: FrameSource,
    previous: list[Tensor],
    codebook: Tensor,
    *,
    active: list[int],
    cache: LevelCache,
    units: Sequence[float] | None = None,
) -> dict[int, PassStatistics]:
    """Read the stream once and gather the statistics of every active expert.

    A frame is searched only in the codebooks of experts that give it weight.

    Parameters
    ----------
    source : FrameSource
    previous : list of l (E, K, D) Tensors
        Codebooks of the levels before this one; their residual is quantized.
    codebook : (E, K_l, D) Tensor
    active : list of int
        Experts that still learn.
    cache : LevelCache
    units : sequence of E float, optional
        Of the sums, from `unit_of_sums` of the first pass over the level.

    Returns
    -------
    statistics : dict of int to PassStatistics
    """
    level = len(previous)
    cache.begin_pass(previous, {e: SearchTable.of(codebook[e]) for e in active})
    result, summations = {}, {}
    for e, n_frames in enumerate(source.expert_frames().tolist()):
        if e not in active:
            continue
        unit = units[e] if units else 0.0
        result[e] = PassStatistics.empty(codebook[e], exact=unit > 0)
        few = e in cache.sums and cache.moved[e] < FEW_MOVED
        summations[e] = Summation(unit, n_frames, only_moved=few)
        if few:
            result[e].sums = cache.sums[e]
    for number, chunk in enumerate(source.chunks()):
        for e, portion in cache.portions(number, chunk, active):
            before = cache.get(number, e, level)
            codes, scores = cache.pruning.search(
                portion.frames, before, expert=e, chunk=number
            )
            accumulate(result[e], portion, codes, before, summations[e])
            _count(
                result[e], portion, scores, None if before is None else codes != before
            )
            cache.put(number, e, level, codes)
    for e, statistics in result.items():
        mass = float(statistics.mass.sum())
        cache.moved[e] = float(statistics.moved) / mass if mass else 0.0
        if summations[e].unit:  # of this process alone
            cache.sums[e] = statistics.sums
    return result


def _count(
    statistics: PassStatistics, portion: Portion, scores: Tensor, moved: Tensor | None
) -> None:
    """Add what else is known of the frames of a portion."""
    norms = portion.norms
    distances = norms.square().sub_(scores, alpha=2.0).clamp_min_(0)
    statistics.distortion += portion.total(distances)
    statistics.moved += portion.total(moved)
    statistics.length += portion.total(norms)
    if portion.weights is not None:
        norms = norms * portion.weights
    torch.maximum(statistics.reach, norms.max(), out=statistics.reach)


def draw_distant(
    source: FrameSource,
    codebook: Tensor,
    *,
    experts: list[int],
    cache: LevelCache,
    seed: int,
) -> dict[int, WeightedReservoir]:
    """Draw frames in proportion to their weighted distortion in the pass before.

    Parameters
    ----------
    source : FrameSource
    codebook : (E, K_l, D) Tensor
        That of the pass.
    experts : list of int
        Those that have dead codewords.
    cache : LevelCache
        That of the pass.
    seed : int

    Returns
    -------
    drawn : dict of int to WeightedReservoir
    """
    size = min(codebook.shape[1], RESEEDS)
    drawn = {e: WeightedReservoir(size) for e in experts}
    for number, chunk in enumerate(source.chunks()):
        waits = exponential_of_index(chunk.index, seed)
        for e, portion in cache.portions(number, chunk, experts):
            codes = cache.get(number, e, cache.level)
            away = portion.frames - codebook[e].index_select(0, codes)
            distances = away.square_().sum(dim=1)
            if portion.weights is not None:
                distances *= portion.weights
            rows = portion.rows
            drawn[e].add(
                portion.frames, distances, waits if rows is None else waits[rows.cpu()]
            )
    return drawn
