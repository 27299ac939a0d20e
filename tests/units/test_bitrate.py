"""Rates of code streams, by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.units.bitrate import StreamCounts, bitrates, ideal_bits, usage


def counts(sizes, *clips):
    found = StreamCounts(sizes)
    for codes, experts in clips:
        found.add(np.array(codes), experts)
    return found


def rates(test, train=None, **options):
    arguments = {"frame_rate_hz": 50.0, "n_streams": 1, "side_bits_per_clip": 0.0}
    return bitrates(test, train or test, **arguments | options)


def test_the_nominal_rate_is_frames_times_bits():
    test = counts([64, 16], ([[0, 1]] * 5, ["a"]))
    assert rates(test)["nominal"] == 50 * (6 + 4)
    assert rates(test, frame_rate_hz=25.0)["nominal"] == 250
    mixed = counts([64, 16], ([[0, 1, 2, 3]] * 5, ["a", "b"]))
    assert rates(mixed, n_streams=2)["nominal"] == 1000


def test_an_ideal_coder_of_a_uniform_source_needs_the_nominal_rate():
    uniform = counts([8, 4], ([[i % 8, i % 4] for i in range(160)], ["a"]))
    found = rates(uniform)
    assert found["entropy"] == pytest.approx(found["nominal"])


def test_an_expert_that_training_never_used_costs_the_nominal_rate():
    train = counts([4], ([[0]] * 9, ["a"]))
    test = counts([4], ([[0], [0], [3]], ["b"]))
    assert ideal_bits(test, train) == pytest.approx(3 * 2)


def test_ideal_bits_are_the_formula():
    train = counts([2], ([[0], [0], [1]], ["a"]))
    test = counts([2], ([[0], [1], [1], [1]], ["a"]))
    # (2 + 1) / (3 + 2) and (1 + 1) / (3 + 2).
    expected = -(math.log2(3 / 5) + 3 * math.log2(2 / 5))
    assert ideal_bits(test, train) == pytest.approx(expected)
    assert rates(test, train)["entropy"] == pytest.approx(expected / (4 / 50))


def test_the_route_is_paid_once_a_clip():
    test = counts([4], ([[0]] * 50, ["a"]), ([[1]] * 150, ["b"]))
    assert rates(test, side_bits_per_clip=2.0)["side_info"] == pytest.approx(4 / 4)


def test_deduplicated_frames_are_those_that_differ_in_any_level():
    clip = [[0, 0], [0, 0], [0, 1], [1, 1], [1, 1]]
    test = counts([4, 2], (clip, ["a"]), ([[1, 1], [1, 1]], ["a"]))
    assert (test.frames, test.runs, test.clips) == (7, 4, 2)
    assert rates(test)["deduplicated"] == pytest.approx(4 * 3 / (7 / 50))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=60))
def test_a_coder_that_knows_the_source_needs_no_more_than_one_that_does_not(codes):
    test = counts([8], (np.array(codes)[:, None], ["a"]))
    blind = StreamCounts([8])
    assert ideal_bits(test, test) <= ideal_bits(test, blind) + 1e-9
    assert ideal_bits(test, blind) == pytest.approx(3 * len(codes))


def test_usage_is_averaged_over_experts_by_their_frames():
    test = counts([4], ([[0], [1], [2], [3]] * 3, ["a"]), ([[2]] * 4, ["b"]))
    found = usage(test)
    # Expert a uses all four (12 frames), b one of four (4 frames).
    assert found["used_share"] == pytest.approx([(12 * 1 + 4 * 0.25) / 16])
    assert found["relative_entropy"] == pytest.approx([12 * 1.0 / 16])
