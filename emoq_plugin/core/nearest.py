"""Nearest codewords: the search that learning and encoding share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from emoq_plugin.core.bounds import (
    candidates,
    decide,
    low_codewords,
    low_columns,
    norms_of,
    pair_scores,
    refuse_not_finite,
    score_error,
    search_in_float64,
    sort_keys,
)
from emoq_plugin.devices import has_bfloat16

# Bytes of a block of the score table.
TABLE_BYTES = 1 << 22
# Elements of a codebook from which bounds spare more than they cost.
BOUNDED_ELEMENTS = 1 << 18
# Comparing one pair of frame and codeword costs as much as a search of so many.
PAIR = 24
# So few pairs of a frame are compared one by one, however small the codebook.
FEW = 8
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
    """Compute ``<x_n, c_k> - 0.5 ||c_k||^2`` for all pairs, (N, K), in frames' type.

    On a CPU the product goes to oneDNN, whose float32 kernels were 2.1 to 2.3 times
    as fast as those behind `torch.addmm` (MKL) on an AMD processor, see
    docs/performance.md; elsewhere, or where torch lacks it, `torch.addmm` computes the
    same.
    """
    if _ONEDNN and frames.device.type == "cpu" and frames.dtype != torch.float64:
        return torch.ops.mkldnn._linear_pointwise(
            frames, codebook, -half_norms, "none", [], ""
        )
    return torch.addmm(half_norms, frames, codebook.T, beta=-1.0)


@dataclass(frozen=True)
class SearchTable:
    """A codebook with what its search needs, made once for many frames.

    Attributes
    ----------
    codebook : (K, D) float32 Tensor
    half_norms : (K,) float32 Tensor
    largest : () Tensor or None
        Largest norm of a codeword; None where the search is plain.
    low : (K, D + 1) bfloat16 Tensor or None
        What `low_codewords` gives; None where the first product is in float32.
    """

    codebook: Tensor
    half_norms: Tensor
    largest: Tensor | None = None
    low: Tensor | None = None

    @property
    def bounded(self) -> bool:
        """Tell whether the search is one with bounds, which decides in float64."""
        return self.largest is not None

    @classmethod
    def of(cls, codebook: Tensor, least_elements: int | None = None) -> "SearchTable":
        """Prepare a (K, D) codebook; see `is_bounded`.

        Raises
        ------
        ValueError
            For a large codebook that is NaN or infinite, with the first codeword.
        """
        half_norms = half_squared_norms(codebook)
        if not is_bounded(codebook, least_elements):
            return cls(codebook, half_norms)
        largest = norms_of(codebook).amax()
        if not largest.isfinite():
            refuse_not_finite(codebook, "codeword")
        return cls(codebook, half_norms, largest, low_codewords(codebook))


def is_bounded(codebook: Tensor, least_elements: int | None = None) -> bool:
    """Tell whether bounds spare more than they cost: large codebooks, in bfloat16.

    Parameters
    ----------
    codebook : (K, D) Tensor
    least_elements : int, optional
        From which a codebook is large; `BOUNDED_ELEMENTS` when None.
    """
    least_elements = least_elements or BOUNDED_ELEMENTS
    fits = codebook.numel() >= least_elements and len(codebook) <= 2**15
    if not fits or codebook.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return has_bfloat16()


def nearest_codewords(
    frames: Tensor, codebook: Tensor | SearchTable, *, rest: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the codeword of smallest squared Euclidean distance for every frame.

    ``argmin_k ||x - c_k||^2 = argmax_k <x, c_k> - 0.5 ||c_k||^2``, so the work is a
    matrix product, done in blocks whose score table stays in the cache; no (N, K, D)
    tensor and no full (N, K) matrix exists. The lowest index wins a tie. In a large
    codebook a product in bfloat16 comes first, where the CPU has it, and what its
    rounding leaves open is compared in float64, see `core.bounds`.

    Parameters
    ----------
    frames : (N, D) float32 Tensor
    codebook : (K, D) float32 Tensor or SearchTable
    rest : (N, D) Tensor, optional
        Takes the frames minus their codewords.

    Returns
    -------
    codes : (N,) int64 Tensor
    scores : (N,) float32 Tensor
        ``<x, c> - 0.5 ||c||^2`` of the winner; the squared distance is
        ``||x||^2 - 2 * score``.

    Raises
    ------
    ValueError
        For frames or codewords that are NaN or infinite, with the first one, if the
        codebook is large.
    """
    table = codebook if isinstance(codebook, SearchTable) else SearchTable.of(codebook)
    search, size = (_bounded, 2) if table.bounded else (_plain, 4)
    rows = max(256, TABLE_BYTES // (size * len(table.codebook)))
    parts = [search(block, table) for block in frames.split(rows)]
    codes, scores = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts))
    if rest is not None:
        torch.index_select(table.codebook, 0, codes, out=rest)
        torch.sub(frames, rest, out=rest)
    return codes, scores


def _plain(frames: Tensor, table: SearchTable) -> tuple[Tensor, Tensor]:
    """Search a block by the largest score: codes and scores."""
    best = score_table(frames, table.codebook, table.half_norms).max(dim=1)
    return best.indices, best.values


def _bounded(frames: Tensor, table: SearchTable) -> tuple[Tensor, Tensor]:
    """Search a block by a product with bounds, then compare what they leave."""
    norms = norms_of(frames)
    error = score_error(norms, table.largest, frames.shape[1])
    unknown = ~error.isfinite()
    if unknown.any():
        refuse_not_finite(frames, "frame")
    bounds, codes = _first_product(frames, table, norms)
    scores = pair_scores(frames, table.codebook, table.half_norms, codes)
    # What rounds to less than the known codeword's score is less.
    least = scores - 2 * error
    if table.low is None:
        crowded = partial(_in_float64, table=table)
    else:
        least = sort_keys(least.bfloat16())
        crowded = partial(_bounded, table=replace(table, low=None))
    pairs = candidates(bounds, codes, least, unknown)
    compare(frames, table, codes, scores, error, pairs, unknown, crowded)
    return codes, scores


def _first_product(
    frames: Tensor, table: SearchTable, norms: Tensor
) -> tuple[Tensor, Tensor]:
    """Bound scores (N, K) from above, or their order; and codes of the highest."""
    if table.low is None:
        scores = score_table(frames, table.codebook, table.half_norms)
        return scores, scores.max(dim=1).indices
    scores = score_table(low_columns(frames, norms), table.low, table.half_norms)
    keys = sort_keys(scores)
    # Key and index in one number: the maximum finds both, the lowest index in a tie.
    last = len(table.codebook) - 1
    backwards = torch.arange(last, -1, -1, dtype=torch.int32)
    best = torch.add(backwards, keys, alpha=2**16).amax(dim=1)
    return keys, last - (best & 0xFFFF).long()


def _in_float64(frames: Tensor, table: SearchTable) -> tuple[Tensor, Tensor]:
    """Search frames beside codewords that are equal but for their rounding."""
    codes = search_in_float64(frames, table.codebook)
    return codes, pair_scores(frames, table.codebook, table.half_norms, codes)


def compare(
    frames: Tensor,
    table: SearchTable,
    codes: Tensor,
    scores: Tensor,
    error: Tensor,
    pairs: tuple[Tensor, Tensor],
    unknown: Tensor,
    crowded: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> None:
    """Put codes and scores right in place where others are as near.

    Parameters
    ----------
    frames : (N, D) Tensor
    table : SearchTable
    codes, scores : (N,) Tensors
        Codewords that are known and their scores.
    error : (N,) Tensor
        What float32 can be wrong in a score.
    pairs : tuple of (P,) int64 Tensors
        Frame and codeword of those that may be as near, in the order of frames.
    unknown : (N,) bool Tensor
        Frames whose scores need not be finite.
    crowded : callable
        Searches frames that have so many pairs that this costs less.
    """
    codebook, half_norms = table.codebook, table.half_norms
    row, other = pairs
    limit = max(FEW, len(codebook) // PAIR)
    many = (torch.bincount(row, minlength=len(codes)) > limit) & ~unknown
    if many.any():
        codes[many], scores[many] = crowded(frames[many])
        row, other = row[~many[row]], other[~many[row]]
    found = pair_scores(frames, codebook, half_norms, other, row)
    least = scores.scatter_reduce(0, row, found, "amax").sub_(error, alpha=2)
    near = ~(found < least[row])  # also where numbers are too large to tell
    row, other, found = row[near], other[near], found[near]
    n_near = torch.bincount(row, minlength=len(codes)) + ~(scores < least)
    several = n_near[row] > 1
    alone = row[~several]
    codes[alone], scores[alone] = other[~several], found[~several]
    rows, right = decide(frames, codebook, codes, row[several], other[several])
    codes[rows] = right
    scores[rows] = pair_scores(frames[rows], codebook, half_norms, right)


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
