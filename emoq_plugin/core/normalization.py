"""What is subtracted before quantizing: a declared part of every quantizer."""

from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor, nn

KINDS = ("corpus", "clip", "level", "speaker")
OF_THE_CLIP = ("clip", "level")  # the offset is one that a clip code can send


class Float32Module(nn.Module):
    """Keeps its buffers float32 under `half`, `double` and the like.

    Rounded codebooks would give other codes, and no longer have their SHA-256.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def exact(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            same = moved.dtype == tensor.dtype
            return moved if same else tensor.to(moved.device)

        return super()._apply(exact, recurse)


class Float32Buffers(nn.Module):
    """Keeps its own buffers float32, where its weights may be of another precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            moved = self._buffers[name]
            if moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        return self


class Normalization(Float32Module):
    """Removes an offset of the clip or speaker, then standardises by corpus statistics.

    Decides whether distortion measures emotion, or speaker and loudness. What `clip`
    and `level` remove is lost to a decoder unless a clip code sends it (`sent=True`).

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

    def offset(
        self,
        frames: Tensor,
        speaker_mean: Tensor | None = None,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return what is removed from clips before the corpus statistics.

        Parameters
        ----------
        frames : (T, D) or (B, T, D) Tensor
            One clip without padding, or a batch.
        speaker_mean : (D,) or (B, D) Tensor, optional
            Mean frame of the clip's speaker; needed (and only used) by `speaker`.
        mask : (B, T) bool Tensor, optional
            Where the clips of a batch have frames.

        Returns
        -------
        offset : Tensor
            Broadcasts against `frames`.

        Raises
        ------
        ValueError
            If the speaker's mean is needed and missing.
        """
        if self.kind == "speaker":
            if speaker_mean is None:
                raise ValueError(
                    "this quantizer removes the speaker's mean frame: give "
                    "speaker_mean, the mean over all frames of the speaker (no labels "
                    "needed)"
                )
            return speaker_mean.unsqueeze(-2)
        if self.kind == "corpus":
            return frames.new_zeros(())
        if mask is None:
            return frames.mean(dim=0) if self.kind == "clip" else frames.mean()
        # In float64, so that neither padding nor the batch show in a float32 result.
        inside = torch.where(mask[..., None], frames, 0)
        mean = inside.sum(dim=1, dtype=torch.float64) / mask.sum(dim=1)[:, None]
        if self.kind == "level":
            mean = mean.mean(dim=1, keepdim=True)
        return mean[:, None].to(frames.dtype)

    def forward(
        self,
        frames: Tensor,
        speaker_mean: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        sent: bool = False,
    ) -> Tensor:
        """Normalise a clip (T, D) or a batch (B, T, D) to float32, zero where padded.

        Parameters
        ----------
        frames, speaker_mean, mask
            See `offset`.
        sent : bool, default=False
            Leave in what a clip code sends: the mean of the clip, or its level.

        Raises
        ------
        ValueError
            For frames that are NaN, infinite or too large, with the first such frame
            (and its place in the batch): the nearest codeword of NaN would be code 0.
        """
        frames = frames.float()
        offset = frames.new_zeros(())
        if not (sent and self.kind in OF_THE_CLIP):
            offset = self.offset(frames, speaker_mean, mask=mask)
        normalised = (frames - offset - self.mean) / self.scale
        if mask is not None:
            normalised = torch.where(mask[..., None], normalised, 0)
        if torch.compiler.is_compiling():
            return normalised
        # NaN and infinity anywhere reach the norm, and so do squares that overflow.
        if not torch.linalg.vector_norm(normalised).isfinite():
            raise ValueError(_what_is_not_finite(frames, speaker_mean, mask))
        return normalised

    def seen(self, sent: Tensor) -> Tensor:
        """Remove from a decoded clip, (T, D), what the norm removes from features.

        Parameters
        ----------
        sent : (T, D) Tensor
            Decoded with a clip code, in the form of `forward` (`sent`).
        """
        if self.kind not in OF_THE_CLIP:
            return sent
        return self(sent * self.scale + self.mean)

    def inverse(self, frames: Tensor) -> Tensor:
        """Return to the scale of the features, without the removed offset.

        The offset is part of the code stream only in a clip code; without one, nobody
        can put it back.
        """
        return frames * self.scale + self.mean


def _what_is_not_finite(
    frames: Tensor, speaker_mean: Tensor | None, mask: Tensor | None
) -> str:
    where = ""
    if mask is not None:
        inside = torch.where(mask[..., None], frames, 0)
        energy = inside.double().square().sum(dim=(1, 2))  # (B,)
        if speaker_mean is not None:
            energy = energy + speaker_mean.double().square().sum(dim=1)
        clip = int(energy.nan_to_num(torch.inf, torch.inf).argmax())
        where, frames = f"utterance {clip} of the batch: ", inside[clip]
        speaker_mean = None if speaker_mean is None else speaker_mean[clip]
    bad = (~frames.isfinite()).any(dim=1)
    if bad.any():
        frame = int(bad.int().argmax())
        return f"{where}frame {frame} of the features is NaN or infinite"
    if speaker_mean is not None and not speaker_mean.isfinite().all():
        return f"{where}the speaker's mean frame is NaN or infinite"
    largest, frame = frames.abs().amax(dim=1).max(dim=0)
    return (
        f"{where}frame {frame} of the features holds {largest:.3g}, too large to "
        "quantize"
    )


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
