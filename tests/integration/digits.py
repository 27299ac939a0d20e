"""A corpus of noises as that of spoken digits, and quantizers of it."""

import math

import numpy as np
import soundfile
import torch

from emoq_plugin import EmoQuantizer
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.speech.audio import read_audio, resample
from emoq_plugin.speech.encoders.registry import build_encoder

SPEAKERS = ["george", "lucas", "theo"]
NUMBERS = [0, 5, 6, 45]
BINS, RATE = 16, 16000


def write_corpus(folder):
    """Noises whose length and pitch say the digit."""
    random = np.random.default_rng(0)
    (folder / "recordings").mkdir(parents=True)
    for digit in range(10):
        for speaker in SPEAKERS:
            for number in NUMBERS:
                t = np.arange(1600 + 200 * digit) / 8000
                wave = np.sin(2 * math.pi * (200 + 150 * digit) * t) / 4
                wave += random.normal(size=len(t)) / 50
                name = f"{digit}_{speaker}_{number}.wav"
                soundfile.write(folder / "recordings" / name, wave, 8000)


def write_banks(folder, recordings):
    """Save quantizers of two experts, and of frames and a clip code."""
    encoder = build_encoder("fbank", num_mel_bins=BINS)
    clips = encoder([resample(*read_audio(str(p)), RATE) for p in recordings])
    options = {"router": None, "norm": "corpus", "clip_bits": 4}
    learned = EmoQuantizer(16, **options).fit(clips)
    learned.quantizer_.bank.card["feature"] = encoder.specification.to_json()
    learned.save_pretrained(folder / "two_scale")
    # Codewords are frames of the corpus, so that digits differ in their units.
    frames = np.concatenate([clip - clip.mean() for clip in clips])
    drawn = np.random.default_rng(0).choice(len(frames), (2, 2, 16), replace=False)
    levels = (
        torch.from_numpy(frames[drawn]) * torch.tensor([1.0, 0.2])[:, None, None, None]
    )
    CodebookBank(
        ["specific/angry", "specific/sad"],
        list(levels),
        Normalization("level", torch.zeros(BINS), torch.ones(BINS)),
        emotions=["angry", "sad"],
        card={"feature": encoder.specification.to_json()},
    ).save_pretrained(folder / "experts")
