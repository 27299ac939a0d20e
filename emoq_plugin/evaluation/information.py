"""Entropy of units and what they say about labels, in bits, corrected for chance."""

from collections.abc import Iterable, Sequence

import numpy as np

N_PERMUTATIONS = 100


def entropy(counts: np.ndarray) -> float:
    """Plug-in entropy of a table of counts of any shape, in bits.

    Examples
    --------
    >>> entropy(np.array([2, 2, 0]))
    1.0
    """
    counts = counts[counts > 0].astype(np.float64)
    total = counts.sum()
    return float(np.log2(total) - counts @ np.log2(counts) / total)


def mutual_information(joint: np.ndarray) -> tuple[float, float]:
    """Mutual information of rows and columns of a contingency table, in bits.

    Parameters
    ----------
    joint : (U, Y) array of counts

    Returns
    -------
    plug_in : float
        ``H(U) + H(Y) - H(U, Y)`` of the shares; too high by about
        ``(m_U - 1)(m_Y - 1) / 2N`` nats.
    corrected : float
        With ``(m - 1) / 2N`` nats added to each entropy, m the number of cells in use
        (Miller 1955, "Note on the bias of information estimates"; Roulston 1999,
        "Estimating the errors on measured entropy and mutual information"). It may be
        negative.
    """
    tables = joint.sum(axis=1), joint.sum(axis=0), joint
    plug_in = np.array([entropy(table) for table in tables])
    cells = np.array([np.count_nonzero(table) for table in tables])
    bias = (cells - 1) / (2 * joint.sum() * np.log(2))
    signs = np.array([1, 1, -1])
    return float(signs @ plug_in), float(signs @ (plug_in + bias))


def contingency(
    units: np.ndarray,
    labels: np.ndarray,
    *,
    shape: tuple[int, int],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Count pairs: (N,) units and (N,) labels to a (U, Y) table."""
    cells = np.bincount(
        units * shape[1] + labels, weights, minlength=shape[0] * shape[1]
    )
    return cells.reshape(shape)


def information(
    units: np.ndarray,
    labels: np.ndarray,
    *,
    null: Iterable[np.ndarray],
    n_labels: int,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Mutual information beside what chance gives.

    Parameters
    ----------
    units : (N,) int array
        0 .. U - 1.
    labels : (N,) int array
        0 .. Y - 1.
    null : iterable of (N,) int array
        Labels that say nothing about the units, from `permuted_by_clip` or `shifted`.
    n_labels : int
        Y.
    weights : (N,) array, optional
        How often each pair occurs.

    Returns
    -------
    measures : dict of str to float
        Bits: ``bits`` (plug-in), ``corrected``, ``null_mean`` and ``null_high`` (mean
        and 95 % quantile of the corrected value under `null`), ``excess`` (corrected
        minus null mean) and ``label_entropy`` (what can be reached at most).
    """
    used, rows = np.unique(units, return_inverse=True)
    shape = len(used), n_labels
    joint = contingency(rows, labels, shape=shape, weights=weights)
    plug_in, corrected = mutual_information(joint)
    chance = [
        mutual_information(contingency(rows, other, shape=shape, weights=weights))[1]
        for other in null
    ]
    return {
        "bits": plug_in,
        "corrected": corrected,
        "null_mean": float(np.mean(chance)),
        "null_high": float(np.quantile(chance, 0.95)),
        "excess": corrected - float(np.mean(chance)),
        "label_entropy": entropy(joint.sum(axis=0)),
    }


def clip_information(
    units: np.ndarray,
    clips: np.ndarray,
    *,
    labels: np.ndarray,
    n_labels: int,
    seed: int = 0,
    n_permutations: int = N_PERMUTATIONS,
) -> dict[str, float]:
    """Mutual information between units and a label of the clip, over frames.

    Frames of one clip are alike, so labels are permuted by clip: whatever a codebook
    knows about single clips is in the null, too.

    Parameters
    ----------
    units, clips : (N,) int array
        Unit and clip of each frame.
    labels : (n_clips,) int array
        -1 for a clip without a label, which is left out.
    n_labels : int
    seed : int, default=0
    n_permutations : int, default=100

    Returns
    -------
    measures : dict of str to float
        See `information`.
    """
    known = labels[clips] >= 0
    pairs, counts = np.unique(
        units[known] * len(labels) + clips[known], return_counts=True
    )
    unit, clip = np.divmod(pairs, len(labels))
    null = permuted_by_clip(labels, n_permutations, seed=seed)
    return information(
        unit,
        labels[clip],
        null=(permuted[clip] for permuted in null),
        n_labels=n_labels,
        weights=counts,
    )


def permuted_by_clip(
    labels: np.ndarray, n_permutations: int, *, seed: int = 0
) -> list[np.ndarray]:
    """Permute the labels (n_clips,) of the clips that have one (not -1)."""
    random = np.random.default_rng(seed)
    known = np.flatnonzero(labels >= 0)
    permuted = []
    for _ in range(n_permutations):
        other = labels.copy()
        other[known] = labels[random.permutation(known)]
        permuted.append(other)
    return permuted


def shifted(
    labels: np.ndarray, lengths: Sequence[int], n_permutations: int, *, seed: int = 0
) -> list[np.ndarray]:
    """Turn the labels of each clip around in time, each clip by its own random offset.

    The order of the phones and all counts by clip stay; what is lost is which frame has
    which phone. Offsets leave out a quarter of the clip at either end, where
    neighbouring frames would keep their phone.

    Parameters
    ----------
    labels : (N,) int array
        Of the frames of all clips, one clip behind the other.
    lengths : sequence of int
        Frames of each clip, summing to N.
    n_permutations : int
    seed : int, default=0

    Returns
    -------
    shifted : list of (N,) int arrays
    """
    lengths = np.asarray(lengths)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    size = np.repeat(lengths, lengths)
    place = np.arange(len(labels)) - starts
    random = np.random.default_rng(seed)
    turned = []
    for _ in range(n_permutations):
        offset = random.integers(lengths // 4, lengths - lengths // 4 + 1)
        turned.append(labels[starts + (place + np.repeat(offset, lengths)) % size])
    return turned
