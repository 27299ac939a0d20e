"""The best system of each kind at a rate: chosen without the clips it is scored on."""

import numpy as np
import pytest

from emoq_plugin.evaluation.metrics import macro_f1
from tests.evaluation.small_experiment import (
    FOLDS,
    LABELS,
    UTTERANCES,
    condition,
    score,
    study,
)


def best(results, rate, role):
    found = [b for b in results.best if (b.rate, b.role) == (rate, role)]
    assert len(found) == 1
    return found[0]


def test_each_fold_takes_the_system_that_is_best_on_the_other_folds(tmp_path):
    conditions = [condition(fold) for fold in FOLDS]
    for system, right in (("specific-gain", (1.0, 0.0)), ("specific-soft", (0.0, 0.6))):
        conditions += [
            condition(fold, system=system, right=share)
            for fold, share in zip(FOLDS, right)
        ]
    results = score(tmp_path, conditions)
    found = best(results, "64x1", "emoq")
    # The first is better on all clips together, and only for what it does in fold 0.
    assert found.systems == {"0": "specific-soft", "1": "specific-gain"}
    chosen = [condition(fold, right=0.0).posteriors for fold in FOLDS]
    truth = [LABELS[u] for u in UTTERANCES]
    f1 = macro_f1(truth, np.concatenate(chosen).argmax(1), labels=[0, 1, 2])
    assert found.macro_f1["mean"] == pytest.approx(f1)


def test_controls_are_never_the_best_emoq(tmp_path):
    conditions = study() + [
        condition(fold, system=system, right=1.0)
        for fold in FOLDS
        for system in ("specific-oracle", "balanced+specific-distortion")
    ]
    results = score(tmp_path, [c for c in conditions if c.head == "retrained"])
    taken = {s for found in results.best for s in found.systems.values()}
    assert taken == {"balanced", "specific-distortion", "capacity-distortion"}


def test_differences_are_paired_and_between_the_chosen(tmp_path):
    results = score(tmp_path, study())
    found = best(results, "64x1", "emoq")
    for other in ("balanced", "capacity"):
        change = found.differences[other]
        value = best(results, "64x1", other).macro_f1["mean"]
        assert change["mean"] == pytest.approx(found.macro_f1["mean"] - value)
        assert change["low"] <= change["mean"] <= change["high"]
    assert found.bitrate_bps == 300.5  # nominal and the route
    assert {b.rate for b in results.best} == {"64x1", "4x2"}


def test_one_fold_takes_the_default_system(tmp_path, monkeypatch):
    monkeypatch.delitem(FOLDS, "1")
    conditions = [
        condition("0", system=system, right=right)
        for system, right in (
            ("balanced", 0.5),
            ("specific-cosine", 1.0),
            ("specific-distortion", 0.2),
        )
    ]
    results = score(tmp_path, conditions)
    assert best(results, "64x1", "emoq").systems == {"0": "specific-distortion"}


def test_two_scale_systems_have_a_column_of_their_own(tmp_path):
    conditions = study() + [
        condition(fold, system="balanced+clip32", right=0.9) for fold in FOLDS
    ]
    found = best(score(tmp_path, conditions), "64x1", "two_scale")
    assert set(found.systems.values()) == {"balanced+clip32"}
    assert set(found.differences) == {"balanced", "emoq", "capacity"}
