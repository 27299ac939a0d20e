"""Reconstructions against what was quantized: distances, similarity, drift."""

import numpy as np
from scipy.spatial.distance import pdist, squareform


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of vectors along the last axis; 0 where one of them is zero.

    Parameters
    ----------
    a, b : (..., D) array

    Returns
    -------
    cosine : (...) array
    """
    norm = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    inner = (a * b).sum(axis=-1)
    return np.divide(inner, norm, out=np.zeros_like(norm), where=norm > 0)


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of two representations of the same clips.

    ``||Y'X||^2 / (||X'X|| ||Y'Y||)`` with centred columns (Kornblith, Norouzi, Lee and
    Hinton 2019, "Similarity of neural network representations revisited"). With few
    clips in many dimensions it is too high; compare it at equal N only.

    Parameters
    ----------
    x : (N, P) array
    y : (N, Q) array

    Returns
    -------
    cka : float
        In [0, 1]; unchanged by rotation and scale. 0 if all rows of one are equal.
    """
    x, y = (z - z.mean(axis=0) for z in (x.astype(np.float64), y.astype(np.float64)))
    grams = x @ x.T, y @ y.T  # (N, N): clips are fewer than dimensions
    norm = np.linalg.norm(grams[0]) * np.linalg.norm(grams[1])
    return float((grams[0] * grams[1]).sum() / norm) if norm > 0 else 0.0


def drift(original: np.ndarray, decoded: np.ndarray, neutral: np.ndarray) -> float:
    """How far the mean of a class has moved on the way to that of the neutral class.

    Parameters
    ----------
    original, decoded : (N, P) array
        Pooled clips of the class before and after quantizing.
    neutral : (M, P) array
        Pooled clips of the neutral class before quantizing.

    Returns
    -------
    drift : float
        0: not moved in that direction; 1: arrived; negative: moved away.
    """
    start = original.mean(axis=0, dtype=np.float64)
    way = neutral.mean(axis=0, dtype=np.float64) - start
    moved = decoded.mean(axis=0, dtype=np.float64) - start
    return float(moved @ way / (way @ way))


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Bias-corrected squared distance correlation.

    Distance correlation (Szekely, Rizzo and Bakirov 2007, "Measuring and testing
    dependence by correlation of distances") with U-centred distances (Szekely and
    Rizzo 2013, "The distance correlation t-test of independence in high dimension"):
    its expectation is 0 under independence, whatever the dimensions.

    Parameters
    ----------
    x : (N, P) array
    y : (N, Q) array

    Returns
    -------
    correlation : float or None
        At most 1, may be negative; None with fewer than four rows, or if all rows of
        one are equal.
    """
    if len(x) < 4:
        return None
    a, b = _u_centred(x), _u_centred(y)
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 0 else None


def _u_centred(x: np.ndarray) -> np.ndarray:
    """Centre the distances of rows so that each row of them sums to zero off it."""
    distances = squareform(pdist(x.astype(np.float64)))
    n = len(distances)
    means = distances.sum(axis=1) / (n - 2)
    centred = distances - means - means[:, None] + means.sum() / (n - 1)
    np.fill_diagonal(centred, 0.0)
    return centred
