"""Beam search of residual codes."""

import itertools

import pytest
import torch

from emoq_plugin.core.encoding import decode_frames, encode_frames


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(3)
    frames = torch.randn(64, 5, generator=generator)
    codebooks = [
        torch.randn(6, 5, generator=generator) * 0.6**level for level in range(3)
    ]
    return frames, codebooks


def errors(frames, codebooks, codes):
    return (frames - decode_frames(codes, codebooks)).square().sum(dim=1)


def test_a_beam_of_one_is_the_plain_search(case):
    frames, codebooks = case
    plain = encode_frames(frames, codebooks)
    assert torch.equal(encode_frames(frames, codebooks, beam=1), plain)


def test_a_beam_that_keeps_everything_finds_the_best_code_sequence(case):
    frames, codebooks = case
    found = errors(frames, codebooks, encode_frames(frames, codebooks, beam=36))
    every = torch.tensor(list(itertools.product(range(6), repeat=3)))
    table = decode_frames(every, codebooks)
    best = torch.cdist(frames, table).square().amin(dim=1)
    torch.testing.assert_close(found, best, rtol=1e-4, atol=1e-5)


def test_a_beam_lowers_the_mean_distortion(case):
    frames, codebooks = case
    plain = errors(frames, codebooks, encode_frames(frames, codebooks)).mean()
    wide = errors(frames, codebooks, encode_frames(frames, codebooks, beam=4)).mean()
    assert wide < plain


def test_a_beam_below_one_is_refused(case):
    with pytest.raises(ValueError, match="beam is 0, expected at least 1"):
        encode_frames(*case, beam=0)
