"""A tiny corpus of units in which the emotion can be decoded."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_units import EMOTIONS, EXPERTS, make_bank, write_units

from emoq_plugin.files import write_table


@pytest.fixture(scope="session")
def quantizer(tmp_path_factory) -> str:
    """Give the directory of a saved bank."""
    path = tmp_path_factory.mktemp("quantizer")
    make_bank().save_pretrained(path)
    return str(path)


@pytest.fixture(scope="session")
def corpus_once(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    codes, route, tables = {}, {}, {"wav.scp": {}, "utt2spk": {}, "utt2emo": {}}
    parts = {"train": [], "valid": [], "test": []}
    for part, speakers in (("train", "abcd"), ("valid", "e"), ("test", "f")):
        for speaker in speakers:
            for n in range(10):
                utterance, label = f"{speaker}-{n:02d}", n % 2
                parts[part].append(utterance)
                n_frames = int(random.integers(5, 20))
                # Angry uses the lower half of level 0, sad the upper half.
                level = random.integers(0, 4, n_frames) + 4 * label
                codes[utterance] = np.stack(
                    [level, random.integers(0, 6, n_frames)], axis=1
                )
                # The route says nothing about the label.
                route[utterance] = EXPERTS[int(random.integers(2))]
                tables["wav.scp"][utterance] = f"{utterance}.wav"
                tables["utt2spk"][utterance] = speaker
                tables["utt2emo"][utterance] = EMOTIONS[label]
    write_units(root / "units", codes, route)
    for name, table in tables.items():
        write_table(root / "data" / "all" / name, table)
    (root / "data" / "emotions").write_text("\n".join(EMOTIONS) + "\n")
    for part, utterances in parts.items():
        path = root / "data" / "folds" / "0" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(utterances) + "\n")
    return root


@pytest.fixture
def corpus(corpus_once, tmp_path) -> Path:
    """Give a copy that a test may spoil (codes.scp still points to the first one)."""
    return Path(shutil.copytree(corpus_once, tmp_path / "corpus"))
