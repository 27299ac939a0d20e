"""Ratings: the CCC, the ridge probe on a known relation, scores by speaker."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from emoq_plugin.evaluation.page import render_results
from emoq_plugin.evaluation.rating_probe import STRENGTHS, predict_ratings, ridge
from emoq_plugin.evaluation.ratings import ccc
from emoq_plugin.evaluation.results import Results
from tests.evaluation.small_experiment import (
    FOLDS,
    SPEAKER,
    UTTERANCES,
    FakeData,
    condition,
    score,
)


def noisy(seed=0, n=200):
    random = np.random.default_rng(seed)
    reference = random.normal(3, 1, n)
    return reference, reference + random.normal(0, 0.5, n)


def test_the_ccc_is_correlation_times_agreement_of_mean_and_spread():
    reference, predicted = noisy()
    ratio = predicted.std() / reference.std()
    shift = (predicted.mean() - reference.mean()) ** 2
    bias = 2 / (ratio + 1 / ratio + shift / predicted.std() / reference.std())
    expected = pearsonr(reference, predicted)[0] * bias
    assert ccc(reference, predicted) == pytest.approx(expected)
    assert ccc(reference, reference) == pytest.approx(1)
    assert ccc(reference, 6 - reference) < -0.9
    for worse in (predicted + 1, reference.mean() + 3 * (predicted - 3)):
        assert ccc(reference, worse) < ccc(reference, predicted) - 0.1
    assert ccc(reference, np.full(200, 3.0)) == pytest.approx(0, abs=1e-12)


def test_ridge_solves_the_normal_equations_with_a_free_intercept():
    random = np.random.default_rng(0)
    for n, size in ((40, 6), (8, 30)):
        inputs, values = random.normal(1, 2, (n, size)), random.normal(4, 1, n)
        new, strength = random.normal(size=(5, size)), 0.3
        x, mean = inputs - inputs.mean(0), values.mean()
        penalty = n * strength * np.eye(size)
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ (values - mean))
        expected = mean + (new - inputs.mean(0)) @ weights
        found = ridge(inputs, values, new, np.array([strength, 1e9]))
        np.testing.assert_allclose(found[0], expected)
        np.testing.assert_allclose(found[1], mean, atol=1e-5)


def related(n=300, size=20, seed=0):
    """Arousal is a line of the inputs with noise, valence is noise, dominance rare."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(n, size))
    slope = random.normal(size=size)
    arousal = 3 + inputs @ slope / np.linalg.norm(slope) + random.normal(0, 0.2, n)
    dominance = np.where(np.arange(n) == 7, 4.0, np.nan)
    return inputs, np.stack([arousal, random.normal(3, 1, n), dominance], axis=1)


def test_a_known_relation_is_found_on_new_clips_and_noise_is_not():
    inputs, ratings = related()
    speakers = [f"s{n % 8}" for n in range(200)]
    ratings[:50, 0] = np.nan  # clips without a rating do not count
    found = predict_ratings(inputs[:200], ratings[:200], speakers, inputs[200:])
    assert set(found) == {"arousal", "valence"}  # one rating is no relation
    assert ccc(ratings[200:, 0], np.array(found["arousal"])) > 0.95
    assert abs(ccc(ratings[200:, 1], np.array(found["valence"]))) < 0.2
    alone = predict_ratings(
        inputs[50:200], ratings[50:200], speakers[50:], inputs[200:]
    )
    np.testing.assert_allclose(found["arousal"], alone["arousal"])


def test_the_strength_is_chosen_on_speakers_that_were_not_fitted(monkeypatch):
    speaker = np.arange(120) % 7
    inputs = np.stack([speaker, np.arange(120) / 120], axis=1)
    tried, fits = [], []

    def spy(known, values, new, strengths):
        if len(strengths) > 1:
            assert not set(known[:, 0]) & set(new[:, 0])
            tried.extend(new[:, 1])
        fits.append(strengths)
        return ridge(known, values, new, strengths)

    monkeypatch.setattr("emoq_plugin.evaluation.rating_probe.ridge", spy)
    ratings = np.stack([inputs[:, 1] * 4 + 1, *np.full((2, 120), np.nan)], axis=1)
    found = predict_ratings(inputs, ratings, [f"s{n}" for n in speaker], inputs)
    assert sorted(tried) == inputs[:, 1].tolist()
    # A line without noise asks for the weakest penalty.
    assert len(fits) == 6 and fits[-1] == STRENGTHS.min()
    np.testing.assert_allclose(found["arousal"], ratings[:, 0], atol=0.05)


def rated(noise, seed=0, given=None):
    """Return ratings and conditions whose arousal is off by noise of this size."""
    random = np.random.default_rng(seed)
    arousal = dict(zip(UTTERANCES, random.uniform(1, 5, len(UTTERANCES))))
    found = []
    for system, size in noise.items():
        for fold, members in FOLDS.items():
            guess = [arousal[u] + random.normal(0, size) for u in members]
            found.append(condition(fold, system=system, ratings={"arousal": guess}))
    ratings = {u: [arousal[u], np.nan, np.nan] for u in given or UTTERANCES}
    return FakeData(ratings=ratings), found


def test_scores_and_page_have_the_ccc_where_ratings_are_given(tmp_path):
    data, conditions = rated({"balanced": 2.0, "specific-distortion": 0.1})
    conditions += [condition(fold, system="balanced", head="frozen") for fold in FOLDS]
    results = score(tmp_path, conditions, data)
    found = {s.key: s.ratings for s in results.scores}
    assert found["64x1/balanced/frozen"] is None
    good, poor = (
        found[f"64x1/{s}/retrained"]["arousal"]
        for s in ("specific-distortion", "balanced")
    )
    assert set(found["64x1/balanced/retrained"]) == {"arousal"}
    guess = np.concatenate([c.ratings["arousal"] for c in conditions[2:4]])
    truth = np.array([data.ratings[u][0] for u in UTTERANCES])
    assert good["mean"] == pytest.approx(ccc(truth, guess))
    assert good["by_seed"] == [good["mean"]]
    for triple in (good, poor):
        assert triple["low"] < triple["mean"] < triple["high"]
    change = results.difference(
        results.score("64x1", "specific-distortion"), "balanced", "ccc/arousal"
    )
    assert change["mean"] == pytest.approx(good["mean"] - poor["mean"])
    assert 0 < change["low"] < change["mean"]
    page = render_results(results)
    [row] = [x for x in page.splitlines() if f"{good['mean']:.3f} [" in x]
    assert (
        f"{change['mean']:+.3f} [" in row
        and "valence" not in page.split("Command")[0][page.index("Concordance") :]
    )
    results.write(tmp_path / "scores.json")
    assert Results.read(tmp_path / "scores.json") == results


def test_intervals_are_over_speakers(tmp_path):
    """One speaker whose ratings are missed widens the interval as much as it should."""
    data, conditions = rated({"balanced": 0.1})
    missed = [u for u in UTTERANCES if SPEAKER[u] == "s3"]
    for c in conditions:
        for n, u in enumerate(c.utterances):
            if u in missed:
                c.ratings["arousal"][n] = 6 - data.ratings[u][0]
    found = score(tmp_path, conditions, data).scores[0].ratings["arousal"]
    assert found["low"] + 0.3 < found["mean"] < 0.9 < 0.97 < found["high"]


def test_only_rated_clips_count_and_without_ratings_there_is_nothing(tmp_path):
    some = UTTERANCES[::2]
    data, conditions = rated({"balanced": 1.0}, given=some)
    found = score(tmp_path, conditions, data).scores[0].ratings["arousal"]
    guess = dict(
        zip(UTTERANCES, np.concatenate([c.ratings["arousal"] for c in conditions]))
    )
    truth = np.array([data.ratings[u][0] for u in some])
    expected = ccc(truth, np.array([guess[u] for u in some]))
    assert found["mean"] == pytest.approx(expected)
    bare = score(tmp_path / "bare", conditions)
    assert all(s.ratings is None for s in bare.scores)
    assert "Concordance" not in render_results(bare)
