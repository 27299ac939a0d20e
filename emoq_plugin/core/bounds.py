"""What rounding can change in a search, and what decides where bounds leave several.

The nearest codeword is the one of smallest squared distance in float64; the lowest
index wins a tie. Bounds on the rounding of cheaper products tell which codewords can be
nearest, mostly one; only where there are several, distances are compared.
"""

import warnings

import torch
from torch import Tensor

with warnings.catch_warnings():  # once a process: that compressed rows are in beta
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 1], [0], [1.0], size=(1, 1), check_invariants=False)

# Elements of the differences of pairs that are held at a time.
PAIR_ELEMENTS = 1 << 18


def rounding(dimension: int) -> float:
    """Bound the relative error of a float32 sum of so many products, in any order.

    That is ``D 2^-24``; what is added covers the arithmetic of the bounds themselves.
    """
    return 1.01 * (dimension + 32) * 2.0**-24


def norms_of(vectors: Tensor) -> Tensor:
    """Give the norms of (N, D) vectors, (N,)."""
    return torch.linalg.vector_norm(vectors, dim=1)


def score_error(
    norms: Tensor, largest: Tensor, dimension: int, *, share: float = 0.0
) -> Tensor:
    """Bound the float32 rounding of scores, and of squared distances, (N,).

    Parameters
    ----------
    norms : (N,) Tensor
        Of the frames.
    largest : () Tensor
        Largest norm of a codeword.
    dimension : int
    share : float, default=0.0
        What else is wrong, as a share of the product of both norms.
    """
    error = (norms + largest).square_().mul_(rounding(dimension))
    # Squares below 1e-38 vanish, and norms with them.
    error += 2**10 * dimension * torch.finfo(torch.float32).tiny
    return error.add_(norms * largest, alpha=share) if share else error


def low_columns(vectors: Tensor, *bounds: Tensor) -> Tensor:
    """Round (N, D) vectors to bfloat16 and append columns that are rounded up.

    Parameters
    ----------
    vectors : (N, D) Tensor
    *bounds : (N,) Tensors
        Not negative.
    """
    n, dimension = vectors.shape
    shape = (n, dimension + len(bounds))
    columns = vectors.new_empty(shape, dtype=torch.bfloat16)
    columns[:, :dimension].copy_(vectors)
    for column, bound in enumerate(bounds, dimension):
        columns[:, column].copy_(bound * (1 + 2.0**-7))
    return columns


def low_codewords(codebook: Tensor, *bounds: Tensor) -> Tensor:
    """Round (K, D) codewords so that products with rounded frames bound the score.

    With the norm of a frame as its column D the product is no smaller than that of
    frame and codeword, but for the rounding of float32: Cauchy and Schwarz bound what
    rounding to bfloat16 changes. More columns may follow, as in `low_columns`.
    """
    changed = norms_of(codebook - codebook.bfloat16())
    lost = 2.0**-8 * norms_of(codebook) + 1.01 * changed
    return low_columns(codebook, lost, *bounds)


def sort_keys(scores: Tensor) -> Tensor:
    """Turn bfloat16 into int16 of the same order, which is compared much faster."""
    keys = scores.view(torch.int16)
    return keys.bitwise_xor_((keys >> 15).bitwise_and_(0x7FFF))


def candidates(
    scores: Tensor, codes: Tensor, least: Tensor, unknown: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the codewords beside the known ones whose score is not too low.

    Parameters
    ----------
    scores : (N, K) Tensor
        Overwritten at the known codewords.
    codes : (N,) int64 Tensor
    least : (N,) Tensor
        Of the type of the scores.
    unknown : (N,) bool Tensor
        Frames whose bounds are not finite: all codewords count.

    Returns
    -------
    row, other : (P,) int64 Tensors
        Frame and codeword of each pair, in the order of frames.
    """
    lowest = torch.finfo if scores.is_floating_point() else torch.iinfo
    scores.scatter_(1, codes[:, None], lowest(scores.dtype).min)
    rows = ((scores.amax(dim=1) >= least) | unknown).nonzero().squeeze(1)
    if not len(rows):
        return rows, rows
    near = scores.index_select(0, rows) >= least[rows, None]
    if unknown.any():
        near |= unknown[rows, None]
    row, other = near.nonzero(as_tuple=True)
    return rows[row], other


def pair_scores(
    frames: Tensor,
    codebook: Tensor,
    half_norms: Tensor,
    code: Tensor,
    row: Tensor | None = None,
) -> Tensor:
    """Compute ``<x, c> - 0.5 ||c||^2`` of (P,) pairs without copies of their vectors.

    Parameters
    ----------
    frames : (N, D) Tensor
    codebook : (K, D) Tensor
    half_norms : (K,) Tensor
    code : (P,) int64 Tensor
    row : (P,) int64 Tensor, optional
        Frames of the pairs, in order; all frames once, if left out.
    """
    if row is None:
        ends = torch.arange(len(frames) + 1)
    else:
        ends = torch.zeros(len(frames) + 1, dtype=torch.long)
        ends[1:] = torch.bincount(row, minlength=len(frames)).cumsum(0)
    pairs = torch.sparse_csr_tensor(
        ends,
        code,
        frames.new_zeros(len(code)),
        size=(len(frames), len(codebook)),
        check_invariants=False,
    )
    found = torch.sparse.sampled_addmm(pairs, frames, codebook.T, beta=0.0)
    return found.values() - half_norms[code]


def search_in_float64(frames: Tensor, codebook: Tensor) -> Tensor:
    """Find the nearest codewords by float64 products, (N,) int64 codes.

    Parameters
    ----------
    frames : (N, D) Tensor
    codebook : (K, D) Tensor
    """
    exact = codebook.double()
    half_norms = 0.5 * exact.square().sum(dim=1)
    rows = max(1, PAIR_ELEMENTS // len(codebook))
    codes = [
        torch.addmm(half_norms, block.double(), exact.T, beta=-1.0).argmax(dim=1)
        for block in frames.split(rows)
    ]
    return torch.cat(codes)


def decide(
    frames: Tensor, codebook: Tensor, codes: Tensor, row: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    """Compare distances in float64; the lowest index wins a tie.

    Parameters
    ----------
    frames : (N, D) Tensor
    codebook : (K, D) Tensor
    codes : (N,) int64 Tensor
        Codewords that are known.
    row, other : (P,) int64 Tensors
        Pairs of frame and codeword that may be nearer, in the order of frames.

    Returns
    -------
    rows, codes : (R,) int64 Tensors
        Frames that were compared and their codewords.
    """
    rows, place = row.unique_consecutive(return_inverse=True)
    place = torch.cat([torch.arange(len(rows)), place])
    code = torch.cat([codes[rows], other])
    at_once = max(1, PAIR_ELEMENTS // frames.shape[1])
    exact = torch.cat(
        [
            norms_of(frames[r].double().sub_(codebook[c]))
            for r, c in zip(rows[place].split(at_once), code.split(at_once))
        ]
    )
    best = exact.new_full((len(rows),), torch.inf)
    best.scatter_reduce_(0, place, exact, "amin")
    code = code.masked_fill_(exact > best[place], len(codebook))
    found = codes.new_full((len(rows),), len(codebook))
    return rows, found.scatter_reduce_(0, place, code, "amin")


def refuse_not_finite(vectors: Tensor, name: str) -> None:
    """Raise a ValueError with the first of (N, D) vectors that is NaN or infinite."""
    bad = (~vectors.isfinite()).any(dim=1).nonzero()
    if len(bad):
        raise ValueError(
            f"{name} {int(bad[0])} is NaN or infinite, expected finite numbers"
        )
