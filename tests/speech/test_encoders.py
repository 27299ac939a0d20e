"""Filter bank, openSMILE, the registry and the files of conf/features."""

import sys
from pathlib import Path

import numpy as np
import pytest

from emoq_plugin.speech.encoders.registry import (
    ENCODERS,
    build_encoder,
    encoder_class,
    read_feature_config,
)

CONF = Path(__file__).parents[2] / "conf/features"


def _wave(seconds=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=int(16000 * seconds))).astype("f4")


def test_fbank_is_kaldis_filter_bank_at_50_hz():
    import torch
    from torchaudio.compliance import kaldi

    wave = _wave()
    encoder = build_encoder("fbank")
    expected = kaldi.fbank(
        torch.from_numpy(wave)[None] * 32768,
        num_mel_bins=80,
        frame_length=25,
        frame_shift=20,
        dither=0.0,
    )
    [frames] = encoder([wave])
    np.testing.assert_array_equal(frames, expected.numpy())
    assert (
        encoder.specification.frame_rate_hz == 50
        and encoder.specification.dimension == 80
    )


@pytest.mark.parametrize("frames", [6, 7, 8, 20])
@pytest.mark.parametrize("options", [{}, {"frame_length": 31.3, "frame_shift": 11.7}])
def test_fbank_of_a_long_wave_is_computed_in_pieces(monkeypatch, frames, options):
    encoder = build_encoder("fbank", **options)
    random = np.random.default_rng(0)
    length = encoder.minimum_samples + (frames - 1) * encoder._shift + 5
    wave = random.normal(size=length).astype(np.float32) / 8
    [whole] = encoder([wave])
    monkeypatch.setattr("emoq_plugin.speech.encoders.fbank.PIECE_FRAMES", 7)
    lengths = []
    computed = encoder._frames
    monkeypatch.setattr(
        encoder, "_frames", lambda w: lengths.append(len(computed(w))) or computed(w)
    )
    [found] = encoder([wave])
    # A product of one row may differ in its last bit from the same row among others.
    assert len(whole) == frames and np.allclose(found, whole, rtol=0, atol=1e-4)
    assert max(lengths) <= 7


def test_fbank_options_change_the_frames_and_the_specification():
    wave = _wave(1.0)
    plain = build_encoder("fbank")
    assert build_encoder("fbank", num_mel_bins=23)([wave])[0].shape[1] == 23
    faster = build_encoder("fbank", frame_shift=10.0)
    assert len(faster([wave])[0]) == 98 and faster.specification.frame_rate_hz == 100
    longer = build_encoder("fbank", frame_length=50.0)
    assert longer.minimum_samples == 800
    assert len(longer([wave])[0]) < len(plain([wave])[0])
    for other in (faster, longer):
        assert other.specification.fingerprint() != plain.specification.fingerprint()
    with pytest.raises(ValueError, match="frame_shift is 0"):
        build_encoder("fbank", frame_shift=0)


@pytest.mark.parametrize(
    "wave, message",
    [
        (np.zeros((2, 9000), "f4"), r"'u': shape \(2, 9000\), expected mono"),
        (np.full(9000, np.nan, "f4"), "'u': the audio holds NaN"),
    ],
)
def test_bad_audio_is_named(wave, message):
    with pytest.raises(ValueError, match=message):
        build_encoder("fbank")([wave], utterances=["u"])


def test_opensmile_keeps_every_step_th_frame_and_repeats_itself():
    pytest.importorskip("opensmile")
    native, half = build_encoder("opensmile", step=1), build_encoder("opensmile")
    assert (native.specification.frame_rate_hz, half.specification.frame_rate_hz) == (
        100,
        50,
    )
    waves = [_wave(0.5, 1), _wave(0.4, 2)]
    for fast, slow in zip(native(waves), half(waves)):
        assert fast.shape[1] == half.specification.dimension == 25
        np.testing.assert_array_equal(fast[::2], slow)
    np.testing.assert_array_equal(half(waves)[1], half(waves[1:])[0])
    with pytest.raises(ValueError, match="step is 0"):
        build_encoder("opensmile", step=0)


PACKAGES = {
    "opensmile": ("opensmile", "opensmile", {}),
    "transformers": ("huggingface", "huggingface", {"model": "x"}),
    "s3prl": ("s3prl", "s3prl", {"model": "hubert"}),
    "espnet2": ("espnet_ssl", "espnet", {}),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_answers_with_the_command_that_installs_it(
    monkeypatch, package, tiny
):
    name, extra, conf = PACKAGES[package]
    if package == "espnet2":
        name, conf = tiny("espnet_ssl")
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"pip install 'emoq\[{extra}\]'"):
        build_encoder(name, **conf)


def test_unknown_names_are_answered_with_what_exists():
    with pytest.raises(ValueError, match="unknown encoder 'mfcc'.*fbank.*huggingface"):
        build_encoder("mfcc")
    with pytest.raises(ValueError, match=r"no option \['bins'\].*num_mel_bins"):
        build_encoder("fbank", bins=3)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_names_options_that_exist(path):
    name, conf = read_feature_config(path)
    assert name in ENCODERS
    assert encoder_class(name, **conf)


def test_the_main_presets_show_every_option_with_its_default():
    import inspect

    for name in ENCODERS:
        found, conf = read_feature_config(CONF / f"{name}.yaml")
        options = inspect.signature(encoder_class(found)).parameters
        assert set(conf) == set(options) - {"device"}
        for option, value in conf.items():
            default = options[option].default
            if default is not inspect.Parameter.empty:
                assert value == ([default] if option == "layers" else default)


@pytest.mark.parametrize(
    "text, message",
    [
        ("encoder: [", "not YAML"),
        ("conf: {}", "expected 'encoder"),
        ("encoder: fbank\nconfig: {}", "expected 'encoder"),
        ("encoder: fbank\nconf: {shift: 3}", r"no option \['shift'\]"),
    ],
)
def test_a_bad_config_is_named(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.yaml: .*{message}"):
        read_feature_config(path)
