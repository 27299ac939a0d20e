"""Encoders of every kind on tiny random models; recordings and a quantizer."""

import numpy as np
import pytest
import soundfile

import emoq_plugin
from tests.speech.tiny_bank import RATE, make_bank
from tests.speech.tiny_models import KINDS, PACKAGES


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return encoder and options of a kind; its files are made when first asked for."""
    made = {}

    def give(kind):
        name, make, options = KINDS[kind]
        if name in PACKAGES:
            pytest.importorskip(PACKAGES[name])
        if kind not in made:
            made[kind] = dict(options)
            if make is not None:
                directory = tmp_path_factory.mktemp(kind)
                make(directory)
                made[kind]["model"] = str(directory)
        return name, dict(made[kind])

    return give


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold a quantizer and three recordings, one of them at another rate."""
    path = tmp_path_factory.mktemp("encode")
    make_bank().save_pretrained(path / "quantizer")
    random = np.random.default_rng(0)
    (path / "audio" / "deep").mkdir(parents=True)
    for name, seconds, rate in (
        ("a.wav", 0.7, RATE),
        ("b.flac", 0.4, RATE),
        ("deep/c.wav", 0.5, 8000),
    ):
        samples = random.normal(size=int(seconds * rate)) / 8
        soundfile.write(path / "audio" / name, samples, rate)
    return path


@pytest.fixture
def quantizer(folder):
    return emoq_plugin.load(str(folder / "quantizer"), system="specific-distortion")
