"""A bank in the plane whose routes one can compute by hand."""

import pytest
import torch

from emoq_plugin.core import CodebookBank, Normalization

EMOTIONS = ["angry", "happy", "sad"]
# Two codewords for each expert, one level.
CODEBOOKS = {
    "balanced": [[0.0, 0.0], [1.0, 1.0]],
    "specific/angry": [[4.0, 0.0], [6.0, 0.0]],
    "specific/happy": [[0.0, 4.0], [0.0, 6.0]],
    "specific/sad": [[-4.0, 0.0], [-6.0, 0.0]],
    "capacity/0": [[2.0, 0.0], [3.0, 0.0]],
    "capacity/1": [[0.0, 2.0], [0.0, 3.0]],
}


def _make_bank(codebooks=None, **options):
    codebooks = codebooks or CODEBOOKS
    norm = Normalization("corpus", torch.zeros(2), torch.ones(2))
    tables = torch.tensor(list(codebooks.values()))
    if tables.dim() == 3:
        tables = tables[:, None]
    return CodebookBank(
        list(codebooks), list(tables.unbind(1)), norm, emotions=EMOTIONS, **options
    )


@pytest.fixture
def make_bank():
    """Return the function that makes a bank of other codebooks or routers."""
    return _make_bank


@pytest.fixture
def bank(make_bank):
    return make_bank()


@pytest.fixture
def deep_bank():
    """Three levels of random codebooks, a normalisation, and learned routers."""
    generator = torch.Generator().manual_seed(0)
    experts = ["balanced", *(f"specific/{e}" for e in EMOTIONS)]
    codebooks = [torch.randn(4, 5, 3, generator=generator) / 2**i for i in range(3)]
    mean, scale = torch.tensor([[1.0, 2.0, 3.0], [2.0, 1.0, 0.5]])
    return CodebookBank(
        experts,
        codebooks,
        Normalization("level", mean, scale),
        emotions=EMOTIONS,
        router_parameters={
            "linear.mean": torch.zeros(6),
            "linear.scale": torch.ones(6),
            "linear.weight": torch.randn(3, 6, generator=generator),
            "linear.bias": torch.zeros(3),
            "soft.temperature": torch.tensor(0.5),
        },
    )
