"""Statistics over time and windows: against numpy, padding, one frame, lengths."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.core.clip_statistics import (
    QUANTILES,
    STATISTICS,
    clip_statistics,
    count_windows,
    cut_windows,
    window_frames,
)


def batch(lengths, *, fill=0.0, more=0, dimension=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.full((len(lengths), max(lengths) + more, dimension), fill)
    for clip, n in zip(features, lengths):
        clip[:n] = torch.randn(n, dimension, generator=generator)
    return features, torch.tensor(lengths)


def test_statistics_are_what_numpy_computes():
    features, lengths = batch([7, 2, 1])
    found = clip_statistics(features, lengths)
    assert found.shape == (3, STATISTICS * 3)
    for row, clip, n in zip(found, features.double().numpy(), lengths):
        x = clip[:n]
        moved = np.diff(x, axis=0) if n > 1 else np.zeros((1, 3))
        expected = np.concatenate(
            [
                x.mean(axis=0),
                x.std(axis=0),
                *np.quantile(x, QUANTILES, axis=0),
                moved.std(axis=0),
                np.abs(moved).mean(axis=0),
            ]
        )
        np.testing.assert_allclose(row.numpy(), expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    fill=st.sampled_from([0.0, 1e6, math.nan, math.inf]),
    more=st.integers(0, 3),
)
def test_padding_and_the_rest_of_the_batch_change_nothing(lengths, fill, more):
    features, counts = batch(lengths, fill=fill, more=more)
    found = clip_statistics(features, counts)
    for row, clip, n in zip(found, features, lengths):
        alone = clip_statistics(clip[None, :n])[0]
        torch.testing.assert_close(row, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "lengths, windows",
    [
        ([9], [9]),
        ([12], [4, 4, 4]),
        ([9, 1], [4, 5, 1]),
        ([10, 13], [4, 4, 2, 4, 4, 5]),
    ],
)
def test_windows_follow_each_other_and_a_short_rest_joins_the_last(lengths, windows):
    size = 4 if len(windows) > 1 else None
    features, counts = batch(lengths)
    cut, found = cut_windows(features, counts, size)
    assert found.tolist() == windows
    assert count_windows(counts, size).sum() == len(windows)
    joined = torch.cat([window[:n] for window, n in zip(cut, found)])
    clips = torch.cat([clip[:n] for clip, n in zip(features, lengths)])
    assert torch.equal(joined, clips)


@pytest.mark.parametrize("lengths", [[0, 3], [3, 4], [3], [-1, 3]])
def test_lengths_that_do_not_fit_are_refused(lengths):
    with pytest.raises(ValueError, match=r"expected 2 numbers from 1 to 3"):
        clip_statistics(torch.zeros(2, 3, 1), torch.tensor(lengths))


def test_a_batch_of_another_rank_is_refused():
    with pytest.raises(ValueError, match=r"\(B, T, D\) batch, found shape \(3, 1\)"):
        clip_statistics(torch.zeros(3, 1))


def test_windows_below_half_a_second_are_refused():
    assert window_frames(0.5, 50.0) == 25
    for seconds in (0.49, 0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected at least 0.5 s"):
            window_frames(seconds, 50.0)
