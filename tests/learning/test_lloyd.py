"""Sums of a Lloyd pass are exact: nothing of their order shows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.learning.lloyd import (
    PassStatistics,
    Summation,
    accumulate,
    lloyd_pass,
    unit_of_sums,
)
from emoq_plugin.learning.portions import LevelCache, Portion
from emoq_plugin.learning.sources import ArraySource
from tests.core.hostile import hostile

SIZE = 5


def portion_of(frames, weights=None):
    norms = torch.linalg.vector_norm(frames, dim=1)
    return Portion(None, weights, frames, norms)


def statistics_of(frames, weights=None):
    found = PassStatistics.empty(torch.zeros(SIZE, frames.shape[1]))
    norms = torch.linalg.vector_norm(frames, dim=1)
    weighted = norms if weights is None else norms * weights
    found.length += norms.sum(dtype=torch.float64)
    found.reach += weighted.max()
    return found


def sums_of(frames, weights, codes, unit, *, before=None, start=None):
    found = PassStatistics.empty(torch.zeros(SIZE, frames.shape[1]), exact=unit > 0)
    if start is not None:
        found.sums = start.clone()
    summation = Summation(unit, len(frames), only_moved=before is not None)
    accumulate(found, portion_of(frames, weights), codes, before, summation)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["noise", "clusters", "offset"]),
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.booleans(),
)
def test_sums_have_no_order_and_are_those_of_all_digits(kind, seed, n, weighted):
    frames, _ = hostile(kind, seed, n, 3, 4)
    random = torch.Generator().manual_seed(seed)
    weights = torch.rand(n, generator=random) + 0.05 if weighted else None
    codes, before = torch.randint(SIZE, (2, n), generator=random)
    unit = unit_of_sums(statistics_of(frames, weights), n)
    assert unit > 0
    found = sums_of(frames, weights, codes, unit)
    order = torch.randperm(n, generator=random)
    turned = sums_of(
        frames[order], None if weights is None else weights[order], codes[order], unit
    )
    assert torch.equal(found.sums, turned.sums)
    # The frames that moved, added to the sums of the pass before.
    first = sums_of(frames, weights, before, unit)
    moved = sums_of(frames, weights, codes, unit, before=before, start=first.sums)
    assert torch.equal(found.sums, moved.sums)
    assert torch.equal(found.mass, moved.mass)
    exact = frames.double() if weights is None else frames.double() * weights[:, None]
    for code in range(SIZE):
        expected = [math.fsum(column) for column in exact[codes == code].T.tolist()]
        total = found.sums.sum(dim=0)[code]
        expected = torch.tensor(expected, dtype=torch.float64)
        reach = float(exact.norm(dim=1).max())
        torch.testing.assert_close(total, expected, rtol=1e-15, atol=1e-18 * reach)


def test_one_huge_frame_does_not_cost_the_others_their_digits():
    frames = torch.rand(1000, 4)
    frames[7] = 1e30
    assert unit_of_sums(statistics_of(frames), 1000) == 0.0
    assert unit_of_sums(statistics_of(frames), 2**40) == 0.0
    assert unit_of_sums(statistics_of(torch.zeros(3, 2)), 3) == 0.0


@pytest.mark.parametrize("weighted", [False, True])
def test_a_pass_over_moved_frames_is_a_pass_over_all(weighted):
    frames = hostile("clusters", 0, 900, 20, 8)[0].numpy()
    weights = np.random.default_rng(0).uniform(0.1, 1, (900, 1)) if weighted else None
    source = ArraySource(frames, weights, chunk_frames=128)
    codebook = torch.from_numpy(frames[:SIZE].copy())[None]
    cache, unit = LevelCache(), 0.0
    for iteration in range(6):
        found = lloyd_pass(source, [], codebook, active=[0], cache=cache, units=[unit])[
            0
        ]
        if iteration == 0:
            unit = unit_of_sums(found, len(frames))
        again = lloyd_pass(
            source, [], codebook, active=[0], cache=LevelCache(), units=[unit]
        )[0]
        if iteration:
            assert torch.equal(found.sums, again.sums)
            assert torch.equal(found.mass, again.mass)
            assert torch.equal(found.distortion, again.distortion)
        means = found.sums.sum(dim=0) / found.mass[:, None]
        codebook = means.float()[None]
    assert 0 < cache.moved[0] < 0.4  # so the last passes added few frames
