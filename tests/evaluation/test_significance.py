"""Differences, exchange tests and Holm against what can be counted by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoq_plugin.evaluation import significance
from emoq_plugin.evaluation.intervals import SpeakerSums, draw_speakers, with_everyone
from emoq_plugin.evaluation.metrics import SOFT_METRICS
from emoq_plugin.evaluation.results import Comparison
from emoq_plugin.evaluation.significance import (
    adjust,
    compare,
    exchange_test,
    exchanges,
    holm,
    mean_metrics,
    with_seeds,
)


def sums(right, n_clips=4):
    """Return a system that gets `right[s]` of each class of speaker s, of `n_clips`."""
    right = np.asarray(right, dtype=float)
    confusions = np.zeros((len(right), 2, 3))
    for c in range(2):
        confusions[:, c, c] = right
        confusions[:, c, 1 - c] = n_clips - right
    soft = np.repeat(n_clips - right[:, None], len(SOFT_METRICS), axis=1)
    return SpeakerSums(confusions, soft, np.full(len(right), 2.0 * n_clips), ("a", "b"))


def comparison(family, p):
    names = ("x", "64x1", "retrained", "specific-soft", "balanced", "uar")
    return Comparison(family, *names, {"mean": 0.1, "low": 0.0, "high": 0.2}, p)


def weights(n_speakers):
    return with_everyone(draw_speakers(n_speakers, 200))


def test_an_system_does_not_differ_from_itself():
    system = [sums([1, 2, 3, 0]), sums([2, 2, 4, 1])]
    for metric in compare(system, system, weights(4)).values():
        assert metric["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
        assert metric["p"] == 1.0


def test_the_smallest_p_value_is_reached_when_every_speaker_agrees():
    better, worse = [sums([4, 3, 4, 4, 3])], [sums([2, 1, 3, 1, 2])]
    assert exchange_test(better, worse)["wa"] == 2 / 2**5
    assert exchange_test(better, worse)["js"] == 2 / 2**5


def test_the_exact_test_counts_the_exchanges_that_are_as_extreme():
    system, reference = [4, 1, 3], [1, 2, 1]
    differences = np.array(system) - np.array(reference)
    signs = np.array(list(product([1, -1], repeat=3)))
    extreme = np.abs(signs @ differences) >= abs(differences.sum())
    found = exchange_test([sums(system)], [sums(reference)])
    assert found["wa"] == extreme.mean() == 0.5
    assert found["uar"] == found["wa"]  # as many clips of each class


def test_the_order_of_the_systems_does_not_matter():
    system, reference = [sums([4, 1, 3, 2])], [sums([1, 2, 1, 2])]
    assert exchange_test(system, reference) == exchange_test(reference, system)


def test_random_exchanges_come_close_to_all_of_them(monkeypatch):
    random = np.random.default_rng(0)
    system, reference = (sums(random.integers(5, size=10)) for _ in range(2))
    exact = exchange_test([system], [reference])
    monkeypatch.setattr(significance, "EXACT_SPEAKERS", 0)
    drawn = exchange_test([system], [reference])
    for name in ("macro_f1", "uar", "js"):
        assert drawn[name] == pytest.approx(exact[name], abs=0.03)
    assert (exchanges(10)[0] == 0).all()


def test_seeds_of_a_speaker_are_exchanged_together():
    # Twice the seeds add no evidence: p stays what one seed gives.
    system, reference = sums([4, 3, 4]), sums([2, 1, 3])
    once = exchange_test([system], [reference])
    assert exchange_test([system] * 2, [reference] * 2) == once


def test_metrics_of_seeds_are_averaged_and_kept_beside_the_mean():
    systems = [sums([4, 4]), sums([2, 2])]
    found = with_seeds(systems, weights(2))
    assert found["wa"]["by_seed"] == [1.0, 0.5]
    assert found["wa"]["mean"] == 0.75
    assert found["recall"]["a"]["by_seed"] == [1.0, 0.5]
    assert mean_metrics(systems, np.ones((1, 2)))["wa"] == [0.75]


def test_an_interval_of_a_difference_is_paired():
    # Speakers differ much, the systems by one clip for each: no width at all.
    system, reference = [sums([4, 1, 3, 2])], [sums([3, 0, 2, 1])]
    found = compare(system, reference, weights(4))["wa"]["difference"]
    assert found["low"] == pytest.approx(found["mean"]) == pytest.approx(0.25)


def test_recalls_are_compared_class_by_class():
    found = compare([sums([4, 4])], [sums([2, 2])], weights(2))
    assert found["recall/a"]["difference"]["mean"] == 0.5
    assert {n for n in found if n.startswith("recall")} >= {"recall/a"}
    assert found["recall/a"]["p"] == 0.5  # 2 of 4 exchanges are as large


def test_a_metric_that_nobody_defines_is_left_out():
    system = [sums([1, 2])]
    system[0].confusions[:] = 0
    found = compare(system, system, weights(2))
    assert "macro_f1" not in found and found["js"]["p"] == 1.0


def test_one_speaker_is_compared_without_interval_and_test():
    found = compare([sums([4])], [sums([1])], with_everyone(np.ones((0, 1))))["wa"]
    assert found["difference"] == {"mean": 0.75, "low": None, "high": None}
    assert found["p"] is None
    family = [comparison("f", p) for p in (0.01, None, 0.04)]
    assert [c.p_holm for c in adjust(family)] == [0.02, None, 0.04]


def test_holm_by_hand():
    # Sorted .01 .02 .03 .2 count 4, 3, 2, 1 times: .04 .06 .06 .2.
    assert holm([0.2, 0.03, 0.01, 0.02]) == pytest.approx([0.2, 0.06, 0.04, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_raw_value_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for raw, p in zip(p_values, adjusted):
        assert raw <= p <= min(1.0, len(p_values) * raw) or p == raw
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_families_are_adjusted_apart():
    rows = [("x", 0.02), ("y", 0.02), ("x", 0.5)]
    found = adjust([comparison(f, p) for f, p in rows])
    assert [c.p_holm for c in found] == [0.04, 0.02, 0.5]
