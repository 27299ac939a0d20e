"""A small valid data directory on synthetic audio."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoq_plugin.bin import format_data
from emoq_plugin.data.directory import DataDirectory

RATE = 16000


def tone(seconds=0.5, rate=RATE, hertz=440.0):
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


class Corpus:
    """Tables as lists of lines, so that a test can break one of them."""

    emotions = ("angry", "happy", "sad")
    tone = staticmethod(tone)

    def __init__(self, root: Path):
        self.root = root
        self.path = root / "data" / "all"
        self.path.mkdir(parents=True)
        self.emotions_file = root / "data" / "emotions"
        self.emotions_file.write_text("angry\nhappy\nsad\n")
        self.utterances = [f"s{s}-u{u}" for s in range(4) for u in range(2)]
        audio = root / "with space"
        audio.mkdir()
        self.audio = {u: audio / f"{u}.wav" for u in self.utterances}
        for file in self.audio.values():
            soundfile.write(file, tone(), RATE)
        self.table("wav.scp", [f"{u} {f}" for u, f in self.audio.items()])
        self.table("utt2spk", [f"{u} {u.split('-')[0]}" for u in self.utterances])
        self.table("utt2emo", [f"{u} sad" for u in self.utterances])

    def table(self, name, lines):
        (self.path / name).write_text("".join(f"{line}\n" for line in lines))

    def lines(self, name):
        return (self.path / name).read_text().splitlines()

    def samples(self, utterance, samples, rate=RATE, **how):
        soundfile.write(self.audio[utterance], samples, rate, **how)


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


@pytest.fixture
def copy(miniature, tmp_path, caplog):
    """Return a copy of a corpus' miniature that a test may change."""
    caplog.set_level(logging.INFO)

    def make(name):
        return Path(shutil.copytree(miniature(name), tmp_path / name))

    return make


@pytest.fixture
def stage2(corpus):
    def run(**options):
        options = {
            "data_dir": corpus.path,
            "emotions": corpus.emotions_file,
            "output_dir": corpus.root / "dump",
            **options,
        }
        format_data.main([f"--{k}={v}" for k, v in options.items()])
        return DataDirectory.read(corpus.root / "dump", corpus.emotions)

    return run
