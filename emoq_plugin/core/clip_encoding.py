"""ClipEncoding: clips encoded by any experts, each level computed once, in batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.encoding import decode_frames
from emoq_plugin.core.nearest import nearest_codewords


class ClipEncoding:
    """Codes of one clip and what routers ask about them, computed when asked for.

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
        self._score: dict[str, list[float]] = {}  # sum over time, see nearest_codewords
        self._residual: dict[str, tuple[int, Tensor]] = {}  # levels removed, frames
        self._energy: float | None = None

    def n_levels(self, expert: str) -> int:
        """Give the number of levels at hand."""
        return len(self._codes.get(expert, ()))

    def residual(self, expert: str) -> Tensor:
        """Give what the levels at hand leave over, (T, D)."""
        done, residual = self._residual.get(expert, (0, self.normalised))
        row = self.bank.experts.index(expert)
        for level in range(done, self.n_levels(expert)):
            codebook = self.bank.codebooks[level][row]
            codes = self._codes[expert][level]
            residual = residual - codebook.index_select(0, codes)
        self._residual[expert] = (self.n_levels(expert), residual)
        return residual

    def add_level(self, expert: str, codes: Tensor, score: float) -> None:
        """Append the codes of the next level and their summed score."""
        self._codes.setdefault(expert, []).append(codes)
        self._score.setdefault(expert, []).append(score)

    def codes(self, expert: str, n_levels: int) -> Tensor:
        """Give the (T, n_levels) int64 codes of an expert."""
        extend([self], expert, n_levels)
        return torch.stack(self._codes[expert][:n_levels], dim=1)

    def distortion(self, expert: str, depth: int) -> float:
        """Mean squared error per frame and dimension, in normalised features.

        ``||x||^2 - 2 sum_l score_l``: known from the search, without a reconstruction.
        """
        extend([self], expert, depth)
        if self._energy is None:
            self._energy = float(self.normalised.square().sum(dtype=torch.float64))
        error = self._energy - 2 * sum(self._score[expert][:depth])
        return max(error, 0.0) / self.normalised.numel()

    def cosine(self, expert: str, depth: int) -> float:
        """Cosine of the time means of features and reconstruction.

        The router score of arXiv 2603.21224, in normalised features.
        """
        row = self.bank.experts.index(expert)
        tables = [codebook[row] for codebook in self.bank.codebooks]
        decoded = decode_frames(self.codes(expert, depth), tables).mean(dim=0)
        mean = self.normalised.mean(dim=0)
        return float(torch.nn.functional.cosine_similarity(mean, decoded, dim=0))

    def pooled(self) -> Tensor:
        """Mean and standard deviation over time of the normalised features, (2 D,)."""
        return pool(self.normalised)


def extend(clips: Sequence[ClipEncoding], expert: str, n_levels: int) -> None:
    """Encode clips of one bank by one expert together, up to `n_levels`.

    Parameters
    ----------
    clips : sequence of ClipEncoding
    expert : str
    n_levels : int

    Raises
    ------
    ValueError
        If the bank has fewer levels.
    """
    if not clips:
        return
    bank = clips[0].bank
    if not 1 <= n_levels <= bank.n_levels:
        raise ValueError(f"{n_levels} levels asked for, expected 1 to {bank.n_levels}")
    row = bank.experts.index(expert)
    for level in range(n_levels):
        waiting = [clip for clip in clips if clip.n_levels(expert) == level]
        if not waiting:
            continue
        residuals = [clip.residual(expert) for clip in waiting]
        batch = torch.cat(residuals) if len(residuals) > 1 else residuals[0]
        codes, scores = nearest_codewords(batch, bank.codebooks[level][row])
        lengths = [len(residual) for residual in residuals]
        sums = [part.sum(dtype=torch.float64) for part in scores.split(lengths)]
        totals = torch.stack(sums).tolist()
        for clip, part, total in zip(waiting, codes.split(lengths), totals):
            clip.add_level(expert, part, total)


def pool(frames: Tensor) -> Tensor:
    """Pool (T, D) over time to mean and (biased) standard deviation, (2 D,)."""
    return torch.cat([frames.mean(dim=0), frames.std(dim=0, correction=0)])
