"""Encoding and decoding of frames as pure functions."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.core import encoding
from emoq_plugin.core.encoding import decode_frames, encode_frames
from emoq_plugin.core.nearest import nearest_codewords, squared_distances

cases = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10**6)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def make(seed, sizes, n_frames, dimension, zero=False):
    """Whole numbers: products and sums are exact, so ties are ties."""
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape):
        return torch.randint(-6, 7, shape, generator=generator).float()

    codebooks = [whole(size, dimension) for size in sizes]
    for codebook in codebooks if zero else ():
        codebook[-1] = 0
    return whole(n_frames, dimension), codebooks


@cases
@given(seeds, sizes, st.integers(0, 20), st.integers(1, 5))
def test_codes_are_those_of_a_search_by_hand(seed, sizes, n_frames, dimension):
    frames, codebooks = make(seed, sizes, n_frames, dimension)
    codes = encode_frames(frames, codebooks)
    assert codes.shape == (n_frames, len(sizes))
    for frame, row in zip(frames, codes):
        residual = frame
        for code, codebook in zip(row.tolist(), codebooks):
            far = (residual - codebook).square().sum(dim=1).tolist()
            assert code == far.index(min(far))  # the lowest index wins a tie
            residual = residual - codebook[code]


@cases
@given(seeds, sizes, st.integers(1, 20), st.integers(1, 5))
def test_the_error_of_a_frame_never_grows_with_a_level_that_has_a_zero_codeword(
    seed, sizes, n_frames, dimension
):
    frames, codebooks = make(seed, sizes, n_frames, dimension, zero=True)
    codes = encode_frames(frames, codebooks)
    error = frames.square().sum(dim=1)
    for depth in range(1, len(sizes) + 1):
        decoded = decode_frames(codes[:, :depth], codebooks)
        now = (frames - decoded).square().sum(dim=1)
        assert (now <= error).all()
        error = now


@cases
@given(seeds, st.integers(1, 30), st.integers(1, 5))
def test_a_codeword_is_encoded_by_itself(seed, size, dimension):
    _, (codebook,) = make(seed, [size], 1, dimension)
    codebook = codebook.unique(dim=0)
    size = len(codebook)
    codes = encode_frames(codebook, [codebook])
    assert codes.flatten().tolist() == list(range(size))
    assert torch.equal(decode_frames(codes, [codebook]), codebook)


@cases
@given(seeds, sizes, st.integers(1, 20))
def test_codes_follow_their_frames(seed, sizes, n_frames):
    frames, codebooks = make(seed, sizes, n_frames, 3)
    order = torch.randperm(n_frames, generator=torch.Generator().manual_seed(seed))
    codes = encode_frames(frames, codebooks)
    assert torch.equal(encode_frames(frames[order], codebooks), codes[order])


@cases
@given(seeds, sizes, st.integers(0, 20), st.integers(0, 20))
def test_frames_can_be_encoded_in_pieces(seed, sizes, n_frames, cut):
    frames, codebooks = make(seed, sizes, n_frames, 3)
    parts = [encode_frames(p, codebooks) for p in (frames[:cut], frames[cut:])]
    assert torch.equal(torch.cat(parts), encode_frames(frames, codebooks))


def test_long_clips_are_encoded_as_short_ones():
    frames, codebooks = make(0, [5, 7], 5000, 3)
    parts = [encode_frames(part, codebooks) for part in frames.split(7)]
    assert torch.equal(encode_frames(frames, codebooks), torch.cat(parts))
    assert len(frames) > getattr(encoding, "CHUNK_FRAMES", 0)


@cases
@given(seeds, st.integers(1, 9), st.integers(1, 20))
def test_scores_give_the_squared_distance_to_the_winner(seed, size, n_frames):
    frames, (codebook,) = make(seed, [size], n_frames, 4)
    codes, scores = nearest_codewords(frames, codebook)
    assert torch.equal(codes[:, None], encode_frames(frames, [codebook]))
    expected = (frames - codebook[codes]).square().sum(dim=1)
    torch.testing.assert_close(
        squared_distances(frames, scores), expected, rtol=0, atol=1e-4
    )


def test_decoding_uses_the_levels_that_the_codes_have():
    _, codebooks = make(0, [4, 4, 4], 1, 2)
    codes = torch.tensor([[1, 2], [3, 0]])
    expected = codebooks[0][codes[:, 0]] + codebooks[1][codes[:, 1]]
    assert torch.equal(decode_frames(codes, codebooks), expected)
    assert torch.equal(decode_frames(codes.to(torch.int16), codebooks), expected)
