"""A tiny quantizer and its units, shared by the tests of this directory."""

from pathlib import Path

import kaldiio
import numpy as np
import torch

from emoq_plugin.files import write_json, write_table
from emoq_plugin.quantizers import CodebookBank, Normalization

EMOTIONS = ["angry", "sad"]
EXPERTS = ["specific/angry", "specific/sad"]
SIZES, DIMENSION = [8, 6], 5


def make_bank() -> CodebookBank:
    """Make a bank with an expert that the units do not use."""
    random = torch.Generator().manual_seed(0)
    experts = ["balanced", *EXPERTS]
    codebooks = [
        torch.randn(len(experts), size, DIMENSION, generator=random) + 3.0
        for size in SIZES
    ]
    norm = Normalization("corpus", torch.zeros(DIMENSION), torch.ones(DIMENSION))
    return CodebookBank(experts, codebooks, norm, emotions=EMOTIONS)


def write_units(
    directory: Path, codes: dict[str, np.ndarray], route: dict[str, str]
) -> None:
    """Write a directory of units as stage 5 does."""
    directory.mkdir(parents=True, exist_ok=True)
    specifier = f"ark,scp:{directory}/codes.ark,{directory}/codes.scp"
    with kaldiio.WriteHelper(specifier, write_function="numpy") as write:
        for utterance in sorted(codes):
            write(utterance, codes[utterance].astype(np.int32))
    write_table(directory / "utt2route", route)
    write_json(
        directory / "units.json",
        {
            "rate": "8x2",
            "arm": "specific-distortion",
            "experts": EXPERTS,
            "n_levels": len(SIZES),
            "codebooks_sha256": make_bank().codebooks_sha256,
            "bitrate_bps": {"nominal": 300.0, "entropy": 250.0, "side_info": 0.5},
        },
    )


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
