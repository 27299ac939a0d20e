"""Weighted Lloyd k-means for several experts: one pass over the data, one update."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from emoq_plugin.core.nearest import (
    SearchTable,
    nearest_codewords,
    squared_distances,
)
from emoq_plugin.learning.pruning import Pruning
from emoq_plugin.learning.sampling import WeightedReservoir, exponential_of_index
from emoq_plugin.learning.sources import FrameSource

# Elements that are added to the sums at a time.
ACCUMULATED_ELEMENTS = 1 << 19
# Frames kept in a pass to re-seed dead codewords; more of them wait a pass.
RESEEDS = 64


@dataclass
class PassStatistics:
    """What one pass over the data says of one expert.

    Attributes
    ----------
    sums : (K, D) float64 Tensor
        Weighted sum of the frames of each codeword.
    mass : (K,) float64 Tensor
        Weight of the frames of each codeword.
    distortion : (1,) float64 Tensor
        Weighted sum of squared distances.
    moved : (1,) float64 Tensor
        Weight of the frames whose codeword is not the one of the pass before.
    far : WeightedReservoir
        Frames drawn in proportion to their weighted distortion, to re-seed dead codes.
    """

    sums: Tensor
    mass: Tensor
    distortion: Tensor
    moved: Tensor
    far: WeightedReservoir

    @classmethod
    def empty(cls, codebook: Tensor) -> "PassStatistics":
        """Return statistics of no frames for a (K, D) codebook."""
        n_codes, device = len(codebook), codebook.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return cls(
            zeros(*codebook.shape),
            zeros(n_codes),
            zeros(1),
            zeros(1),
            WeightedReservoir(min(n_codes, RESEEDS)),
        )

    @property
    def objective(self) -> float:
        """Weighted mean of the squared distance of a frame to its codeword."""
        return float(self.distortion / self.mass.sum())

    @property
    def used(self) -> int:
        """Number of codewords that some frame chose."""
        return int((self.mass > 0).sum())

    @property
    def perplexity(self) -> float:
        """Exponential of the entropy of codeword use."""
        share = self.mass / self.mass.sum()
        return float(torch.exp(torch.special.entr(share).sum()))


def accumulate(
    statistics: PassStatistics, frames: Tensor, weights: Tensor, codes: Tensor
) -> None:
    """Add the weighted frames to the sums and masses of their codewords.

    Sums are float64 throughout, so that neither the size of the chunks nor the number
    of processes shows in the codebooks; short blocks keep the conversion in the cache.

    Parameters
    ----------
    statistics : PassStatistics
    frames : (N, D) float32 Tensor
    weights : (N,) float32 Tensor
    codes : (N,) int64 Tensor
    """
    weights, weighted = weights.double(), not bool((weights == 1).all())
    rows = max(1, ACCUMULATED_ELEMENTS // frames.shape[1])
    parts = (t.split(rows) for t in (frames, weights, codes))
    for block, weight, code in zip(*parts):
        exact = block.double()
        if weighted:
            exact.mul_(weight[:, None])
        statistics.sums.index_add_(0, code, exact)
    n_codes = len(statistics.mass)
    statistics.mass += torch.bincount(codes, weights, minlength=n_codes)


def update(codebook: Tensor, statistics: PassStatistics) -> tuple[Tensor, int]:
    """Move every codeword to its mean; re-seed the dead ones with distant frames.

    Parameters
    ----------
    codebook : (K, D) Tensor
    statistics : PassStatistics
        Of a pass with this codebook.

    Returns
    -------
    codebook : (K, D) Tensor
    n_dead : int
        Codewords that no frame had chosen. They are set to frames drawn in proportion
        to distortion after the means are in place, so that nothing overwrites them.
    """
    alive = statistics.mass > 0
    means = statistics.sums / statistics.mass.clamp_min(1e-300)[:, None]
    codebook = torch.where(alive[:, None], means.to(codebook.dtype), codebook)
    dead = (~alive).nonzero().squeeze(1)
    far = statistics.far.frames
    if len(dead) and far is not None:
        distinct = _first_distinct(far)[: len(dead)]
        codebook[dead[: len(distinct)]] = far[distinct].to(codebook.dtype)
    return codebook, len(dead)


def _first_distinct(frames: Tensor) -> Tensor:
    """Return the positions of the first occurrence of every distinct row, in order."""
    _, group = torch.unique(frames, dim=0, return_inverse=True)
    position = torch.arange(len(frames), device=frames.device)
    first = torch.full_like(position, len(frames))
    first.scatter_reduce_(0, group, position, "amin")
    return first[first < len(frames)].sort().values


@dataclass
class CodeCache:
    """Codes of each chunk and expert for the levels so far: 2 bytes a code.

    Spares a pass the search in all earlier levels; where an entry is missing (after a
    resume) it is computed again, with the same result.

    Attributes
    ----------
    codes : dict of (chunk, expert, level) to Tensor
    pruning : Pruning
        What spares the first level most of its search from the second pass on.
    """

    codes: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)
    pruning: Pruning = field(default_factory=Pruning)

    def count(self, level: int) -> int:
        """Count the codes of a level."""
        return sum(len(c) for key, c in self.codes.items() if key[2] == level)

    def get(self, chunk: int, expert: int, level: int) -> Tensor | None:
        """Return the (N,) int64 codes, or None."""
        found = self.codes.get((chunk, expert, level))
        return None if found is None else found.long()

    def put(self, chunk: int, expert: int, level: int, codes: Tensor) -> None:
        """Keep (N,) codes; those of an earlier pass are replaced."""
        small = torch.int16 if codes.numel() and codes.max() < 2**15 else torch.int32
        self.codes[chunk, expert, level] = codes.to(small)

    def forget(self, level: int) -> None:
        """Drop the codes of a level whose codebooks have changed."""
        self.codes = {key: c for key, c in self.codes.items() if key[2] != level}
        self.pruning = Pruning()


def lloyd_pass(
    source: FrameSource,
    previous: list[Tensor],
    codebook: Tensor,
    *,
    active: list[int],
    cache: CodeCache,
    seed: int,
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
    cache : CodeCache
    seed : int
        Of the draw of frames that may re-seed dead codewords.

    Returns
    -------
    statistics : dict of int to PassStatistics
    """
    level, device = len(previous), codebook.device
    tables = [
        {e: SearchTable.of(level_tables[e]) for e in active}
        for level_tables in [*previous, codebook]
    ]
    pruning = Pruning(settled=True) if previous else cache.pruning
    pruning.begin_pass(tables[level], cache.count(level))
    result = {e: PassStatistics.empty(codebook[e]) for e in active}
    for number, chunk in enumerate(source.chunks()):
        frames, weights = chunk.frames.to(device), chunk.weights.to(device)
        waits = exponential_of_index(chunk.index, seed)
        for e in active:
            rows = weights[:, e].nonzero().squeeze(1)
            if not len(rows):
                continue
            whole = len(rows) == len(frames)
            residual = frames if whole else frames.index_select(0, rows)
            weight = weights[:, e] if whole else weights[:, e].index_select(0, rows)
            for lower, table in enumerate(previous):
                codes = cache.get(number, e, lower)
                if codes is None:
                    codes, _ = nearest_codewords(residual, tables[lower][e])
                    cache.put(number, e, lower, codes)
                residual = residual - table[e].index_select(0, codes)
            before = cache.get(number, e, level)
            codes, scores = pruning.search(
                residual, before, expert=e, chunk=number, frames=frames, rows=rows
            )
            distances = weight * squared_distances(residual, scores)
            changed = weight if before is None else weight * (codes != before)
            cache.put(number, e, level, codes)
            statistics = result[e]
            accumulate(statistics, residual, weight, codes)
            statistics.distortion += distances.sum(dtype=torch.float64)
            statistics.moved += changed.sum(dtype=torch.float64)
            statistics.far.add(
                residual, distances, waits if whole else waits[rows.cpu()]
            )
    return result
