"""Metrics against hand-computed values and plain reference implementations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from emoq_plugin.evaluation.metrics import (
    PROBABILITY_FLOOR,
    SOFT_METRICS,
    brier,
    confusion,
    cosine_similarity,
    cross_entropy,
    jensen_shannon,
    kullback_leibler,
    macro_f1,
    per_class_recall,
    scores_of_confusion,
    top2_set,
    unweighted_average_recall,
)

# angry: 3 of 4 right; happy: 1 of 2 right (one is outside the set); sad: 1 of 1.
REFERENCE = ["angry", "angry", "angry", "angry", "happy", "happy", "sad"]
PREDICTED = ["angry", "angry", "angry", "sad", "happy", "bored", "sad"]
LABELS = ["angry", "happy", "sad"]


def reference_macro_f1(reference, predicted, labels):
    scores = []
    for label in labels:
        pairs = list(zip(reference, predicted))
        hit = sum(r == label and p == label for r, p in pairs)
        miss = sum(r == label and p != label for r, p in pairs)
        false = sum(r != label and p == label for r, p in pairs)
        scores.append(2 * hit / (2 * hit + miss + false))
    return sum(scores) / len(scores)


def test_hard_metrics_equal_a_hand_computed_example():
    recall = per_class_recall(REFERENCE, PREDICTED, labels=LABELS)
    np.testing.assert_allclose(recall, [3 / 4, 1 / 2, 1])
    uar = unweighted_average_recall(REFERENCE, PREDICTED, labels=LABELS)
    assert uar == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    scores = scores_of_confusion(confusion(REFERENCE, PREDICTED, labels=LABELS))
    assert scores["wa"] == pytest.approx(5 / 7)
    # F1: 6 / 7, 2 / 3, 2 / 3
    f1 = macro_f1(REFERENCE, PREDICTED, labels=LABELS)
    assert f1 == pytest.approx((6 / 7 + 2 / 3 + 2 / 3) / 3)


def test_a_prediction_outside_the_label_set_is_an_error_and_is_not_dropped():
    assert unweighted_average_recall([0, 1, 1], [0, 1, 7], labels=[0, 1]) == 0.75
    counts = confusion([0, 1, 1], [0, 1, 7], labels=[0, 1])
    assert scores_of_confusion(counts)["wa"] == pytest.approx(2 / 3)
    assert counts.sum() == 3


def test_a_class_that_is_absent_in_the_reference_must_be_left_out_by_name():
    with pytest.raises(ValueError, match=r"\['neutral'\] never occur"):
        macro_f1(["sad"], ["sad"], labels=["neutral", "sad"])
    assert macro_f1(["sad"], ["sad"], labels=["sad"]) == 1


@pytest.mark.parametrize(
    ("reference", "predicted", "labels", "message"),
    [
        ([0, 2], [0, 1], [0], r"\[2\] are not in the label set"),
        ([0, 1], [0], [0, 1], r"\(2,\) and predicted \(1,\)"),
        ([], [], [0], "non-empty"),
        ([0], [0], [0, 0], "twice"),
    ],
)
def test_wrong_labels_are_refused(reference, predicted, labels, message):
    with pytest.raises(ValueError, match=message):
        unweighted_average_recall(reference, predicted, labels=labels)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=30))
def test_scores_of_a_confusion_equal_scikit_learn(pairs):
    pairs = [*pairs, (0, 1), (1, 2), (2, 0)]  # every class occurs
    reference, predicted = map(list, zip(*pairs))
    labels = [0, 1, 2]
    scores = scores_of_confusion(confusion(reference, predicted, labels=labels))
    arguments = (reference, predicted)
    assert scores["macro_f1"] == pytest.approx(reference_macro_f1(*arguments, labels))
    assert scores["macro_f1"] == pytest.approx(macro_f1(*arguments, labels=labels))
    assert scores["wa"] == pytest.approx(accuracy_score(*arguments))
    assert scores["uar"] == pytest.approx(
        unweighted_average_recall(*arguments, labels=labels)
    )
    np.testing.assert_allclose(
        scores["recall"], per_class_recall(*arguments, labels=labels)
    )


def test_a_resample_without_a_class_averages_over_the_others():
    scores = scores_of_confusion(np.array([[3, 1, 0], [0, 0, 0]]))
    assert scores["uar"] == 0.75
    assert scores["macro_f1"] == pytest.approx(6 / 7)
    assert np.isnan(scores["recall"][1])


def test_soft_metrics_equal_a_hand_computed_example():
    target, predicted = [[0.5, 0.5, 0.0]], [[0.25, 0.25, 0.5]]
    assert kullback_leibler(target, predicted)[0] == pytest.approx(math.log(2))
    assert cross_entropy(target, predicted)[0] == pytest.approx(math.log(4))
    # m = (3/8, 3/8, 1/4): KL(t||m) = log(4/3), KL(p||m) = log(2/3)/2 + log(2)/2
    expected = (math.log(4 / 3) + math.log(2 / 3) / 2 + math.log(2) / 2) / 2
    assert jensen_shannon(target, predicted)[0] == pytest.approx(expected)
    assert brier(target, predicted)[0] == pytest.approx(2 / 16 + 1 / 4)
    cosine = 0.25 / math.sqrt(0.5 * 0.375)
    assert cosine_similarity(target, predicted)[0] == pytest.approx(cosine)


def distributions(n_classes=4):
    row = st.lists(st.integers(0, 5), min_size=n_classes, max_size=n_classes)
    row = row.filter(any).map(lambda counts: np.array(counts) / sum(counts))
    return st.lists(st.tuples(row, row), min_size=1, max_size=5)


@given(distributions())
def test_soft_metrics_equal_loops_over_the_definition(rows):
    target, predicted = (np.array(side) for side in zip(*rows))
    for n, (t, p) in enumerate(rows):
        floored = np.maximum(p, PROBABILITY_FLOOR)
        floored /= floored.sum()
        kl = sum(a * math.log(a / b) for a, b in zip(t, floored) if a)
        middle = (t + p) / 2
        js = sum(a * math.log(a / m) for a, m in zip(t, middle) if a) / 2
        js += sum(a * math.log(a / m) for a, m in zip(p, middle) if a) / 2
        entropy = -sum(a * math.log(a) for a in t if a)
        assert kullback_leibler(target, predicted)[n] == pytest.approx(kl, abs=1e-9)
        assert jensen_shannon(target, predicted)[n] == pytest.approx(js, abs=1e-9)
        assert cross_entropy(target, predicted)[n] == pytest.approx(kl + entropy)


@given(distributions())
def test_jensen_shannon_is_symmetric_and_the_square_of_the_scipy_distance(rows):
    from scipy.spatial.distance import jensenshannon

    target, predicted = (np.array(side) for side in zip(*rows))
    values = jensen_shannon(target, predicted)
    np.testing.assert_allclose(values, jensen_shannon(predicted, target), atol=1e-12)
    distances = jensenshannon(target, predicted, axis=1)
    np.testing.assert_allclose(values, np.nan_to_num(distances) ** 2, atol=1e-9)
    assert (values <= math.log(2) + 1e-12).all()


def test_identical_distributions_are_perfect():
    rows = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    perfect = {"kl": 0, "js": 0, "cosine": 1, "top2_set": [1, 1], "brier": 0}
    for name, value in perfect.items():
        if name != "top2_set":
            np.testing.assert_allclose(SOFT_METRICS[name](rows, rows), value, atol=1e-6)
    np.testing.assert_allclose(top2_set(rows[:1], rows[:1]), 1)


def test_a_certain_wrong_prediction_costs_much_but_not_infinity():
    cost = kullback_leibler([[1, 0]], [[0, 1]])
    assert cost[0] == pytest.approx(-math.log(PROBABILITY_FLOOR), rel=1e-6)


@pytest.mark.parametrize(
    ("target", "predicted", "credit"),
    [
        ([0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4], 0),
        ([0.5, 0.3, 0.2, 0.0], [0.3, 0.5, 0.1, 0.1], 1),  # order does not count
        ([0.5, 0.25, 0.25, 0.0], [0.5, 0.1, 0.3, 0.1], 1),  # either second is right
        ([0.5, 0.25, 0.25, 0.0], [0.1, 0.5, 0.4, 0.0], 0),  # the first is missing
        ([1, 0, 0, 0], [0.3, 0.4, 0.2, 0.1], 1),  # one-hot: its class is in the set
        ([0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.2, 0.1], 1),
        ([0.5, 0.3, 0.2, 0.0], [1, 0, 0, 0], 1 / 3),  # one of three ways to break it
        ([0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.25, 0.25], 1 / 6),
    ],
)
def test_top2_set_credits_ties_without_regard_to_class_order(target, predicted, credit):
    for shift in range(4):
        rolled = [np.roll(row, shift)[None] for row in (target, predicted)]
        assert top2_set(*rolled)[0] == pytest.approx(credit)


@pytest.mark.parametrize("metric", SOFT_METRICS.values())
def test_rows_that_are_not_distributions_are_refused(metric):
    good = [[0.5, 0.5], [1, 0]]
    for bad in ([[0.5, 0.5], [0.5, 0.4]], [[0.5, 0.5], [-1, 2]], [[0, 1], [np.nan, 1]]):
        with pytest.raises(ValueError, match="predicted row 1 is not a distribution"):
            metric(good, bad)
    with pytest.raises(ValueError, match=r"\(2, 2\) and predicted \(1, 2\)"):
        metric(good, [[1, 0]])
