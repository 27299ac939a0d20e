"""The real Whisper base and real speech, where both lie beside the project."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from emoq_plugin.data.corpora.emodb import CORPUS
from emoq_plugin.speech.audio import read_audio
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.speech.golden import check_golden_clip
from emoq_plugin.speech.pipeline import SpeechToUnits

SHARED = Path(__file__).parents[3] / "shared"
MODEL = SHARED / "models" / "whisper_base"
EMODB = Path(os.environ.get("EMODB") or SHARED / "data" / "emodb")


@pytest.fixture(scope="module")
def clips():
    pytest.importorskip("transformers")
    if not MODEL.is_dir() or not EMODB.is_dir():
        pytest.skip("Whisper base or EMO-DB is not here: ../shared, EMODB")
    found = sorted(CORPUS.find(EMODB), key=lambda clip: clip.name)[:4]
    return [read_audio(str(clip.audio), sample_rate=16000) for clip in found]


def test_clips_in_a_batch_have_the_frames_that_they_have_alone(clips):
    encoder = build_encoder(
        "huggingface", model_dir=str(MODEL), layers=[3], window="clip"
    )
    waves = [torch.from_numpy(np.float32(wave)) for wave, _ in clips]
    together = encoder(waves)
    for wave, frames in zip(waves, together, strict=True):
        assert abs(len(frames) - len(wave) / 320) <= 1 and frames.shape[1] == 512
        np.testing.assert_allclose(frames, encoder([wave])[0], atol=2e-3, rtol=1e-3)


def test_two_scale_units_of_speech_come_with_the_package(clips):
    speech = SpeechToUnits.from_pretrained("emodb-whisper", model_dir=str(MODEL))
    units = list(speech(clips))
    for (wave, rate), one in zip(clips, units, strict=True):
        seconds = len(wave) / rate
        assert abs(len(one.codes) - 50 * seconds) <= 1
        assert one.clip_codes.shape[0] == 1 and one.clip_codes.min() >= 0
    # What is said and how differs from clip to clip.
    assert len({tuple(one.clip_codes[0].tolist()) for one in units}) == len(units)


def test_weights_and_layers_that_are_not_the_makers_are_named(clips):
    speech = SpeechToUnits.from_pretrained("emodb-whisper", model_dir=str(MODEL))
    encoder, bank = speech.encoder, speech.quantizer.bank
    encoder.layers = [4]
    with pytest.raises(ValueError, match=r"of layers \[4\], the maker's of 3"):
        check_golden_clip(bank, encoder)
    encoder.layers = [3]
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter *= 1.2
    with pytest.raises(ValueError, match="the weights are others"):
        check_golden_clip(bank, encoder)
