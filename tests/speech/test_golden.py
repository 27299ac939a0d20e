"""Golden clips: other weights, layers, features and arithmetic have their names."""

import hashlib
import logging

import numpy as np
import pytest
import torch

from emoq_plugin.core import CodebookBank
from emoq_plugin.core.normalization import fit_normalization
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.speech import golden
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.speech.pipeline import SpeechToUnits
from tests.speech.tiny_bank import make_bank
from tests.speech.tiny_models import make_transformers


def bank_of(encoder):
    """Return a bank for the features of an encoder, with its golden clip."""
    features = golden.golden_features(encoder)
    frames = torch.from_numpy(features)
    width = frames.shape[1]
    norm = fit_normalization("corpus", [(frames, frames.mean(dim=0))], dimension=width)
    random = torch.Generator().manual_seed(0)
    codebooks = [torch.randn(1, 32, width, generator=random)]
    card = {"feature": encoder.specification.to_json()}
    bank = CodebookBank(["balanced"], codebooks, norm, emotions=[], card=card)
    bank.card[golden.GOLDEN_CLIP] = golden.record(features, bank, encoder.sample_rate)
    return bank


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("hubert")
    model = make_transformers(place, "Hubert")
    encoder = build_encoder("huggingface", model=str(place), layers=2)
    return place, model, encoder, bank_of(encoder)


def test_the_clip_is_the_same_on_every_machine():
    clip = golden.golden_clip(16000)
    assert len(clip) == 8000 and clip.dtype == np.int16
    assert (
        hashlib.sha256(clip.astype("<i2").tobytes()).hexdigest().startswith("a95bec98")
    )


def test_the_maker_finds_what_it_recorded(hubert, caplog):
    _, _, encoder, bank = hubert
    caplog.set_level(logging.WARNING)
    golden.check_golden_clip(bank, encoder)
    assert not caplog.records


def test_a_changed_weight_is_named(hubert, tmp_path):
    _, model, _, bank = hubert
    first = next(model.parameters())
    before = first.data.clone()
    first.data[0] += 0.01
    model.save_pretrained(tmp_path)
    first.data = before
    import transformers

    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="other weights: weights_sha256"):
        SpeechToUnits(RoutedQuantizer(bank, "balanced"), model_dir=str(tmp_path))


def test_weights_that_change_behind_their_digest_are_named(hubert):
    place, _, _, bank = hubert
    encoder = build_encoder("huggingface", model=str(place), layers=2)
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter *= 1.5
    with pytest.raises(ValueError, match="the weights are others"):
        golden.check_golden_clip(bank, encoder)


def test_another_layer_is_named(hubert):
    place, _, _, bank = hubert
    encoder = build_encoder("huggingface", model=str(place), layers=3)
    with pytest.raises(ValueError, match=r"of layers \[3\], the maker's of 2"):
        golden.check_golden_clip(bank, encoder)
    other = dict(bank.card["feature"], layers=[3])
    bank = CodebookBank(
        bank.experts, bank.codebooks, bank.normalization, emotions=[], card=bank.card
    )
    bank.card["feature"] = other
    with pytest.raises(ValueError, match="the maker's of 2"):
        SpeechToUnits(RoutedQuantizer(bank, "balanced"), model_dir=str(place))
    SpeechToUnits(RoutedQuantizer(bank, "balanced"), model_dir=str(place), check=False)


def test_other_features_are_named():
    bank = bank_of(build_encoder("fbank", num_mel_bins=12))
    longer = build_encoder("fbank", num_mel_bins=12, frame_length=50.0)
    with pytest.raises(ValueError, match=r"shape .* other features"):
        golden.check_golden_clip(bank, longer)
    with pytest.raises(ValueError, match="other features than"):
        golden.check_golden_clip(
            bank,
            lambda clip: golden.golden_features(
                build_encoder("fbank", num_mel_bins=12)
            )[:, ::-1],
            sample_rate=16000,
        )
    spec = build_encoder("fbank", num_mel_bins=12, frame_length=50.0).specification
    bank.card["feature"]["settings"] = spec.settings | {"frame_length": 40.0}
    with pytest.raises(ValueError, match="other features than the quantizer was"):
        SpeechToUnits(RoutedQuantizer(bank, "balanced"))


def test_arithmetic_alone_is_a_warning_with_what_it_costs(hubert, caplog):
    _, _, encoder, bank = hubert

    def rounded(clip):
        [frames] = encoder([clip])
        step = frames.std() / 8
        return np.round(frames / step) * step

    caplog.set_level(logging.WARNING)
    golden.check_golden_clip(bank, rounded, sample_rate=16000)
    [line] = caplog.messages
    assert "through arithmetic alone" in line


def test_codes_that_differ_with_equal_features_are_the_quantizers_fault():
    encoder = build_encoder("fbank", num_mel_bins=12)
    bank = bank_of(encoder)
    recorded = bank.card[golden.GOLDEN_CLIP]["codes"]["balanced"]
    recorded[0] = " ".join(str((int(c) + 1) % 32) for c in recorded[0].split())
    with pytest.raises(ValueError, match="arithmetic of the quantizer differs"):
        golden.check_golden_clip(bank, encoder)


def test_audio_at_another_rate_is_named():
    bank = bank_of(build_encoder("fbank", num_mel_bins=12))
    with pytest.raises(ValueError, match="another sampling rate"):
        golden.check_golden_clip(bank, lambda clip: clip, sample_rate=8000)
    with pytest.raises(ValueError, match="sample_rate is missing"):
        golden.check_golden_clip(bank, lambda clip: clip)


def test_a_quantizer_of_before_there_were_golden_clips_is_taken():
    bank = make_bank()
    assert golden.GOLDEN_CLIP not in bank.card
    speech = SpeechToUnits(RoutedQuantizer(bank, "specific-distortion"))
    assert speech.encoder.specification.dimension == 12


def test_distance_of_summaries_is_the_distance_of_features():
    random = np.random.default_rng(0)
    features = random.normal(3.0, 2.0, (25, 64)).astype(np.float32)
    summary = {
        "shape": [25, 64],
        "spread": float(features.std()),
        "projections": golden._projections(features).tolist(),
    }
    for size in (0.01, 0.3):
        for change in (random.normal(0, size * 2.0, features.shape), size * 2.0):
            other = (features + change).astype(np.float32)
            assert 0.5 * size < golden.deviation(other, summary) < 2 * size
    older = summary | {"projections": summary["projections"][:-1]}
    assert golden.deviation(features, older) == 0.0  # of before the mean was kept
