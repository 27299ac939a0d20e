"""Entropy and mutual information: known values, bias, and nulls that are honest."""

import numpy as np
import pytest

from emoq_plugin.evaluation.information import (
    clip_information,
    contingency,
    entropy,
    information,
    mutual_information,
    permuted_by_clip,
    shifted,
)


def test_entropy_of_equal_and_of_certain_outcomes():
    assert entropy(np.full(8, 5)) == pytest.approx(3)
    assert entropy(np.array([0, 7, 0])) == 0
    assert entropy(np.array([[1, 3], [0, 4]])) == pytest.approx(0.375 + 0.53064 + 0.5)


def test_identical_labels_give_their_entropy():
    labels = np.random.default_rng(0).choice(4, 4000, p=[0.4, 0.3, 0.2, 0.1])
    joint = contingency(labels, labels, shape=(4, 4))
    plug_in, corrected = mutual_information(joint)
    assert plug_in == pytest.approx(entropy(np.bincount(labels)))
    assert corrected == pytest.approx(plug_in, abs=0.001)


def test_the_correction_removes_the_bias_of_independent_variables():
    random = np.random.default_rng(0)
    found = np.array(
        [
            mutual_information(
                contingency(
                    random.integers(16, size=2000),
                    random.integers(8, size=2000),
                    shape=(16, 8),
                )
            )
            for _ in range(50)
        ]
    )
    plug_in, corrected = found.mean(axis=0)
    assert plug_in == pytest.approx(15 * 7 / (2 * 2000 * np.log(2)), rel=0.1)
    assert abs(corrected) < 0.004


def test_weights_are_repetitions():
    random = np.random.default_rng(1)
    units, labels = random.integers(5, size=60), random.integers(3, size=60)
    weights = random.integers(1, 6, size=60)
    options = {"null": [np.roll(labels, 7)], "n_labels": 3}
    weighted = information(units, labels, weights=weights, **options)
    repeated = information(
        np.repeat(units, weights),
        np.repeat(labels, weights),
        null=[np.repeat(np.roll(labels, 7), weights)],
        n_labels=3,
    )
    assert weighted == pytest.approx(repeated)


def frames(n_clips=40, seed=0):
    """Return clip and unit of frames: units depend on the clip, on nothing else."""
    random = np.random.default_rng(seed)
    lengths = random.integers(20, 60, size=n_clips)
    clips = np.repeat(np.arange(n_clips), lengths)
    return (
        random,
        lengths,
        clips,
        (clips * 7 + random.integers(3, size=len(clips))) % 16,
    )


def test_what_a_codebook_knows_about_clips_is_in_the_null():
    misses = 0
    for seed in range(20):
        random, _, clips, units = frames(seed=seed)
        labels = random.permutation(np.arange(40) % 4)
        found = clip_information(units, clips, labels=labels, n_labels=4, seed=seed)
        # Plain correction is fooled by dependent frames, the permutation is not.
        assert found["corrected"] > 0.1
        assert abs(found["excess"]) < 0.2
        misses += found["corrected"] > found["null_high"]
    assert misses <= 4  # 1 in 20 expected


def test_information_about_a_label_of_the_clip_is_found():
    random, _, clips, _ = frames()
    labels = np.arange(40) % 4
    reported = clip_information(labels[clips], clips, labels=labels, n_labels=4)
    assert (
        reported["bits"]
        == pytest.approx(reported["label_entropy"])
        == pytest.approx(2, 0.02)
    )
    assert reported["excess"] > 1.5 and reported["corrected"] > reported["null_high"]


def test_clips_without_a_label_are_left_out():
    _, _, clips, units = frames()
    labels = np.arange(40) % 4
    labels[::5] = -1
    kept = labels[clips] >= 0
    found = clip_information(units, clips, labels=labels, n_labels=4)
    joint = contingency(units[kept], labels[clips][kept], shape=(16, 4))
    assert found["bits"] == pytest.approx(mutual_information(joint)[0])
    for permuted in permuted_by_clip(labels, 5):
        assert ((permuted < 0) == (labels < 0)).all()
        assert sorted(permuted) == sorted(labels)


def test_turning_keeps_the_labels_of_each_clip_and_moves_them_far():
    lengths = [40, 1, 9]
    labels = np.arange(50)
    for turned in shifted(labels, lengths, 20):
        assert sorted(turned[:40]) == list(range(40)) and turned[40] == 40
        assert sorted(turned[41:]) == list(range(41, 50))
        offset = (turned[:40] - labels[:40]) % 40
        assert len(set(offset)) == 1 and 10 <= offset[0] <= 30


def test_the_turned_null_finds_what_is_bound_to_the_frame_only():
    random, lengths, clips, by_clip = frames()
    phones = random.integers(8, size=len(clips))
    null = shifted(phones, lengths, 50)
    bound = information(phones + 8 * (by_clip % 2), phones, null=null, n_labels=8)
    loose = information(by_clip, phones, null=null, n_labels=8)
    assert bound["excess"] > 2.5
    assert abs(loose["excess"]) < 0.05
