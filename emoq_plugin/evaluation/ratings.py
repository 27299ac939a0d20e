"""Concordance of predicted with given ratings, with intervals over speakers.

The concordance correlation coefficient (CCC; Lin 1989, "A concordance correlation
coefficient to evaluate reproducibility") is 1 where predictions equal the ratings; a
wrong mean or spread lowers it as a weak correlation does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emoq_plugin.data.ratings import DIMENSIONS
from emoq_plugin.evaluation.intervals import (
    percentile_interval,
    resample_sums,
    speaker_sums,
)


def concordance(sums: np.ndarray) -> np.ndarray:
    """Return the CCC of summed moments; NaN where both sides are one constant.

    Parameters
    ----------
    sums : (..., 6) array
        Of `moments`, over the clips that count.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[..., 1:] / sums[..., :1]
        reference, predicted, squares, others, products = np.moveaxis(means, -1, 0)
        apart = squares + others - 2 * reference * predicted
        return 2 * (products - reference * predicted) / apart


def moments(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return count, ratings, predictions, their squares and products of each clip.

    Parameters
    ----------
    reference, predicted : (N,) array
        Without NaN.

    Returns
    -------
    (N, 6) array
        Around the mean rating, which the CCC does not depend on and sums profit from.
    """
    level = reference.mean()
    t, p = reference - level, predicted - level
    return np.stack([np.ones_like(t), t, p, t * t, p * p, t * p], axis=1)


def ccc(reference: np.ndarray, predicted: np.ndarray) -> float:
    """Return the concordance correlation coefficient.

    Examples
    --------
    >>> ccc(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    1.0
    >>> round(ccc(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])), 3)
    0.571
    """
    return float(concordance(moments(reference, predicted).sum(axis=0)))


def ccc_samples(
    given: np.ndarray,
    seeds: Sequence[np.ndarray],
    *,
    speakers: np.ndarray,
    weights: np.ndarray,
) -> dict[str, list[np.ndarray]]:
    """Return the CCC of each dimension and seed for every way of counting speakers.

    Parameters
    ----------
    given : (N, 3) array
        Ratings, NaN where a clip has none.
    seeds : sequence of (N, 3) array
        Predictions; clips that are NaN in any are left out.
    speakers : (N,) int array
    weights : (1 + R, S) array
        From `with_everyone`.

    Returns
    -------
    dict of str to list of (1 + R,) float64 array
        By dimension, those that can be scored.
    """
    found = {}
    for column, dimension in enumerate(DIMENSIONS):
        columns = np.stack([table[:, column] for table in (given, *seeds)])
        rows = np.isfinite(columns).all(axis=0)
        if not rows.any():
            continue
        reference, *predictions = columns[:, rows]
        samples = []
        for predicted in predictions:
            sums = speaker_sums(
                moments(reference, predicted),
                speakers[rows],
                n_speakers=weights.shape[1],
            )
            samples.append(concordance(resample_sums(sums, weights)))
        if np.isfinite([sample[0] for sample in samples]).all():
            found[dimension] = samples
    return found


def with_intervals(samples: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Turn `ccc_samples` into `{"mean", "low", "high", "by_seed"}` by dimension."""
    table = {}
    for dimension, seeds in samples.items():
        value, *resampled = np.mean(seeds, axis=0)
        table[dimension] = {
            **percentile_interval(value, np.array(resampled)),
            "by_seed": [float(seed[0]) for seed in seeds],
        }
    return table
