"""Bootstrap over speakers against the same thing done by repeating utterances."""

import numpy as np
import pytest

from emoq_plugin.evaluation.intervals import (
    draw_speakers,
    means_of_sums,
    percentile_interval,
    resample_sums,
    speaker_confusions,
    speaker_sums,
)
from emoq_plugin.evaluation.metrics import macro_f1, scores_of_confusion

SPEAKERS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
TRUTH = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1, 1])
GUESS = np.array([0, 1, 0, 0, 2, 1, 0, 0, 1, 0])


def resample_means(values, speakers, *, draws):
    n_speakers = draws.shape[1]
    ones = np.ones(len(values))
    sums, sizes = (
        speaker_sums(v, speakers, n_speakers=n_speakers) for v in (values, ones)
    )
    return means_of_sums(sums, sizes, draws)


def rows_of_draw(draw):
    return np.concatenate(
        [
            np.flatnonzero(s == SPEAKERS)
            for s, n in enumerate(draw)
            for _ in range(int(n))
        ]
    )


def test_a_draw_takes_as_many_speakers_as_there_are_and_is_seeded():
    draws = draw_speakers(7, 50, seed=3)
    assert draws.shape == (50, 7)
    assert (draws.sum(1) == 7).all()
    np.testing.assert_array_equal(draws, draw_speakers(7, 50, seed=3))
    assert (draws != draw_speakers(7, 50, seed=4)).any()


def test_one_speaker_cannot_be_resampled():
    with pytest.raises(ValueError, match="found 1 speaker"):
        draw_speakers(1)
    with pytest.raises(ValueError, match="n_resamples=0"):
        draw_speakers(2, 0)


def test_a_value_without_resamples_has_no_interval():
    expected = {"mean": 0.5, "low": None, "high": None}
    assert percentile_interval(0.5, np.zeros(0)) == expected


def test_resampled_f1_equals_f1_of_the_repeated_utterances():
    draws = draw_speakers(3, 20, seed=0)
    counts = speaker_confusions(
        TRUTH, GUESS, labels=[0, 1], speakers=SPEAKERS, n_speakers=3
    )
    assert counts.shape == (3, 2, 3)
    fast = scores_of_confusion(resample_sums(counts, draws))["macro_f1"]
    for value, draw in zip(fast, draws):
        rows = rows_of_draw(draw)
        assert value == pytest.approx(macro_f1(TRUTH[rows], GUESS[rows], labels=[0, 1]))


def test_resampled_means_equal_means_of_the_repeated_utterances():
    draws = draw_speakers(3, 20, seed=0)
    values = np.random.default_rng(0).normal(size=(10, 2))
    fast = resample_means(values, SPEAKERS, draws=draws)
    slow = [values[rows_of_draw(draw)].mean(0) for draw in draws]
    np.testing.assert_allclose(fast, slow)


def test_a_speaker_without_utterances_adds_nothing():
    sums = speaker_sums(np.ones((2, 3)), np.array([0, 2]), n_speakers=4)
    np.testing.assert_array_equal(sums[:, 0], [1, 0, 1, 0])
    draws = np.array([[0.0, 2.0, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    means = resample_means(np.ones((2, 3)), np.array([0, 2]), draws=draws)
    assert np.isnan(means[0]).all()
    assert (means[1] == 1).all()


def test_the_interval_holds_its_share_of_the_resamples():
    triple = percentile_interval(7.0, np.arange(1001.0), level=0.9)
    assert triple == pytest.approx({"mean": 7, "low": 50, "high": 950})
    assert percentile_interval(1, np.array([1, np.nan, 1])) == {
        "mean": 1.0,
        "low": 1.0,
        "high": 1.0,
    }
    with pytest.raises(ValueError, match="undefined in every resample"):
        percentile_interval(0, np.array([np.nan]))


def test_utterances_of_one_speaker_do_not_count_as_independent():
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(10), 30)
    values = (generator.normal(size=10)[speakers])[:, None]

    def width(clusters):
        draws = draw_speakers(clusters.max() + 1, 1000, seed=0)
        samples = resample_means(values, clusters, draws=draws)[:, 0]
        triple = percentile_interval(values.mean(), samples)
        return triple["high"] - triple["low"]

    assert width(speakers) > 3 * width(np.arange(300))


def test_a_paired_difference_of_equal_systems_is_exactly_zero():
    draws = draw_speakers(3, 100, seed=0)
    values = np.arange(10.0)[:, None]
    system = resample_means(values, SPEAKERS, draws=draws)[:, 0]
    other = resample_means(values - 2, SPEAKERS, draws=draws)[:, 0]
    triple = percentile_interval(2.0, system - other)
    assert triple["low"] == pytest.approx(2) and triple["high"] == pytest.approx(2)
