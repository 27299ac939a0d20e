"""Scoring of an experiment: pooling of folds, systems beside each other."""

import numpy as np
import pytest

from emoq_plugin.evaluation.metrics import jensen_shannon, macro_f1
from emoq_plugin.evaluation.predictions import Prediction
from tests.evaluation.small_experiment import (
    EMOTIONS,
    FOLDS,
    LABELS,
    UTTERANCES,
    FakeData,
    condition,
    score,
    study,
)

SYSTEM = "specific-distortion"


def test_all_folds_are_pooled_before_the_metric_is_computed(tmp_path):
    results = score(tmp_path, study())
    found = results.score("64x1", "balanced")
    rows = np.concatenate([condition(f).posteriors for f in FOLDS])
    truth = [LABELS[u] for u in UTTERANCES]
    f1 = macro_f1(truth, rows.argmax(1), labels=[0, 1, 2])
    assert found.metrics["macro_f1"]["mean"] == pytest.approx(f1)
    js = jensen_shannon(np.eye(3)[truth], rows).mean()
    assert found.metrics["js"]["mean"] == pytest.approx(js, abs=1e-7)
    assert found.bitrate_bps["entropy"] == pytest.approx(205)
    assert np.trace(found.confusion) == (rows.argmax(1) == truth).sum()
    [experiment] = results.experiments
    assert (experiment.n_utterances, experiment.n_speakers) == (24, 4)
    assert experiment.folds == ["0", "1"] and experiment.soft_targets == "one-hot"
    keys = {score.key for score in results.scores}
    assert keys >= {"continuous/retrained", "4x2/balanced/retrained"}


def test_every_metric_lies_in_its_interval(tmp_path):
    for found in score(tmp_path, study()).scores:
        for name in ("macro_f1", "uar", "wa", "kl", "js", "cosine", "brier"):
            metric = found.metrics[name]
            assert metric["low"] <= metric["mean"] <= metric["high"]
        assert set(found.metrics["recall"]) == set(EMOTIONS)


def test_differences_are_to_balanced_of_the_same_rate_and_head(tmp_path):
    results = score(tmp_path, study())
    routed, balanced = (results.score("64x1", s) for s in (SYSTEM, "balanced"))
    change = results.difference(routed, "balanced", "macro_f1")
    gain = routed.metrics["macro_f1"]["mean"] - balanced.metrics["macro_f1"]["mean"]
    assert change["mean"] == pytest.approx(gain)
    assert change["low"] > 0 > results.difference(routed, "balanced", "js")["high"]
    # Paired: the control predicts what balanced predicts, so there is no width.
    same = results.score("64x1", "capacity-distortion")
    same = results.difference(same, "balanced", "macro_f1")
    assert same == {"mean": 0.0, "low": 0.0, "high": 0.0}
    alone = [balanced, results.score("continuous", "continuous")]
    alone.append(results.score("64x1", "specific-oracle", "route"))
    assert not any(results.difference(s, "balanced", "macro_f1") for s in alone)


def test_bits_of_folds_are_weighted_by_seconds(tmp_path):
    conditions = [
        condition("0", bits=100.0, seconds=10.0),  # as many clips in both folds
        condition("1", bits=200.0, seconds=30.0),
    ]
    found = score(tmp_path, conditions).score("64x1", "balanced").bitrate_bps
    assert found["entropy"] == (10 * 100 + 30 * 200) / 40


def test_one_speaker_gives_scores_without_intervals_and_says_why(tmp_path, monkeypatch):
    alone = dict.fromkeys(UTTERANCES, "s0")
    monkeypatch.setattr("tests.evaluation.small_experiment.SPEAKER", alone)
    results = score(tmp_path, study())
    found = results.score("64x1", SYSTEM)
    change = results.difference(found, "balanced", "macro_f1")
    for triple in (found.metrics["macro_f1"], change):
        assert np.isfinite(triple["mean"])
        assert triple["low"] is None and triple["high"] is None
    assert "one test speaker" in results.experiments[0].no_interval


def test_the_order_of_utterances_and_the_seed_decide_nothing_else(tmp_path):
    conditions = study()
    turned = [
        Prediction(
            **{
                **vars(c),
                "utterances": c.utterances[::-1],
                "posteriors": c.posteriors[::-1],
            }
        )
        for c in conditions
    ]
    first = score(tmp_path / "a", conditions, seed=1)
    assert score(tmp_path / "b", turned, seed=1) == first
    assert score(tmp_path / "c", conditions, seed=2).scores != first.scores


def test_votes_are_the_soft_targets_and_split_by_ambiguity(tmp_path):
    clear, split = np.array([4.0, 1.0, 0.0]), np.array([2.0, 2.0, 1.0])
    votes = {u: clear if n % 4 else split for n, u in enumerate(UTTERANCES)}
    results = score(tmp_path, study(), FakeData(votes=votes))
    found = results.score("64x1", "balanced")
    assert results.experiments[0].soft_targets == "votes"
    low, high = found.ambiguity["low"], found.ambiguity["high"]
    assert (low["n_utterances"], high["n_utterances"]) == (18, 6)
    pooled = (18 * low["js"]["mean"] + 6 * high["js"]["mean"]) / 24
    assert found.metrics["js"]["mean"] == pytest.approx(pooled)


def test_utterances_without_a_majority_count_only_in_soft_metrics(tmp_path):
    votes = {u: np.array([1.0, 1.0, 0.0]) for u in UTTERANCES[:3]}
    labels = {u: n for u, n in LABELS.items() if u not in votes}
    results = score(tmp_path, study(), FakeData(votes=votes, labels=labels))
    [experiment] = results.experiments
    assert (experiment.n_utterances, experiment.n_labelled) == (24, 21)
    truth = [LABELS[u] for u in UTTERANCES[3:]]
    rows = np.concatenate([condition(f).posteriors for f in FOLDS])[3:]
    f1 = macro_f1(truth, rows.argmax(1), labels=[0, 1, 2])
    found = results.score("64x1", "balanced").metrics["macro_f1"]["mean"]
    assert found == pytest.approx(f1)


def test_a_class_that_the_corpus_lacks_is_not_averaged_over(tmp_path):
    labels = {u: 0 if n == 2 else n for u, n in LABELS.items()}
    results = score(tmp_path, study(), FakeData(labels=labels))
    assert results.experiments[0].scored_emotions == ["angry", "happy"]
    recall = results.score("continuous", "continuous").metrics["recall"]
    assert set(recall) == {"angry", "happy"}


def without(fold, **which):
    return [
        c
        for c in study()
        if c.fold != fold or any(getattr(c, k) != v for k, v in which.items())
    ]


def test_a_condition_that_misses_a_fold_is_refused(tmp_path):
    conditions = without("1", system="specific-oracle")
    with pytest.raises(ValueError, match=r"64x1/specific-oracle/route misses .*'1'"):
        score(tmp_path, conditions)


def test_a_condition_predicted_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="balanced/retrained is predicted twice"):
        score(tmp_path, [*study(), condition("0")])


def test_an_utterance_in_two_folds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(FOLDS, "1", UTTERANCES[11:])
    with pytest.raises(ValueError, match="s1-5 is predicted in fold 0 and in fold 1"):
        score(tmp_path, [condition("0"), condition("1")])


def test_conditions_with_other_utterances_are_refused(tmp_path, monkeypatch):
    conditions = [condition("0"), condition("1")]
    monkeypatch.setitem(FOLDS, "1", UTTERANCES[12:23])
    with pytest.raises(ValueError, match=r"fold 1: utterances \['s3-5'\]"):
        score(
            tmp_path,
            [*conditions, condition("0", rate="4x1"), condition("1", rate="4x1")],
        )


def test_other_classes_and_unknown_utterances_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected .*'sad', 'happy'"):
        score(tmp_path, study(), emotions=["angry", "sad", "happy"])
    data = FakeData()
    data.speaker = {}
    with pytest.raises(ValueError, match="not in utt2spk"):
        score(tmp_path, study(), data)
