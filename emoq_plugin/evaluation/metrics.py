"""Hard and soft emotion metrics: pure functions on an explicit label set.

Hard metrics compare one reference label with one predicted label an utterance. Soft
metrics compare two distributions over the classes and give one value an utterance, so
that a mean, a split or a bootstrap over speakers can be taken of them afterwards.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.special import entr, rel_entr

# Predicted probabilities are not taken below this in logarithms (float32 resolution):
# a one-hot prediction that is wrong costs -log(1e-7) = 16.1 nats and not infinity.
PROBABILITY_FLOOR = 1e-7
SUM_TOLERANCE = 1e-4


def positions(values: np.ndarray, labels: Sequence) -> np.ndarray:
    """Return the position of each value in the label set, C for a value outside it.

    Parameters
    ----------
    values : (N,) array
        Labels, integers or strings.
    labels : sequence of C labels
        The explicit label set.

    Returns
    -------
    (N,) int64 array
        In 0 .. C.
    """
    same = np.asarray(values)[:, None] == np.asarray(labels)[None, :]  # (N, C)
    return np.where(same.any(1), same.argmax(1), len(labels)).astype(np.int64)


def _check_hard(reference, predicted, labels) -> tuple[np.ndarray, np.ndarray, list]:
    reference, predicted = np.asarray(reference), np.asarray(predicted)
    labels = list(labels)
    if reference.ndim != 1 or reference.shape != predicted.shape or not reference.size:
        raise ValueError(
            f"reference {reference.shape} and predicted {predicted.shape} must be two "
            "equally long, non-empty lists of labels"
        )
    if len(set(labels)) != len(labels):
        raise ValueError(f"the label set {labels} names a class twice")
    found = set(reference.tolist())
    if outside := found - set(labels):
        raise ValueError(
            f"reference labels {sorted(outside)} are not in the label set {labels}"
        )
    if absent := [label for label in labels if label not in found]:
        raise ValueError(
            f"classes {absent} never occur in the reference: leave them out of the "
            f"label set {labels}, a mean over classes would count them as 0"
        )
    return reference, predicted, labels


def confusion(
    reference: Sequence, predicted: Sequence, *, labels: Sequence
) -> np.ndarray:
    """Count reference class (row) against predicted class (column).

    Parameters
    ----------
    reference, predicted : (N,) array
        Labels, integers or strings.
    labels : sequence of C labels
        The explicit label set.

    Returns
    -------
    (C, C + 1) int64 array
        The last column counts the predictions outside the label set.

    Raises
    ------
    ValueError
        If the reference holds a label outside the set or lacks one of the set.

    Examples
    --------
    >>> confusion(["a", "a", "b"], ["a", "c", "b"], labels=["a", "b"])
    array([[1, 0, 1],
           [0, 1, 0]])
    """
    reference, predicted, labels = _check_hard(reference, predicted, labels)
    counts = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    np.add.at(counts, (positions(reference, labels), positions(predicted, labels)), 1)
    return counts


def macro_f1(reference: Sequence, predicted: Sequence, *, labels: Sequence) -> float:
    """Average the F1 of every class of the label set (scikit-learn).

    Parameters and errors are those of `confusion`. A prediction outside the label set
    is a miss of its reference class, never dropped.
    """
    from sklearn.metrics import f1_score

    reference, predicted, labels = _check_hard(reference, predicted, labels)
    return float(f1_score(reference, predicted, labels=labels, average="macro"))


def per_class_recall(
    reference: Sequence, predicted: Sequence, *, labels: Sequence
) -> np.ndarray:
    """Return the recall of every class of the label set, (C,) float64 (scikit-learn).

    Parameters and errors are those of `confusion`.
    """
    from sklearn.metrics import recall_score

    reference, predicted, labels = _check_hard(reference, predicted, labels)
    return recall_score(reference, predicted, labels=labels, average=None)


def unweighted_average_recall(
    reference: Sequence, predicted: Sequence, *, labels: Sequence
) -> float:
    """Average the recall of every class of the label set: UAR, or macro-recall.

    Parameters and errors are those of `confusion`.

    Examples
    --------
    >>> unweighted_average_recall([0, 0, 0, 0, 1], [0, 0, 0, 9, 1], labels=[0, 1])
    0.875
    """
    return float(per_class_recall(reference, predicted, labels=labels).mean())


def scores_of_confusion(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute macro-F1, UAR, WA and recalls of many confusion matrices at once.

    Parameters
    ----------
    counts : (..., C, C + 1) array
        As `confusion` gives them, for example one a bootstrap resample.

    Returns
    -------
    dict of str to array
        `macro_f1`, `uar`, `wa` (...), `recall` and `f1` (..., C) float64. A class
        without reference in a resample has NaN and is left out of that resample's
        means.
    """
    counts = np.asarray(counts, dtype=np.float64)
    n_classes = counts.shape[-2]
    hits = np.diagonal(counts, axis1=-2, axis2=-1)  # (..., C)
    actual = counts.sum(-1)
    claimed = counts[..., :n_classes].sum(-2)
    present = actual > 0
    n_present = present.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / actual
        f1 = 2 * hits / (actual + claimed)
        return {
            "macro_f1": np.where(present, f1, 0).sum(-1) / n_present,
            "uar": np.where(present, recall, 0).sum(-1) / n_present,
            "wa": hits.sum(-1) / actual.sum(-1),
            "recall": recall,
            "f1": np.where(present, f1, np.nan),
        }


def _check_soft(target, predicted) -> tuple[np.ndarray, np.ndarray]:
    target = np.asarray(target, dtype=np.float64)
    predicted = np.asarray(predicted, dtype=np.float64)
    if target.ndim != 2 or target.shape != predicted.shape or target.shape[1] < 2:
        raise ValueError(
            f"target {target.shape} and predicted {predicted.shape} must both be "
            "(utterances, classes) with at least two classes"
        )
    for what, rows in (("target", target), ("predicted", predicted)):
        check_distributions(rows, what=what)
    return target, predicted


def check_distributions(rows: np.ndarray, *, what: str) -> None:
    """Refuse rows that are not distributions.

    Parameters
    ----------
    rows : (N, C) float64 array
        Distributions, one a row.
    what : str
        Named in the message.

    Raises
    ------
    ValueError
        For the first row that is not finite, has a negative entry or does not sum to 1.
    """
    sums = rows.sum(1)
    # NaN fails every comparison, so it is found by asking what is right.
    right = (rows >= 0).all(1) & (np.abs(sums - 1) <= SUM_TOLERANCE)
    if not right.all():
        row = int(np.flatnonzero(~right)[0])
        raise ValueError(
            f"{what} row {row} is not a distribution: {rows[row].tolist()} has sum "
            f"{sums[row]:.6g}, expected finite values >= 0 with sum 1"
        )


def _floored(predicted: np.ndarray) -> np.ndarray:
    floored = np.maximum(predicted, PROBABILITY_FLOOR)
    return floored / floored.sum(1, keepdims=True)


def kullback_leibler(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute KL(target || predicted) = sum_c t_c log(t_c / p_c) in nats.

    Parameters
    ----------
    target : (N, C) float64 array
        Reference distributions, rows sum to 1.
    predicted : (N, C) float64 array
        Posteriors, rows sum to 1; floored at `PROBABILITY_FLOOR`.

    Returns
    -------
    (N,) float64 array
        One value an utterance, >= 0.

    Raises
    ------
    ValueError
        If the shapes differ or a row is not a distribution.
    """
    target, predicted = _check_soft(target, predicted)
    return rel_entr(target, _floored(predicted)).sum(1)


def cross_entropy(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute -sum_c t_c log p_c in nats: KL plus the target's own entropy.

    Parameters and errors are those of `kullback_leibler`.
    """
    return kullback_leibler(target, predicted) + entr(target).sum(1)


def jensen_shannon(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the Jensen-Shannon divergence in nats, 0 .. log 2.

    (KL(t || m) + KL(p || m)) / 2 with m = (t + p) / 2 (Lin, 1991). It is the square of
    what `scipy.spatial.distance.jensenshannon` calls the distance. Needs no floor.
    Parameters and errors are those of `kullback_leibler`.

    Examples
    --------
    >>> jensen_shannon([[1, 0]], [[0, 1]]).round(4).tolist()
    [0.6931]
    """
    target, predicted = _check_soft(target, predicted)
    middle = (target + predicted) / 2
    return (rel_entr(target, middle) + rel_entr(predicted, middle)).sum(1) / 2


def cosine_similarity(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the cosine between the two distributions as vectors, 0 .. 1.

    Parameters and errors are those of `kullback_leibler`.
    """
    target, predicted = _check_soft(target, predicted)
    norms = np.linalg.norm(target, axis=1) * np.linalg.norm(predicted, axis=1)
    return (target * predicted).sum(1) / norms


def brier(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Compute the squared error summed over the classes, 0 .. 2 (Brier, 1950).

    Parameters and errors are those of `kullback_leibler`.
    """
    target, predicted = _check_soft(target, predicted)
    return ((target - predicted) ** 2).sum(1)


def _top2_sets(rows: np.ndarray) -> np.ndarray:
    """Mark every pair of classes that is a top-2 set: none outside is larger."""
    n_classes = rows.shape[1]
    pairs = list(combinations(range(n_classes), 2))
    marks = np.ones((len(rows), len(pairs)), dtype=bool)
    for number, pair in enumerate(pairs):
        rest = [c for c in range(n_classes) if c not in pair]
        if rest:
            marks[:, number] = rows[:, pair].min(1) >= rows[:, rest].max(1)
    return marks


def top2_set(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return whether the two most probable classes are the two most voted ones.

    Order within the set does not count. Where votes tie, every set of two that leaves
    no larger class outside is right (a one-hot target: every set with its class). Where
    posteriors tie, the credit is the share of right sets among the predicted ones: what
    breaking the tie at random earns on average. Class order never matters.
    Parameters and errors are those of `kullback_leibler`.

    Returns
    -------
    (N,) float64 array
        Credit in 0 .. 1.

    Examples
    --------
    >>> top2_set([[0.5, 0.3, 0.2], [1, 0, 0]], [[0.4, 0.6, 0], [0, 0.6, 0.4]]).tolist()
    [1.0, 0.0]
    """
    target, predicted = _check_soft(target, predicted)
    right, claimed = _top2_sets(target), _top2_sets(predicted)
    return (right & claimed).sum(1) / claimed.sum(1)


# Name in scores.json -> function; every soft metric is a mean of these over utterances.
SOFT_METRICS = {
    "kl": kullback_leibler,
    "js": jensen_shannon,
    "cosine": cosine_similarity,
    "cross_entropy": cross_entropy,
    "top2_set": top2_set,
    "brier": brier,
}
