"""RoutedQuantizer: what it sends is what a decoder gets."""

import math

import pytest
import torch

from emoq_plugin.core.rvq import PADDING
from emoq_plugin.routing.quantizer import RoutedQuantizer

ROUTERS = ["cosine", "gain", "distortion", "linear", "soft", "random"]
ARMS = ["balanced", *(f"specific-{router}" for router in ROUTERS)]
arms = pytest.mark.parametrize("arm", ARMS)


def batch(fill=0.0):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([4, 9, 1, 6])
    x = torch.full((4, 11, 3), fill)
    for row, n in zip(x, lengths):
        row[:n] = 3 * torch.randn(int(n), 3, generator=generator)
    return x, lengths


@arms
@pytest.mark.parametrize("n_levels", [1, 3])
def test_a_decoder_gets_the_features_from_codes_route_and_weights(
    deep_bank, arm, n_levels
):
    quantizer = RoutedQuantizer(deep_bank, arm, n_levels=n_levels)
    found = quantizer(*batch())
    decoded = quantizer.decode(found.codes, found.route, found.weights)
    torch.testing.assert_close(decoded, found.features)
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(4))


@arms
def test_routing_ignores_padding(deep_bank, arm):
    quantizer = RoutedQuantizer(deep_bank, arm, depth=2)
    x, lengths = batch(fill=math.nan)
    found = quantizer(x, lengths)
    for b, n in enumerate(lengths.tolist()):
        alone = quantizer(x[b : b + 1, :n])
        assert torch.equal(alone.route[0], found.route[b])
        assert torch.equal(alone.codes[0], found.codes[b, :n])
        assert torch.equal(alone.features[0], found.features[b, :n])
        assert alone.bits[0] == found.bits[b]
        assert (found.codes[b, n:] == PADDING).all()
        assert (found.features[b, n:] == 0).all()


@arms
def test_a_loaded_quantizer_gives_the_same_output(deep_bank, arm, tmp_path):
    quantizer = RoutedQuantizer(deep_bank, arm, depth=2, n_levels=2)
    quantizer.save_pretrained(tmp_path)
    loaded = RoutedQuantizer.from_pretrained(tmp_path)
    assert (loaded.arm, loaded.depth, loaded.n_levels) == (quantizer.arm, 2, 2)
    before, after = quantizer(*batch()), loaded(*batch())
    for name in ("codes", "features", "route", "weights", "bits"):
        assert torch.equal(getattr(before, name), getattr(after, name))


@arms
def test_training_and_evaluation_are_the_same(deep_bank, arm):
    quantizer = RoutedQuantizer(deep_bank, arm)
    training = quantizer.train()(*batch(), n_levels=2)
    evaluation = quantizer.eval()(*batch(), n_levels=2)
    assert torch.equal(training.codes, evaluation.codes)
    assert torch.equal(training.features, evaluation.features)
    assert not list(quantizer.parameters())


def test_bits_are_those_of_codes_and_route(deep_bank):
    _, lengths = batch()
    frame_bits = 2 * math.log2(5)
    for arm, streams, side in (
        ("balanced", 1, 0.0),
        ("specific-distortion", 1, math.log2(3)),
        ("specific-gain", 1, math.log2(4)),
        ("specific-soft", 2, math.log2(6) + 4),
    ):
        found = RoutedQuantizer(deep_bank, arm, n_levels=2)(*batch())
        expected = (lengths * streams * frame_bits + side).tolist()
        assert found.bits.tolist() == pytest.approx(expected)
        assert found.codes.shape[-1] == 2 * streams


def test_the_route_counts_the_experts_in_use(deep_bank):
    quantizer = RoutedQuantizer(deep_bank, "specific-distortion")
    assert quantizer.bank.experts == [
        "specific/angry",
        "specific/happy",
        "specific/sad",
    ]
    found = quantizer(*batch())
    for b, n in enumerate(batch()[1].tolist()):
        expert = quantizer.bank.expert(quantizer.bank.experts[found.route[b, 0]])
        assert torch.equal(expert.encode_clip(batch()[0][b, :n]), found.codes[b, :n])


def test_the_distortion_route_is_the_best_of_all_experts(deep_bank):
    quantizer = RoutedQuantizer(deep_bank, "specific-distortion", depth=3)
    x, lengths = batch()
    found = quantizer(x, lengths)
    norm = quantizer.bank.normalization
    for b, n in enumerate(lengths.tolist()):
        clip = norm(x[b, :n])
        errors = [
            (clip - norm_of(quantizer.bank.expert(e), x[b, :n])).square().mean()
            for e in quantizer.bank.experts
        ]
        assert int(torch.stack(errors).argmin()) == found.route[b, 0]


def norm_of(expert, clip):
    """Give the reconstruction in normalised features."""
    decoded = expert.decode_clip(expert.encode_clip(clip))
    return (decoded - expert.normalization.mean) / expert.normalization.scale


@pytest.mark.parametrize("n_levels", [0, 4])
def test_levels_that_were_not_learned_are_refused(deep_bank, n_levels):
    with pytest.raises(ValueError, match="levels"):
        RoutedQuantizer(deep_bank, "specific-cosine")(*batch(), n_levels=n_levels)


def test_a_clip_without_frames_is_refused(deep_bank):
    with pytest.raises(ValueError, match="at least one frame"):
        RoutedQuantizer(deep_bank, "balanced")(torch.zeros(1, 3, 3), torch.tensor([0]))
