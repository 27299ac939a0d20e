"""Ridge regression of ratings on what the emotion head sees."""

from collections.abc import Sequence

import numpy as np

from emoq_plugin.data.ratings import DIMENSIONS
from emoq_plugin.evaluation.ratings import ccc
from emoq_plugin.routing.fit_calibrated import speaker_parts

# Penalties for one training clip, the strongest first: it is taken where scores tie.
STRENGTHS = 10.0 ** np.arange(3.0, -3.5, -0.5)
PARTS = 5  # of the training speakers, for the choice of the strength


def ridge(
    inputs: np.ndarray, values: np.ndarray, new: np.ndarray, strengths: np.ndarray
) -> np.ndarray:
    """Fit at every strength, in closed form, and predict.

    Parameters
    ----------
    inputs : (N, F) array
    values : (N,) array
    new : (M, F) array
        Inputs to predict.
    strengths : (S,) array
        Penalty on squared weights for each of the N clips; the intercept has none.

    Returns
    -------
    (S, M) array
    """
    centre, level = inputs.mean(axis=0), values.mean()
    u, s, vt = np.linalg.svd(inputs - centre, full_matrices=False)
    shrunk = s / (s**2 + len(inputs) * strengths[:, None])  # (S, R)
    return level + (shrunk * (u.T @ (values - level))) @ (vt @ (new - centre).T)


def predict_ratings(
    inputs: np.ndarray, ratings: np.ndarray, speakers: Sequence[str], new: np.ndarray
) -> dict[str, list[float]]:
    """Fit each dimension on the clips that have it, and predict.

    The strength is the one of highest CCC on training speakers that the fit did not
    see, in five parts (parts of the clips where all are of one speaker).

    Parameters
    ----------
    inputs : (N, F) array
        Of unit variance.
    ratings : (N, 3) array
        NaN where there is none.
    speakers : sequence of N str
    new : (M, F) array

    Returns
    -------
    dict of str to list of M floats
        By dimension; one with fewer than two ratings is left out.
    """
    found = {}
    for dimension, values in zip(DIMENSIONS, ratings.T):
        rows = np.flatnonzero(np.isfinite(values))
        if len(rows) < 2:
            continue
        known, rated = inputs[rows], values[rows]
        part = speaker_parts([speakers[n] for n in rows], PARTS)
        held_out = np.empty((len(STRENGTHS), len(rows)))
        for n in np.unique(part):
            out = part == n
            held_out[:, out] = ridge(known[~out], rated[~out], known[out], STRENGTHS)
        scores = np.nan_to_num([ccc(rated, guess) for guess in held_out], nan=-1.0)
        best = STRENGTHS[[scores.argmax()]]
        found[dimension] = ridge(known, rated, new, best)[0].tolist()
    return found
