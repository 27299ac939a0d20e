"""A bank of three experts on log-mel features."""

import numpy as np
import torch

from emoq_plugin.core import CodebookBank
from emoq_plugin.core.normalization import fit_normalization
from emoq_plugin.speech.encoders.registry import build_encoder

RATE, EMOTIONS = 16000, ["angry", "sad"]


def make_bank(kind="level", **card):
    random = torch.Generator().manual_seed(0)
    encoder = build_encoder("fbank", num_mel_bins=12)
    wave = np.random.default_rng(1).normal(size=4000).astype(np.float32) / 4
    frames = torch.from_numpy(encoder([wave])[0])
    norm = fit_normalization(kind, [(frames, frames.mean(dim=0))], dimension=12)
    experts = ["balanced", "specific/angry", "specific/sad"]
    codebooks = [torch.randn(3, k, 12, generator=random) for k in (8, 6)]
    card = {"feature": encoder.specification.to_json(), "corpus": "tiny"} | card
    return CodebookBank(experts, codebooks, norm, emotions=EMOTIONS, card=card)
