"""ResidualQuantizer: padding, levels, buffers, bits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.core import Normalization, ResidualQuantizer
from emoq_plugin.core.normalization import KINDS
from emoq_plugin.core.rvq import PADDING

SIZES = [5, 3, 4]


def make(kind="corpus", dimension=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codebooks = [torch.randn(k, dimension, generator=generator) for k in SIZES]
    mean, scale = torch.randn(2, dimension, generator=generator)
    return ResidualQuantizer(codebooks, Normalization(kind, mean, scale.abs() + 0.5))


def batch(lengths, fill, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((len(lengths), max(lengths) + 2, 3), fill)
    for row, n in zip(x, lengths):
        row[:n] = torch.randn(n, 3, generator=generator)
    return x, torch.tensor(lengths), torch.randn(len(lengths), 3, generator=generator)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    fill=st.sampled_from([0.0, 1e6, math.nan, math.inf]),
)
def test_padding_never_changes_an_output(kind, lengths, fill):
    quantizer = make(kind)
    x, counts, means = batch(lengths, fill)
    found = quantizer(x, counts, speaker_mean=means)
    for b, n in enumerate(lengths):
        alone = quantizer(x[b : b + 1, :n], speaker_mean=means[b : b + 1])
        assert torch.equal(found.codes[b, :n], alone.codes[0])
        assert torch.equal(found.features[b, :n], alone.features[0])
        assert found.bits[b] == alone.bits[0]
        assert (found.codes[b, n:] == PADDING).all()
        assert (found.features[b, n:] == 0).all()


@pytest.mark.parametrize("n_levels", [1, 2, 3, None])
def test_levels_mean_the_same_in_training_and_evaluation(n_levels):
    quantizer = make()
    x, lengths, _ = batch([4, 6], 0.0)
    training = quantizer.train()(x, lengths, n_levels=n_levels)
    evaluation = quantizer.eval()(x, lengths, n_levels=n_levels)
    assert torch.equal(training.codes, evaluation.codes)
    assert torch.equal(training.features, evaluation.features)
    assert training.codes.shape[-1] == (n_levels or 3)


def test_the_first_levels_of_a_deep_code_are_the_shallow_code():
    x, lengths, _ = batch([4, 6], 0.0)
    deep, shallow = (make().encode(x, lengths, n_levels=n) for n in (3, 1))
    assert torch.equal(deep[..., :1], shallow)


def test_features_are_the_decoded_codes():
    quantizer = make("level")
    x, lengths, _ = batch([4, 6], 0.0)
    found = quantizer(x, lengths, n_levels=2)
    assert torch.equal(quantizer.decode(found.codes), found.features)


def test_bits_count_the_levels_in_use():
    quantizer = make()
    x, lengths, _ = batch([4, 6], 0.0)
    bits = quantizer(x, lengths, n_levels=2).bits
    assert bits.tolist() == pytest.approx([4 * math.log2(15), 6 * math.log2(15)])
    assert quantizer(x, lengths).bits[0] == pytest.approx(4 * math.log2(60))


def test_codebooks_survive_initialisers_and_training_steps():
    model = torch.nn.Sequential(make(), torch.nn.Linear(3, 3))
    before = [c.clone() for c in model[0].codebooks]
    assert not list(model[0].parameters())
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
    x, _, _ = batch([6], 0.0)
    model[1](model[0](x).features).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
    assert all(torch.equal(a, b) for a, b in zip(before, model[0].codebooks))
    assert {"codebook_0", "codebook_1", "codebook_2"} <= set(model[0].state_dict())


@pytest.mark.parametrize("n_levels", [0, 4, -1])
def test_levels_that_were_not_learned_are_refused(n_levels):
    with pytest.raises(ValueError, match=f"n_levels is {n_levels}, expected 1 to 3"):
        make().encode(torch.zeros(1, 2, 3), n_levels=n_levels)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[0, 0, 0], [0, 3, 0]], "frame 1, level 1: code 3 .* 3 codewords"),
        ([[-2, 0, 0]], "frame 0, level 0: code -2"),
        ([[0, 0, 0, 0]], "4 levels, expected 3"),
    ],
)
def test_codes_that_no_codeword_has_are_named(codes, message):
    with pytest.raises(ValueError, match=message):
        make().decode(torch.tensor([codes]))


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (torch.zeros(4, 3), None, r"\(B, T, D\)"),
        (torch.zeros(1, 4, 3), torch.tensor([5]), "lengths .5. do not fit"),
        (torch.zeros(1, 4, 3), torch.tensor([4, 4]), "do not fit"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(x, lengths, message):
    with pytest.raises(ValueError, match=message):
        make().encode(x, lengths)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_frames_that_are_no_numbers_get_no_codes(kind, value):
    x, lengths, means = batch([4, 5], fill=0.0)
    x[1, 2, 0] = value
    with pytest.raises(
        ValueError, match="utterance 1 of the batch: frame 2 of the .*N"
    ):
        make(kind).encode(x, lengths, speaker_mean=means)
    x[1, 2, 0] = 0.0
    means[0, 1] = value
    if kind == "speaker":
        with pytest.raises(ValueError, match="utterance 0 .* speaker's mean frame"):
            make(kind).encode(x, lengths, speaker_mean=means)


def test_large_frames_whose_sum_overflows_are_still_encoded():
    norm = Normalization("corpus", torch.zeros(2), torch.full((2,), 1e38))
    quantizer = ResidualQuantizer([torch.tensor([[0.0, 0.0], [3.0, 3.0]])], norm)
    frames = torch.full((1, 4, 2), 3e38)
    assert quantizer.encode(frames).flatten().tolist() == [1] * 4


def test_half_double_and_autocast_change_nothing():
    quantizer = make()
    x, lengths, _ = batch([6, 3], fill=0.0)
    x = x.half().float()
    expected = quantizer(x, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(x, lengths).codes, expected.codes)
    for module, value in (
        (quantizer.half(), x.half()),
        (quantizer.double(), x.double()),
    ):
        found = module(value, lengths)
        assert torch.equal(found.codes, expected.codes)
        assert torch.equal(found.features, expected.features)


def test_an_empty_batch_gives_empty_codes():
    found = make()(torch.zeros(0, 5, 3), torch.zeros(0, dtype=torch.long), n_levels=2)
    assert found.codes.shape == (0, 5, 2) and found.codes.dtype == torch.long
    assert found.features.shape == (0, 5, 3) and found.bits.shape == (0,)


def test_negative_lengths_are_refused():
    with pytest.raises(ValueError, match=r"lengths \[3, -1\] do not fit"):
        make().encode(torch.zeros(2, 4, 3), torch.tensor([3, -1]))
