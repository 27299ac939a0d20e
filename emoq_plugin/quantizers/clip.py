"""ClipEncoding: one clip encoded by any experts, each level computed once."""

import torch
from torch import Tensor

from emoq_plugin.learning.encoding import encode_level
from emoq_plugin.quantizers.bank import CodebookBank


class ClipEncoding:
    """Codes and evidence for routing of one clip, computed when asked for.

    Parameters
    ----------
    bank : CodebookBank
    frames : (T, D) Tensor
        Features of one clip, without padding.
    speaker_mean : (D,) Tensor, optional
        Where the bank's normalisation needs it.

    Raises
    ------
    ValueError
        For a clip without frames or with another dimension than the bank's.
    """

    def __init__(
        self, bank: CodebookBank, frames: Tensor, *, speaker_mean: Tensor | None = None
    ):
        if frames.dim() != 2 or frames.shape[1] != bank.dimension or not len(frames):
            raise ValueError(
                f"features have shape {tuple(frames.shape)}, expected "
                f"(frames, {bank.dimension}) with at least one frame"
            )
        self.bank = bank
        self.normalised = bank.normalization(frames, speaker_mean)
        self._codes: dict[str, list[Tensor]] = {}
        self._residual: dict[str, Tensor] = {}
        self._distortion: dict[str, list[float]] = {}
        self._residual_mean: dict[str, list[Tensor]] = {}

    def _extend(self, expert: str, n_levels: int) -> None:
        if not 1 <= n_levels <= self.bank.n_levels:
            raise ValueError(
                f"{n_levels} levels asked for, expected 1 to {self.bank.n_levels}"
            )
        codes = self._codes.setdefault(expert, [])
        residual = self._residual.get(expert, self.normalised)
        row = self.bank.experts.index(expert)
        while len(codes) < n_levels:
            codebook = self.bank.codebooks[len(codes)][row]
            found, residual = encode_level(residual, codebook)
            codes.append(found)
            self._residual[expert] = residual
            self._distortion.setdefault(expert, []).append(
                float(residual.square().mean())
            )
            self._residual_mean.setdefault(expert, []).append(residual.mean(dim=0))

    def codes(self, expert: str, n_levels: int) -> Tensor:
        """Give the (T, n_levels) int64 codes of an expert."""
        self._extend(expert, n_levels)
        return torch.stack(self._codes[expert][:n_levels], dim=1)

    def distortion(self, expert: str, depth: int) -> float:
        """Mean squared error per frame and dimension, in normalised features."""
        self._extend(expert, depth)
        return self._distortion[expert][depth - 1]

    def cosine(self, expert: str, depth: int) -> float:
        """Cosine of the time means of features and reconstruction.

        The router score of arXiv 2603.21224, in normalised features.
        """
        self._extend(expert, depth)
        mean = self.normalised.mean(dim=0)
        decoded = mean - self._residual_mean[expert][depth - 1]
        return float(torch.nn.functional.cosine_similarity(mean, decoded, dim=0))

    def pooled(self) -> Tensor:
        """Mean and standard deviation over time of the normalised features, (2 D,)."""
        return pool(self.normalised)


def pool(frames: Tensor) -> Tensor:
    """Pool (T, D) over time to mean and (biased) standard deviation, (2 D,)."""
    return torch.cat([frames.mean(dim=0), frames.std(dim=0, correction=0)])
