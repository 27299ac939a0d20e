"""Residual quantizers, banks of experts and their artifacts."""

from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.normalization import Normalization
from emoq_plugin.core.rvq import Quantized, ResidualQuantizer

__all__ = [
    "CodebookBank",
    "Normalization",
    "Quantized",
    "ResidualQuantizer",
]
