"""RoutedQuantizer: what it sends is what a decoder gets."""

import copy
import math

import pytest
import torch

import emoq_plugin
from emoq_plugin.core.batch import PADDING
from emoq_plugin.routing.quantizer import RoutedQuantizer

ROUTERS = ["cosine", "gain", "distortion", "linear", "soft"]
SYSTEMS = ["balanced", *(f"specific-{router}" for router in ROUTERS)]
systems = pytest.mark.parametrize("system", SYSTEMS)


def batch(fill=0.0):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([4, 9, 1, 6])
    x = torch.full((4, 11, 3), fill)
    for row, n in zip(x, lengths):
        row[:n] = 3 * torch.randn(int(n), 3, generator=generator)
    return x, lengths


@systems
@pytest.mark.parametrize("n_levels", [1, 3])
def test_a_decoder_gets_the_features_from_codes_route_and_weights(
    deep_bank, system, n_levels
):
    quantizer = RoutedQuantizer(deep_bank, system, n_levels=n_levels)
    found = quantizer(*batch())
    decoded = quantizer.decode(found.codes, found.route, found.weights)
    torch.testing.assert_close(decoded, found.features)
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(4))


@systems
def test_routing_ignores_padding(deep_bank, system):
    quantizer = RoutedQuantizer(deep_bank, system, depth=2)
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


@systems
def test_a_loaded_quantizer_gives_the_same_output(deep_bank, system, tmp_path):
    quantizer = RoutedQuantizer(deep_bank, system, depth=2, n_levels=2)
    quantizer.save_pretrained(tmp_path)
    loaded = RoutedQuantizer.from_pretrained(tmp_path)
    assert (loaded.system, loaded.depth, loaded.n_levels) == (quantizer.system, 2, 2)
    before, after = quantizer(*batch()), loaded(*batch())
    for name in ("codes", "features", "route", "weights", "bits"):
        assert torch.equal(getattr(before, name), getattr(after, name))


@systems
def test_training_and_evaluation_are_the_same(deep_bank, system):
    quantizer = RoutedQuantizer(deep_bank, system)
    training = quantizer.train()(*batch(), n_levels=2)
    evaluation = quantizer.eval()(*batch(), n_levels=2)
    assert torch.equal(training.codes, evaluation.codes)
    assert torch.equal(training.features, evaluation.features)
    assert not list(quantizer.parameters())


def test_bits_are_those_of_codes_and_route(deep_bank):
    _, lengths = batch()
    frame_bits = 2 * math.log2(5)
    for system, streams, side in (
        ("balanced", 1, 0.0),
        ("specific-distortion", 1, math.log2(3)),
        ("specific-gain", 1, math.log2(4)),
        ("specific-soft", 2, math.log2(6) + 4),
    ):
        found = RoutedQuantizer(deep_bank, system, n_levels=2)(*batch())
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
    """Return the reconstruction in normalised features."""
    decoded = expert.decode_clip(expert.encode_clip(clip))
    return (decoded - expert.normalization.mean) / expert.normalization.scale


@pytest.mark.parametrize("n_levels", [0, 4])
def test_levels_that_were_not_learned_are_refused(deep_bank, n_levels):
    with pytest.raises(ValueError, match="levels"):
        RoutedQuantizer(deep_bank, "specific-cosine")(*batch(), n_levels=n_levels)


def test_a_clip_without_frames_is_refused(deep_bank):
    with pytest.raises(ValueError, match="at least one frame"):
        RoutedQuantizer(deep_bank, "balanced")(torch.zeros(1, 3, 3), torch.tensor([0]))


def same(found, expected):
    for name in ("codes", "features", "route", "weights", "bits"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def with_calibrated(bank):
    """Add a calibrated router of made-up numbers, whose classes are close."""
    random = torch.Generator().manual_seed(2)
    wide = 9 * 3 + 3
    parameters = {
        "offsets": torch.tensor([-1.0, 0.0, 1.0]),
        "frame_mean": torch.zeros(3),
        "frame_projection": torch.randn(3, 3, generator=random),
        "projection": torch.randn(9, 4, generator=random),
        "codebooks": torch.randn(3, 16, 4, generator=random),
        "mean": torch.zeros(wide),
        "scale": torch.ones(wide),
        "weight": torch.randn(3, wide, generator=random),
        "bias": torch.zeros(3),
        "weights": torch.tensor([1.0, 0.1]),
    }
    bank.router_parameters |= {f"calibrated.{n}": v for n, v in parameters.items()}
    return bank


@pytest.mark.parametrize("system", [*SYSTEMS, "specific-calibrated"])
def test_autocast_changes_nothing(deep_bank, system):
    quantizer = RoutedQuantizer(with_calibrated(deep_bank), system)
    random = torch.Generator().manual_seed(3)
    x = 3 * torch.randn(40, 30, 3, generator=random)
    expected = quantizer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(quantizer(x), expected)


@systems
def test_half_and_double_leave_codebooks_and_codes_as_they_are(deep_bank, system):
    quantizer = RoutedQuantizer(deep_bank, system)
    x, lengths = batch()
    x = x.half().float()  # numbers that half can hold
    expected, digest = quantizer(x, lengths), quantizer.codebooks_sha256
    for convert, dtype in (("half", torch.half), ("double", torch.double)):
        getattr(quantizer, convert)()
        same(quantizer(x.to(dtype), lengths), expected)
    same(quantizer.to(torch.bfloat16)(x, lengths), expected)
    assert quantizer.codebooks_sha256 == digest


@systems
def test_an_empty_batch_gives_empty_units(deep_bank, system):
    quantizer = RoutedQuantizer(deep_bank, system, n_levels=2)
    some, none = quantizer(torch.zeros(1, 7, 3)), quantizer(torch.zeros(0, 7, 3))
    for name in ("codes", "features", "route", "weights", "bits"):
        one, empty = getattr(some, name), getattr(none, name)
        assert empty.shape == (0, *one.shape[1:]) and empty.dtype == one.dtype
    lengths = torch.zeros(0, dtype=torch.long)
    assert quantizer.encode(torch.zeros(0, 7, 3), lengths).shape == none.codes.shape
    decoded = quantizer.decode(none.codes, none.route, none.weights)
    assert decoded.shape == (0, 7, 3)


@systems
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_frames_that_are_no_numbers_get_no_codes(deep_bank, system, value):
    quantizer = RoutedQuantizer(deep_bank, system)
    x, lengths = batch()
    x[3, 5, 1] = value
    with pytest.raises(ValueError, match="utterance 3 of the batch: frame 5 of the "):
        quantizer(x, lengths)


@pytest.mark.parametrize("router", ["oracle", "wrong", "random"])
def test_controls_are_refused_where_there_is_no_label(deep_bank, router, tmp_path):
    with pytest.raises(ValueError, match=f"'specific-{router}' is a control"):
        RoutedQuantizer(deep_bank, f"specific-{router}")
    deep_bank.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"'specific-{router}' is a control"):
        emoq_plugin.load(str(tmp_path), system=f"specific-{router}")


def test_a_depth_below_one_is_refused_and_a_large_one_is_what_the_bank_has(deep_bank):
    with pytest.raises(ValueError, match="depth is 0, expected at least 1"):
        RoutedQuantizer(deep_bank, "specific-cosine", depth=0)
    assert RoutedQuantizer(deep_bank, "specific-cosine", depth=9).depth == 3


def test_an_artifact_that_calls_its_system_an_arm_is_read(deep_bank, tmp_path):
    RoutedQuantizer(deep_bank, "specific-soft").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"system":', '"arm":'))
    assert emoq_plugin.load(tmp_path).system.name == "specific-soft"


def test_search_tables_are_made_once_and_again_where_codebooks_change(deep_bank):
    bank = copy.deepcopy(deep_bank)
    table = bank.search_table(1, 0)
    assert bank.search_table(1, 0) is table
    assert bank.search_table(0, 0) is not table
    assert torch.equal(table.codebook, bank.codebooks[0][1])
    bank.codebook_0.mul_(2)
    assert torch.equal(bank.search_table(1, 0).codebook, bank.codebooks[0][1])
    with torch.inference_mode():
        loaded = copy.deepcopy(bank)
    assert len(loaded.search_table(1, 0).codebook) == len(table.codebook)
