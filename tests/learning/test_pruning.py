"""Passes that skip most of the search learn the same bits."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.core import nearest
from emoq_plugin.core.nearest import SearchTable, nearest_codewords
from emoq_plugin.learning import learner, pruning
from emoq_plugin.learning.checkpoint import Progress
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.pruning import (
    Pruning,
    RotatedFrames,
    RotatedTable,
    Rotation,
)
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import ArraySource
from tests.core.hostile import KINDS, hostile

cases = settings(max_examples=60, deadline=None)


@pytest.fixture(autouse=True)
def bounded():
    """Search every codebook with bounds, also where bfloat16 is emulated."""
    with mock.patch.object(nearest, "is_bounded", lambda *_: True):
        yield


def clusters(n_frames=6000, dimension=128, seed=0):
    frames, _ = hostile("clusters", seed, n_frames, 200, dimension)
    return frames.numpy()[np.random.default_rng(seed).permutation(n_frames)]


def learn(frames, weights=None, *, passes=6, levels=1, **options):
    return learn_residual_codebooks(
        ArraySource(frames, weights, chunk_frames=options.pop("chunk_frames", 1000)),
        [256] * levels,
        settings=LearningSettings(max_iterations=passes, tolerance=0.0),
        **options,
    )


def unpruned(*arguments, **options):
    """Learn without axes."""
    with mock.patch.object(Pruning, "settle", lambda self, *rest: None):
        return learn(*arguments, **options)


@cases
@given(
    st.sampled_from(KINDS),
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 40),
    st.data(),
)
def test_a_search_from_any_known_codes_finds_the_nearest(
    kind, seed, n, size, dimension, data
):
    frames, codebook = hostile(kind, seed, n, size, dimension)
    generator = torch.Generator().manual_seed(seed)
    expected = nearest_codewords(frames, codebook)
    guess = torch.randint(size, (n,), generator=generator)
    before = torch.where(torch.rand(n, generator=generator) < 0.5, guess, expected[0])
    # Of huge numbers there are no axes, so any will do.
    axes = Rotation.of(hostile("noise", seed, n, 1, dimension)[0]).axes
    rotation = Rotation(frames.mean(dim=0), axes)
    rotation = rotation.leading(data.draw(st.integers(1, dimension)))
    table = RotatedTable.of(SearchTable.of(codebook), rotation)
    found = table.search(frames, RotatedFrames.of(frames, rotation), before)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=0, equal_nan=True)


def test_most_frames_of_clusters_are_decided_by_few_axes():
    frames, codebook = hostile("clusters", 0, 6000, 200, 128)
    codes, scores = nearest_codewords(frames, codebook)
    rotation = Rotation.of(codebook).leading(12)
    table = RotatedTable.of(SearchTable.of(codebook), rotation)
    heads = RotatedFrames.of(frames, rotation)
    (row, other), _ = table.reached(heads, codes, scores, torch.zeros(len(frames)))
    assert 0 < len(row.unique()) < 0.1 * len(frames)
    assert (other != codes[row]).all()


def weights_of_experts(n_frames):
    random = np.random.default_rng(1)
    weights = np.ones((n_frames, 3), dtype=np.float32)
    weights[:, 1] = random.integers(3, size=n_frames)
    weights[: n_frames // 4, 2] = 0.0
    weights[:, 2] *= random.uniform(0.5, 2.0, size=n_frames)
    return weights


@pytest.mark.parametrize("experts", [False, True])
def test_codebooks_are_those_of_passes_without_axes(experts):
    frames = clusters()
    weights = weights_of_experts(len(frames)) if experts else None
    with mock.patch.object(
        RotatedTable, "search", autospec=True, side_effect=RotatedTable.search
    ) as used:
        found = learn(frames, weights, levels=2)
    assert used.call_count >= 6 * 4  # chunks, passes from the second on
    for left, right in zip(found, unpruned(frames, weights, levels=2), strict=True):
        assert torch.equal(left, right)


def test_chunks_room_and_interruptions_do_not_show(tmp_path):
    frames = clusters()
    expected = learn(frames)
    assert torch.equal(learn(frames, chunk_frames=777)[0], expected[0])
    with mock.patch.object(pruning, "KEPT_BYTES", 1_000_000):  # heads of some chunks
        assert torch.equal(learn(frames)[0], expected[0])
    saves, save = [], Progress.save

    def stop(self, path):
        save(self, path)
        saves.append(path)
        if len(saves) == 3:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint"
    with (
        mock.patch.object(learner, "WORK_PER_SAVING", 0),
        mock.patch.object(Progress, "save", stop),
        pytest.raises(KeyboardInterrupt),
    ):
        learn(frames, checkpoint=checkpoint)
    assert torch.equal(learn(frames, checkpoint=checkpoint)[0], expected[0])


def rotation_of(frames, codebook, n_known=None):
    found = Pruning()
    found.begin_pass({0: SearchTable.of(codebook)}, n_known or len(frames))
    before = nearest_codewords(frames, codebook)[0]
    for chunk in (0, 1):
        found.search(frames, before, expert=0, chunk=chunk)
    return found.rotation


def test_axes_are_used_only_where_they_pay():
    frames, codebook = hostile("clusters", 0, 6000, 256, 128)
    assert rotation_of(frames, codebook) is not None
    assert rotation_of(*hostile("noise", 0, 6000, 256, 128)) is None
    assert rotation_of(frames, codebook, n_known=300) is None  # eigenvectors cost more
