"""Residual quantizers, banks of experts and their artifacts."""

from emoq_plugin.quantizers.bank import CodebookBank
from emoq_plugin.quantizers.normalization import Normalization
from emoq_plugin.quantizers.residual import Quantized, ResidualQuantizer

__all__ = [
    "CodebookBank",
    "Normalization",
    "Quantized",
    "ResidualQuantizer",
]
