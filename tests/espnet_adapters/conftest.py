"""A tiny quantizer and a tiny corpus of units in which the emotion can be decoded."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.normalization import Normalization
from emoq_plugin.files import write_table
from emoq_plugin.units.store import UnitWriter, write_cards

EMOTIONS = ["angry", "sad"]
EXPERTS = ["specific/angry", "specific/sad"]
SIZES, DIMENSION = [8, 6], 5
CARD = {"training_speakers": list("abcd")}


def make_bank() -> CodebookBank:
    """Make a bank with an expert that the units do not use."""
    random = torch.Generator().manual_seed(0)
    experts = ["balanced", *EXPERTS]
    codebooks = [
        torch.randn(len(experts), size, DIMENSION, generator=random) + 3.0
        for size in SIZES
    ]
    norm = Normalization("corpus", torch.zeros(DIMENSION), torch.ones(DIMENSION))
    return CodebookBank(experts, codebooks, norm, emotions=EMOTIONS, card=CARD)


def write_units(
    directory: Path, codes: dict[str, np.ndarray], route: dict[str, str]
) -> None:
    """Write a directory of units as stage 5 does."""
    with UnitWriter(directory, size=8, n_levels=2, routed=True) as writer:
        for utterance in sorted(codes):
            writer.write(utterance, codes[utterance], {route[utterance]: 1.0})
    card = {
        "rate": "8x2",
        "system": "specific-distortion",
        "experts": EXPERTS,
        "n_levels": len(SIZES),
        "codebooks_sha256": make_bank().codebooks_sha256,
    }
    write_cards(directory, card, {"nominal": 300, "entropy": 250, "side_info": 0.5})


def make_batch(seed=0):
    random = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([6, 1, 4])
    codes = torch.stack(
        [torch.randint(0, size, (3, 6), generator=random) for size in SIZES], dim=-1
    )
    for row, length in enumerate(lengths):
        codes[row, length:] = -1
    route = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    return codes, lengths, route


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """Return the constants and makers of this file to the tests."""
    return SimpleNamespace(
        emotions=EMOTIONS,
        experts=EXPERTS,
        sizes=SIZES,
        bank=make_bank,
        batch=make_batch,
        write_units=write_units,
    )


@pytest.fixture(scope="session")
def quantizer(tmp_path_factory) -> str:
    """Return the directory of a saved bank."""
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
    """Return a copy that a test may spoil (codes.scp still points to the first one)."""
    return Path(shutil.copytree(corpus_once, tmp_path / "corpus"))
