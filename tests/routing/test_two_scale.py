"""Two-scale units: a clip code beside frame codes, learned by EmoQuantizer."""

import copy
import re

import numpy as np
import pytest
import torch

import emoq_plugin
from emoq_plugin import EmoQuantizer
from emoq_plugin.core.batch import PADDING
from emoq_plugin.core.batch_encoding import batch_encoding
from emoq_plugin.core.clip_code import ClipCode
from emoq_plugin.routing.base import routers
from emoq_plugin.routing.head import head_inputs
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.routing.systems import System, expert_sets_of, parse_systems
from tests.test_estimator import speech

CLIPS, LABELS, SPEAKERS = speech(12)
ROUTERS = [None, *(n for n, r in routers().items() if not r.is_control)]
STREAM = ("codes", "route", "weights", "clip_codes")


def learn(**options):
    options = {"codebook_size": 4, "router": None, "norm": "corpus"} | options
    quantizer = EmoQuantizer(**{"clip_bits": 6} | options)
    return quantizer.fit(CLIPS, LABELS, speakers=SPEAKERS)


@pytest.fixture(scope="module")
def quantizer():
    return learn(router="calibrated", n_levels=2)


def error(found, clips=CLIPS):
    """Mean squared error of the reconstruction."""
    parts = zip(clips, found.features)
    left = [np.square(clip - got[: len(clip)]) for clip, got in parts]
    return np.concatenate(left).mean()


def with_clips_code(bank, clip_code):
    bank = copy.deepcopy(bank)
    bank.clip_code = clip_code
    return bank


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("norm", ["corpus", "level"])
def test_every_router_sends_what_its_decoder_needs_and_bits_count_all_of_it(
    router, norm
):
    quantizer = learn(router=router, norm=norm)
    found = quantizer(CLIPS)
    stream = [getattr(found, name) for name in STREAM]
    np.testing.assert_allclose(quantizer.decode(*stream), found.features, rtol=1e-6)
    n_streams = found.route.shape[1]
    route = quantizer.quantizer_.system.side_bits(quantizer.bank_) - 6
    expected = [2 * n_streams * len(clip) + route + 6 for clip in CLIPS]
    np.testing.assert_allclose(found.bits, expected)
    assert router is None or route > 0
    assert quantizer.score(CLIPS, LABELS) > 0.5


@pytest.mark.parametrize(
    ("norm", "share"), [("corpus", 0.9), ("clip", 0.5), ("level", 0.6)]
)
def test_the_clip_code_lowers_distortion_and_sends_what_the_norm_removed(norm, share):
    with_it, without = learn(norm=norm), learn(norm=norm, clip_bits=None)
    assert without(CLIPS).clip_codes is None
    assert error(with_it(CLIPS)) < share * error(without(CLIPS))


def test_frame_codes_are_of_what_the_decoded_clip_code_leaves(quantizer):
    bank = quantizer.quantizer_.bank
    frames = torch.from_numpy(CLIPS[0])[None]
    clips = batch_encoding(bank, frames)
    known = bank.clip_code.offset(clips.clip_codes, n_frames=frames.shape[1])
    torch.testing.assert_close(clips.left, bank.normalization(frames) - known)
    distortion = clips.distortion(range(3), 2)
    for expert in range(3):
        route = torch.tensor([[expert]])
        stream = (clips.codes(route, 2), route, torch.ones(1, 1), clips.clip_codes)
        back = quantizer.quantizer_.decode(*stream)
        away = bank.normalization(back) - bank.normalization(frames)
        assert float(distortion[0, expert]) == pytest.approx(
            float(away.square().mean()), rel=1e-3
        )


@pytest.mark.parametrize("window", [None, 0.5])
def test_a_clip_in_a_batch_has_the_units_it_has_alone(window):
    quantizer = learn(router="distortion", clip_window=window, frame_rate=20.0)
    together = quantizer(CLIPS)
    for number, clip in enumerate(CLIPS):
        alone = quantizer(clip[None])
        for name in (*STREAM, "bits", "features"):
            whole, one = getattr(together, name)[number], getattr(alone, name)[0]
            if name == "clip_codes":
                assert (whole[len(one) :] == PADDING).all()
            whole = whole[: len(one)] if one.ndim else whole
            np.testing.assert_array_equal(whole, one, err_msg=name)
    windows = (together.clip_codes[..., 0] != PADDING).sum(axis=1)
    expected = [1 if window is None else (len(c) + 5) // 10 for c in CLIPS]
    assert windows.tolist() == expected
    route = np.log2(3)
    np.testing.assert_allclose(
        together.bits, [2 * len(c) + route + 6 * n for c, n in zip(CLIPS, expected)]
    )


def test_saved_is_loaded_and_a_changed_clip_code_is_refused(quantizer, tmp_path):
    quantizer.save_pretrained(tmp_path)
    loaded = emoq_plugin.load(tmp_path)
    before, after = quantizer(CLIPS), loaded(CLIPS)
    for name in (*STREAM, "features", "bits"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert loaded.score(CLIPS, LABELS) == quantizer.score(CLIPS, LABELS)
    assert "specific-calibrated+clip6" in repr(loaded)
    assert "clip code of 6 bits every clip" in repr(loaded)
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "| clip code | 6 bits every clip |" in card
    bank = quantizer.bank_
    expected = bank.codebooks_sha256
    for changed in (
        ClipCode(
            bank.clip_code.tensors() | {"token": bank.clip_code.token + 1},
            bank.clip_code.component_bits,
        ),
        ClipCode(bank.clip_code.tensors(), bank.clip_code.component_bits, window=9),
        None,
    ):
        assert with_clips_code(bank, changed).codebooks_sha256 != expected
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"window": null', '"window": 25'))
    with pytest.raises(ValueError, match="file was changed or damaged"):
        emoq_plugin.load(tmp_path)


def test_a_checkpoint_fills_a_clip_code_that_was_made_empty(quantizer):
    # ESPnet's way: shapes from a configuration, then numbers from a state_dict.
    routed = quantizer.quantizer_
    tensors = {k: torch.zeros_like(v) for k, v in routed.tensors().items()}
    empty = RoutedQuantizer.from_config(routed.config(), tensors)
    empty.load_state_dict(routed.state_dict())
    np.testing.assert_array_equal(
        empty(CLIPS).clip_codes, quantizer(CLIPS).clip_codes
    )  # fmt: skip


def test_without_labels_it_is_the_blind_code_and_labels_move_it():
    blind = learn(clip_aware=False)
    unlabelled = EmoQuantizer(4, router=None, norm="corpus", clip_bits=6).fit(CLIPS)
    for name, tensor in blind.bank_.clip_code.tensors().items():
        torch.testing.assert_close(unlabelled.bank_.clip_code.tensors()[name], tensor)
    np.testing.assert_array_equal(blind(CLIPS).clip_codes, unlabelled(CLIPS).clip_codes)
    assert not torch.equal(learn().bank_.clip_code.token, blind.bank_.clip_code.token)


def test_a_generator_gives_the_units_of_a_list():
    listed = learn()
    spooled = EmoQuantizer(4, router=None, norm="corpus", clip_bits=6).fit(
        (clip for clip in CLIPS), LABELS, speakers=SPEAKERS
    )
    assert spooled.bank_.codebooks_sha256 == listed.bank_.codebooks_sha256


def test_frames_that_do_not_fit_in_memory_give_the_same_codebooks(monkeypatch):
    from emoq_plugin.learning.fit_bank import QuantizerConfig

    expected = learn(router="distortion").bank_.codebooks_sha256
    plain = QuantizerConfig.__post_init__

    def small(config):
        object.__setattr__(config, "memory_mb", 0.0)
        plain(config)

    monkeypatch.setattr(QuantizerConfig, "__post_init__", small)
    assert learn(router="distortion").bank_.codebooks_sha256 == expected


def test_autocast_and_half_move_no_clip_code(quantizer):
    expected = quantizer(CLIPS)
    low = copy.deepcopy(quantizer.quantizer_).half()
    with torch.autocast("cpu", torch.bfloat16):
        found = low(CLIPS)
    for name in STREAM:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_the_head_sees_the_decoded_clip_code_twice_as_large_as_the_rest(quantizer):
    bank = quantizer.quantizer_.bank
    found = quantizer.quantizer_([torch.from_numpy(clip) for clip in CLIPS])
    stream = (found.codes, found.route, found.weights, found.clip_codes)
    pooled, _ = head_inputs(bank, *stream)
    assert pooled.shape == (len(CLIPS), 3 * 5)  # mean, deviation, decoded mean frame
    decoded = bank.clip_code.decode(found.clip_codes)[:, 0, :5]
    torch.testing.assert_close(pooled[:, 10:], decoded)
    learned = bank.router_parameters
    scaled = (pooled - learned["head.mean"]) / learned["head.scale"]
    deviation = scaled.std(dim=0, correction=0)
    assert deviation[10:].tolist() == pytest.approx([2.0] * 5, rel=0.05)


def test_the_head_averages_over_windows():
    quantizer = learn(clip_window=0.5, frame_rate=20.0)
    code = quantizer.bank_.clip_code
    codes = torch.from_numpy(quantizer(CLIPS).clip_codes)
    pooled = code.pooled(codes)
    for row, windows in zip(pooled, codes):
        real = windows[windows[:, 0] != PADDING]
        torch.testing.assert_close(row, code.decode(real)[:, :5].mean(dim=0))


def test_clips_of_one_frame_are_learned_from_and_quantized():
    clips = [clip[: 1 + 20 * (n % 2)] for n, clip in enumerate(CLIPS)]
    quantizer = EmoQuantizer(4, router=None, norm="corpus", clip_bits=6)
    found = quantizer.fit(clips, LABELS)(clips)
    assert np.isfinite(found.features).all()
    assert found.clip_codes.shape == (len(clips), 1, found.clip_codes.shape[2])
    assert found.bits.tolist() == [2 * len(clip) + 6 for clip in clips]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_bits": 0}, "clip_bits is 0, expected at least 1, or None"),
        ({"clip_bits": -3}, "clip_bits is -3, expected at least 1"),
        ({"clip_bits": 500}, "500 bits asked for, but 36 different training clips s"),
        ({"clip_window": 0.4}, "has 0.4 s, expected at least 0.5 s"),
        ({"clip_bits": None, "clip_window": 1.0}, "belong to a clip code: give clip_b"),
        ({"clip_code": {"statistics": "some"}}, "expected 'mean' or 'all'"),
    ],
)
def test_what_cannot_be_learned_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        learn(**options)


def test_streams_without_their_clip_codes_are_refused(quantizer):
    found = quantizer(CLIPS)
    with pytest.raises(ValueError, match="give clip_codes too"):
        quantizer.decode(found.codes, found.route)
    plain = learn(clip_bits=None)(CLIPS)
    with pytest.raises(ValueError, match="no clip code, found clip_codes"):
        learn(clip_bits=None).decode(
            plain.codes, plain.route, clip_codes=found.clip_codes
        )
    with pytest.raises(ValueError, match="an expert alone does not know"):
        quantizer.bank_.expert("specific/sad")


def test_a_clip_code_of_other_features_is_refused(quantizer):
    wider = [np.concatenate([clip, clip], axis=1) for clip in CLIPS]
    other = EmoQuantizer(4, router=None, norm="corpus", clip_bits=6).fit(wider)
    bank = quantizer.bank_
    with pytest.raises(ValueError, match="features of 10 dimensions, the codebooks f"):
        type(bank)(
            bank.experts,
            bank.codebooks,
            bank.normalization,
            emotions=bank.emotions,
            clip_code=other.bank_.clip_code,
        )


@pytest.mark.parametrize(
    ("system", "bits", "message"),
    [
        ("balanced", 6, "bank has a clip code of 6 bits.*name system 'balanced+clip6'"),
        ("balanced+clip8", 6, "name system 'balanced+clip6'"),
        ("balanced+clip6", None, "bank has no clip code.*name system 'balanced'"),
        ("clip6", 6, "no frame codes to encode with: take 'balanced+clip6'"),
    ],
)
def test_a_system_and_a_bank_of_another_clip_code_do_not_meet(system, bits, message):
    bank = learn(clip_bits=bits).bank_
    with pytest.raises(ValueError, match=re.escape(message).replace(r"\.\*", ".*")):
        RoutedQuantizer(bank, system)


def test_names_of_systems_with_clip_codes():
    names = ["balanced+clip32", "specific-calibrated+clip32", "clip32",
             "balanced+clip8", "balanced+clip32+specific-soft", "balanced"]  # fmt: skip
    systems = [System.parse(name) for name in names]
    assert [system.name for system in systems] == names
    assert [s.clip_bits for s in systems] == [32, 32, 32, 8, 32, None]
    assert [s.n_streams for s in systems] == [1, 1, 0, 1, 1, 1]
    assert systems[1].title == "Emo-Q, calibrated router + clip code of 32 bits"
    assert systems[4].is_control
    assert not any(s.is_control for s in systems[:4])
    assert systems[4].beside == System.parse("specific-soft")
    assert [s.name for s in sorted(systems, key=lambda s: s.order)] == [
        "clip32", "balanced", "balanced+clip8", "balanced+clip32",
        "specific-calibrated+clip32", "balanced+clip32+specific-soft",
    ]  # fmt: skip
    assert expert_sets_of(parse_systems(["clip32", "balanced+clip32"])) == ["balanced"]
    for wrong in ("clip0", "balanced+clip", "balanced+clip0", "clip", "clip8+clip8",
                  "balanced+specific-soft+clip8", ""):  # fmt: skip
        with pytest.raises(ValueError, match=f"system '{re.escape(wrong)}'|system ''"):
            System.parse(wrong)


def test_side_bits_count_every_window():
    quantizer = learn(router="distortion", clip_window=0.5, frame_rate=20.0)
    system, bank = System.parse("specific-distortion+clip6"), quantizer.bank_
    route = np.log2(len(quantizer.classes_))
    assert system.side_bits(bank) == pytest.approx(route + 6)
    windows = torch.tensor([1, 3])
    expected = torch.tensor([route + 6, route + 18], dtype=torch.float32)
    torch.testing.assert_close(system.side_bits(bank, windows), expected)


def test_experts_of_other_clip_codes_do_not_join():
    bank, other = learn().bank_, learn(clip_aware=False).bank_
    own = learn(router="distortion").bank_.subset(["specific/happy"])
    assert bank.joined(own, ["balanced", "specific"]).clip_code is bank.clip_code
    with pytest.raises(ValueError, match="different clip codes leave: learn the new"):
        bank.joined(other, ["balanced"])
    with pytest.raises(ValueError, match="different clip codes leave"):
        bank.joined(learn(clip_bits=None).bank_, ["balanced"])


@pytest.mark.parametrize("system", ["label", "balanced+clip6+specific-distortion"])
def test_a_route_beside_is_for_experiments_and_makes_no_quantizer(system):
    with pytest.raises(ValueError, match="control of experiments, whose heads hear"):
        RoutedQuantizer(learn(router="distortion").bank_, system)
