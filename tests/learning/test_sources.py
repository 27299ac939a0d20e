"""Sources of frames, the background reader and the weighted samples."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.learning.sampling import (
    WeightedReservoir,
    exponential_of_index,
    uniform_of_index,
)
from emoq_plugin.learning.sources import ArraySource, UtteranceSource


def clips(lengths):
    start = np.cumsum([0, *lengths])
    return {
        f"u{i}": np.arange(a, b, dtype=np.float32)[:, None]
        for i, (a, b) in enumerate(zip(start, start[1:]))
    }


def stream(lengths, read=None, **options):
    table = clips(lengths)
    weights = options.pop("weights", np.ones((len(lengths), 1)))
    return UtteranceSource(
        read or (lambda names: ((n, table[n]) for n in names)),
        {name: len(c) for name, c in table.items()},
        weights=weights,
        **options,
    )


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    chunk_frames=st.integers(1, 12),
    prefetch=st.integers(0, 2),
)
def test_a_stream_gives_every_frame_once_in_order(lengths, chunk_frames, prefetch):
    source = stream(lengths, chunk_frames=chunk_frames, prefetch=prefetch)
    chunks = list(source.chunks())
    frames = torch.cat([c.frames for c in chunks]).flatten().tolist()
    assert frames == list(range(sum(lengths)))
    assert np.concatenate([c.index for c in chunks]).tolist() == frames
    assert all(len(c.frames) == chunk_frames for c in chunks[:-1])
    assert all(len(c.frames) == len(c.weights) == len(c.index) for c in chunks)


def counted(keep, **options):
    """Return a stream of three clips, and the names that were read from it."""
    table, seen = clips([3, 5, 4]), []

    def read(names):
        for name in names:
            seen.append(name)
            yield name, table[name]

    return stream([3, 5, 4], read=read, chunk_frames=5, keep=keep, **options), seen


@pytest.mark.parametrize("keep", [False, True])
def test_who_wants_the_first_chunk_reads_no_more(keep):
    source, seen = counted(keep, prefetch=0)
    for _ in range(2):
        assert len(next(iter(source.chunks())).frames) == 5
    assert seen == ["u0", "u1"] * 2
    assert sum(len(c.frames) for c in source.chunks()) == 12


@pytest.mark.parametrize("keep", [False, True])
def test_a_stream_that_is_kept_is_read_once(keep):
    source, seen = counted(keep)
    passes = [
        [(c.frames.tolist(), c.index.tolist()) for c in source.chunks()]
        for _ in range(3)
    ]
    assert passes[0] == passes[1] == passes[2]
    assert seen == ["u0", "u1", "u2"] * (1 if keep else 3)
    # A shard has chunks of its own, and shuffled ones are not kept.
    part = np.concatenate([c.index for c in source.shard(0, 2).chunks()])
    assert part.tolist() == [0, 1, 2, 8, 9, 10, 11]
    mixed = [np.concatenate([c.index for c in source.chunks(s)]) for s in range(6)]
    assert len({tuple(order) for order in mixed}) > 1


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    n_shards=st.integers(1, 4),
    in_memory=st.booleans(),
)
def test_shards_divide_the_stream_and_keep_positions(lengths, n_shards, in_memory):
    source = stream(lengths, prefetch=0, chunk_frames=5)
    if in_memory:
        source = ArraySource(np.arange(sum(lengths))[:, None], chunk_frames=5)
    seen = []
    for rank in range(n_shards):
        for chunk in source.shard(rank, n_shards).chunks():
            assert chunk.index.tolist() == chunk.frames.flatten().tolist()
            seen += chunk.index.tolist()
    assert sorted(seen) == list(range(sum(lengths)))


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_shuffled_stream_is_another_order_of_the_same_frames(in_memory):
    source = stream([3] * 9, chunk_frames=4)
    if in_memory:
        source = ArraySource(np.arange(27)[:, None], chunk_frames=4)

    def order(seed):
        return np.concatenate([c.index for c in source.chunks(seed)]).tolist()

    assert order(0) != list(range(27))
    assert sorted(order(0)) == list(range(27))
    assert order(0) == order(0) != order(1)


def test_utterances_without_weight_are_not_even_read():
    asked = []

    def read(names):
        asked.extend(names)
        return ((n, np.zeros((2, 1), np.float32)) for n in names)

    weights = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    source = stream([2, 2, 2], read, weights=weights, prefetch=0)
    (chunk,) = source.chunks()
    assert asked == ["u0", "u2"]
    assert chunk.index.tolist() == [0, 1, 4, 5]
    assert source.expert_frames().tolist() == [2, 2]


def test_an_error_of_the_background_reader_reaches_the_caller():
    def read(names):
        yield names[0], np.zeros((2, 1), np.float32)
        raise OSError("the disk is gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        list(stream([2, 2], read, chunk_frames=1).chunks())
    assert threading.active_count() == before


def test_the_background_thread_ends_when_the_caller_leaves_early():
    before = threading.active_count()
    chunks = stream([5] * 50, chunk_frames=1, prefetch=2).chunks()
    next(chunks)
    assert threading.active_count() == before + 1
    chunks.close()
    assert threading.active_count() == before


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40), cuts=st.sets(st.integers(1, 99), max_size=6))
def test_a_sample_does_not_depend_on_the_chunks(seed, cuts):
    frames = torch.arange(100.0)[:, None]
    weights = torch.linspace(0, 3, 100)

    def sample(borders):
        reservoir = WeightedReservoir(12)
        for a, b in zip(borders, borders[1:]):
            waits = exponential_of_index(np.arange(a, b), seed)
            reservoir.add(frames[a:b], weights[a:b], waits)
        return reservoir

    whole, cut = sample([0, 100]), sample([0, *sorted(cuts), 100])
    assert torch.equal(whole.frames, cut.frames)
    assert torch.equal(whole.weights, cut.weights)
    assert len(whole.frames.unique()) == 12
    assert 0.0 not in whole.frames  # weight zero


def test_frames_are_drawn_in_proportion_to_their_weights():
    weights = torch.tensor([1.0, 3.0, 0.0, 4.0])
    frames, index = torch.arange(4.0)[:, None], np.arange(4)
    counts = np.zeros(4)
    for seed in range(4000):
        reservoir = WeightedReservoir(1)
        reservoir.add(frames, weights, exponential_of_index(index, seed))
        counts[int(reservoir.frames)] += 1
    # Four standard deviations of a binomial share at n = 4000 are at most 0.032.
    np.testing.assert_allclose(counts / 4000, [0.125, 0.375, 0.0, 0.5], atol=0.032)


def test_positions_hash_to_uniform_numbers():
    numbers = uniform_of_index(np.arange(20000), seed=3)
    assert 0 < numbers.min() < numbers.max() < 1
    shares = np.histogram(numbers, bins=10, range=(0, 1))[0] / 20000
    np.testing.assert_allclose(shares, 0.1, atol=0.01)
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.03
    assert not np.isin(numbers, uniform_of_index(np.arange(20000), seed=4)).any()
