"""Learning of clip codes: which directions of the statistics are worth how many bits.

Without labels the directions of largest variance are (principal components). With
labels or votes, the directions along which a logistic regression separates the classes
are stretched first: one metric decides what is near for the token, where the
components point and which of them get bits. A class that nothing was learned from is
kept by what it shares with the others, and by the variance that is coded after them.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.core.clip_code import ClipCode
from emoq_plugin.core.clip_statistics import STATISTICS
from emoq_plugin.files import check_ranges
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.settings import LAST_SEED, LearningSettings
from emoq_plugin.learning.sources import ArraySource
from emoq_plugin.learning.weighting import rows_of_classes

CLIPS_PER_CODEWORD = 8
CLIPS_PER_LEVEL = 4
LLOYD_ITERATIONS = 30


@dataclass(frozen=True)
class ClipCodeSettings:
    """How a clip code is learned.

    Attributes
    ----------
    statistics : {"mean", "all"}, default="mean"
        What is coded of the clip statistics. Deviation, quantiles and movement help
        where the mean frame says little of emotion (log-mel), and cost bits elsewhere.
    relevance : float, default=16.0
        Variance along the stretched directions, in multiples of the largest variance
        of all; used with labels only.
    C : float, default=0.01
        Inverse regularisation strength of the logistic regression.
    token_bits : int, default=3
        Of the token that comes first.
    component_bits : int, default=2
        The most that one component gets. Finer ones change under little noise; 1 makes
        the most stable code, and a poorer one where there are no labels.
    components : int, default=64
        Directions that are looked at.
    max_clips : int, default=4096
        Clips that are learned from; of more, every n-th.
    seed : int, default=0
        Of the token's codebook.
    """

    statistics: str = "mean"
    relevance: float = 16.0
    C: float = 0.01
    token_bits: int = 3
    component_bits: int = 2
    components: int = 64
    max_clips: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        known = ("mean", "all")
        check_ranges(
            self,
            [
                ("statistics", self.statistics in known, "'mean' or 'all'"),
                ("relevance", 0 <= self.relevance < math.inf, "a number from 0"),
                ("C", 0 < self.C < math.inf, "above 0"),
                ("token_bits", self.token_bits >= 0, "at least 0"),
                ("component_bits", self.component_bits >= 1, "at least 1"),
                ("components", self.components >= 1, "at least 1"),
                ("max_clips", self.max_clips >= 1, "at least 1"),
                ("seed", 0 <= self.seed < LAST_SEED, f"0 to {LAST_SEED - 1}"),
            ],
        )


def fit_clip_code(
    statistics: Tensor,
    shares: np.ndarray | None = None,
    *,
    n_bits: int,
    window: int | None = None,
    settings: ClipCodeSettings | None = None,
) -> ClipCode:
    """Learn a clip code from the statistics of training clips (or windows).

    Parameters
    ----------
    statistics : (N, S) Tensor
        From `clip_statistics`.
    shares : (N, C) array, optional
        Class shares, rows sum to one: hard labels or rater votes. The code is
        emotion-aware with them and emotion-blind without. Classes without a clip are
        left out.
    n_bits : int
        Of one code.
    window : int, optional
        Frames of a window, for `ClipCode`.
    settings : ClipCodeSettings, optional

    Returns
    -------
    code : ClipCode

    Raises
    ------
    ValueError
        If `n_bits` is below one or more than the clips support, the statistics are not
        finite or the shares do not fit.
    """
    settings = settings or ClipCodeSettings()
    values = statistics.double().numpy()
    _check(values, shares, n_bits)
    step = -(-len(values) // settings.max_clips)
    values, shares = values[::step], None if shares is None else shares[::step]
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale <= 1e-6 * np.maximum(np.abs(mean), 1e-3)] = 1.0
    scaled = (values - mean) / scale
    coded = slice(len(mean) // STATISTICS if settings.statistics == "mean" else None)
    axes = _principal(scaled[:, coded])
    basis = np.zeros((len(mean), axes.shape[1]))  # (S, R): clips do not leave its span
    basis[coded] = axes
    rows = scaled @ basis
    token_bits, component_bits = _supported(rows, n_bits, settings)
    stretch, shrink = np.eye(basis.shape[1]), np.eye(basis.shape[1])
    if shares is not None:
        directions = relevant_directions(rows, shares, C=settings.C)
        stretch, shrink = relevance_metric(rows, directions, settings.relevance)
    axes = _principal(rows @ stretch)[:, : settings.components]
    seen = rows @ stretch @ axes
    token = _token(seen, token_bits, settings.seed)
    left = seen - token[_nearest(seen, token)]
    turned = _principal(left, full=True)
    bits, levels = allocate_bits(left @ turned, n_bits - token_bits, component_bits)
    turned = turned[:, np.argsort(bits == 0, kind="stable")]  # coded ones come first
    tensors = {
        "mean": mean,
        "scale": scale,
        "encoder": basis @ stretch @ axes @ turned,
        "decoder": (basis @ shrink @ axes @ turned).T,
        "token": token @ turned,
        "levels": np.concatenate([np.empty(0), *levels]),
    }
    tensors = {name: torch.from_numpy(value) for name, value in tensors.items()}
    return ClipCode(tensors, bits[bits > 0].tolist(), window=window)


def relevant_directions(
    rows: np.ndarray, shares: np.ndarray, *, C: float
) -> np.ndarray:
    """Weights of a logistic regression that learns from class shares.

    Parameters
    ----------
    rows : (N, R) array
    shares : (N, C) array
        Weighed as in `learning.weighting.rows_of_classes`.
    C : float

    Returns
    -------
    directions : (R, C) array
        Centred over the classes: a softmax does not see their mean.
    """
    from sklearn.linear_model import LogisticRegression

    mass = shares.sum(axis=0)
    if (mass > 0).sum() < 2:
        raise ValueError(
            f"an emotion-aware clip code needs clips of two classes, found masses "
            f"{mass.tolist()}: leave the labels out for an emotion-blind one"
        )
    clip, label, weight = rows_of_classes(shares)
    model = LogisticRegression(C=C, max_iter=500).fit(rows[clip], label, weight)
    found = model.coef_
    if len(found) == 1:  # of two classes scikit-learn keeps one row
        found = np.concatenate([-found, found])
    return (found - found.mean(axis=0)).T


def relevance_metric(
    rows: np.ndarray, directions: np.ndarray, relevance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Stretch the relevant directions; all orthogonal to them stay as they are.

    The root of the metric ``I + a W W'``, with a such that the largest variance along
    a principal direction of W becomes about `relevance` times the largest of all.

    Parameters
    ----------
    rows : (N, R) array
    directions : (R, C) array
        W.
    relevance : float

    Returns
    -------
    stretch, shrink : (R, R) array
        Symmetric, the inverse of each other.
    """
    axes, size, _ = np.linalg.svd(directions, full_matrices=False)
    keep = size > 1e-6 * size[0]
    axes, size = axes[:, keep], size[keep]
    largest = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[0] ** 2
    along = (rows @ axes).var(axis=0) * size**2
    factor = relevance * largest / len(rows) / along.max()
    gain = np.sqrt(1 + factor * size**2)
    identity = np.eye(len(axes))
    return (
        identity + (axes * (gain - 1)) @ axes.T,
        identity + (axes * (1 / gain - 1)) @ axes.T,
    )


def allocate_bits(
    rows: np.ndarray, n_bits: int, most: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Give bit after bit to the component whose distortion falls most.

    Parameters
    ----------
    rows : (N, P) array
        Components by falling variance.
    n_bits : int
    most : int
        Bits of one component.

    Returns
    -------
    bits : (P,) int array
    levels : list of arrays
        Ascending, ``2 ** b`` for each component that has bits.
    """
    ladders = [lloyd_max(column, most) for column in rows.T]
    error = np.array([[_error(x, c) for c in cs] for x, cs in zip(rows.T, ladders)])
    gain = np.pad(error[:, :-1] - error[:, 1:], ((0, 0), (0, 1)), constant_values=-1.0)
    bits = np.zeros(rows.shape[1], dtype=int)
    for _ in range(n_bits):
        bits[gain[np.arange(len(bits)), bits].argmax()] += 1
    return bits, [ladder[b] for ladder, b in zip(ladders, bits) if b]


def lloyd_max(values: np.ndarray, most: int) -> list[np.ndarray]:
    """Find levels of least distortion for 0 to `most` bits.

    Lloyd 1982, "Least squares quantization in PCM"; each cell of the ladder's last step
    is split at its mean first, so that one more bit never costs distortion.

    Parameters
    ----------
    values : (N,) array
    most : int

    Returns
    -------
    ladder : list of (2 ** b,) arrays
        Ascending.
    """
    ladder = [values.mean(keepdims=True)]
    for _ in range(most):
        levels = ladder[-1]
        cell = _nearest_level(values, levels)
        upper = 2 * cell + (values > levels[cell])
        levels = _cell_means(values, upper, np.repeat(levels, 2))
        for _ in range(LLOYD_ITERATIONS):
            levels = _cell_means(values, _nearest_level(values, levels), levels)
        ladder.append(levels)
    return ladder


def _nearest_level(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values)


def _cell_means(values: np.ndarray, cell: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Give the mean of every cell; an empty one keeps its level."""
    count = np.bincount(cell, minlength=len(old))
    total = np.bincount(cell, weights=values, minlength=len(old))
    return np.sort(np.where(count > 0, total / np.maximum(count, 1), old))


def _error(values: np.ndarray, levels: np.ndarray) -> float:
    return float(np.square(values - levels[_nearest_level(values, levels)]).mean())


def _nearest(rows: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    scores = rows @ codebook.T - 0.5 * np.square(codebook).sum(axis=1)
    return scores.argmax(axis=1)


def _principal(rows: np.ndarray, *, full: bool = False) -> np.ndarray:
    """Principal axes (X, R) by falling variance; `full` keeps those without any."""
    centred = rows - rows.mean(axis=0)
    _, size, axes = np.linalg.svd(centred, full_matrices=full)
    if full:
        return axes.T
    return axes[size > 1e-9 * size.max(initial=1.0)].T


def _token(rows: np.ndarray, n_bits: int, seed: int) -> np.ndarray:
    if not n_bits:
        return rows.mean(axis=0, keepdims=True)
    learning = LearningSettings(seed=seed, sample_per_code=len(rows))
    source = ArraySource(rows.astype(np.float32))
    (codebook,) = learn_residual_codebooks(source, [2**n_bits], settings=learning)
    return codebook[0].double().numpy()


def _supported(
    rows: np.ndarray, n_bits: int, settings: ClipCodeSettings
) -> tuple[int, int]:
    """Give bits of the token and the most of a component.

    Raises
    ------
    ValueError
        If the clips do not support `n_bits`: a codeword wants 8 of them, a level 4.
    """
    n_clips = len(np.unique(rows, axis=0))
    n_components = min(rows.shape[1], settings.components)
    token = min(settings.token_bits, _log2(n_clips / CLIPS_PER_CODEWORD), n_bits)
    component = min(settings.component_bits, _log2(n_clips / CLIPS_PER_LEVEL))
    most = token + component * n_components
    if n_bits > most:
        raise ValueError(
            f"{n_bits} bits asked for, but {n_clips} different training clips support "
            f"{most}: ask for fewer, or give more clips"
        )
    return token, component


def _log2(count: float) -> int:
    return max(0, int(np.floor(np.log2(count))))


def _check(values: np.ndarray, shares: np.ndarray | None, n_bits: int) -> None:
    if n_bits < 1:
        raise ValueError(f"a clip code of {n_bits} bits, expected at least 1")
    if values.ndim != 2 or not len(values) or values.shape[1] % STATISTICS:
        raise ValueError(
            f"statistics have shape {values.shape}, expected clips x {STATISTICS} D"
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(f"the statistics of clip {bad[0]} hold NaN or infinity")
    if shares is None:
        return
    if shares.ndim != 2 or len(shares) != len(values):
        raise ValueError(
            f"shares have shape {shares.shape}, expected one row for each of "
            f"{len(values)} clips"
        )
    wrong = np.flatnonzero((shares < 0).any(1) | (abs(shares.sum(1) - 1) > 1e-4))
    if len(wrong):
        raise ValueError(
            f"shares of clip {wrong[0]} are {shares[wrong[0]].tolist()}, expected "
            "numbers that are not negative and sum to one"
        )
