"""What is subtracted before quantizing: a declared part of every quantizer."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

KINDS = ("corpus", "clip", "level", "speaker")


class Normalization(nn.Module):
    """Removes an offset of the clip or speaker, then standardises by corpus statistics.

    Decides whether distortion measures emotion, or speaker and loudness.

    Parameters
    ----------
    kind : {"corpus", "clip", "level", "speaker"}
        Offset that is removed first: nothing; the clip's mean frame; the clip's mean
        over frames and dimensions (for log-mel its mean level); the speaker's mean
        frame.
    mean : (D,) Tensor
        Of the training frames after the offset is removed.
    scale : (D,) Tensor
        Their standard deviation.

    Raises
    ------
    ValueError
        For an unknown kind.
    """

    def __init__(self, kind: str, mean: Tensor, scale: Tensor):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(
                f"normalisation '{kind}' is unknown, expected one of {KINDS}"
            )
        self.kind = kind
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", scale.float())

    def offset(self, frames: Tensor, speaker_mean: Tensor | None = None) -> Tensor:
        """Give what is removed from a clip before the corpus statistics.

        Parameters
        ----------
        frames : (T, D) Tensor
            One clip without padding.
        speaker_mean : (D,) Tensor, optional
            Mean frame of the clip's speaker; needed (and only used) by `speaker`.

        Returns
        -------
        offset : Tensor
            Broadcasts against (T, D).

        Raises
        ------
        ValueError
            If the speaker's mean is needed and missing.
        """
        if self.kind == "clip":
            return frames.mean(dim=0)
        if self.kind == "level":
            return frames.mean()
        if self.kind == "speaker":
            if speaker_mean is None:
                raise ValueError(
                    "this quantizer removes the speaker's mean frame: give "
                    "speaker_mean, the mean over all frames of the speaker (no labels "
                    "needed)"
                )
            return speaker_mean
        return frames.new_zeros(())

    def forward(self, frames: Tensor, speaker_mean: Tensor | None = None) -> Tensor:
        """Normalise one clip: (T, D) to (T, D)."""
        return (frames - self.offset(frames, speaker_mean) - self.mean) / self.scale

    def inverse(self, frames: Tensor) -> Tensor:
        """Return to the scale of the features, without the removed offset.

        The offset is not part of the code stream, so nobody can put it back.
        """
        return frames * self.scale + self.mean


def fit_normalization(
    kind: str, clips: Iterable[tuple[Tensor, Tensor | None]], *, dimension: int
) -> Normalization:
    """Learn the corpus statistics in one pass.

    Parameters
    ----------
    kind : str
    clips : iterable of ((T, D) Tensor, (D,) Tensor or None)
        Training clips, each with its speaker's mean where `kind` is `speaker`.
    dimension : int
        D.

    Returns
    -------
    normalization : Normalization
        A dimension that never varies keeps scale 1.
    """
    plain = Normalization(kind, torch.zeros(dimension), torch.ones(dimension))
    count = 0
    sums = torch.zeros(2, dimension, dtype=torch.float64)
    for frames, speaker_mean in clips:
        values = plain(frames, speaker_mean).double()
        count += len(values)
        sums += torch.stack([values.sum(dim=0), values.square().sum(dim=0)])
    mean = sums[0] / count
    scale = (sums[1] / count - mean**2).clamp_min(0).sqrt()
    scale[scale < 1e-5 * mean.abs().clamp_min(1e-3)] = 1.0
    return Normalization(kind, mean, scale)
