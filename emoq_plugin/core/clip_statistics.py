"""Statistics of clips over time, and the windows that they are taken from."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Values for each dimension of the features: mean, deviation, quantiles, movement twice.
STATISTICS = 4 + len(QUANTILES)
SHORTEST_WINDOW = 0.5  # seconds


def clip_statistics(
    features: Tensor, lengths: Tensor | None = None, *, means_alone: bool = False
) -> Tensor:
    """Pool clips over time: mean, deviation, quantiles and movement.

    Movement is the deviation and the mean size of the difference to the frame before,
    both zero for a clip of one frame. Deviations are biased (divided by the count).

    Parameters
    ----------
    features : (B, T, D) Tensor
    lengths : (B,) Tensor, optional
        Frames of each clip; what lies behind is padding and changes nothing.
    means_alone : bool, default=False
        Leave the rest zero, where nobody looks at it: quantiles take most of the time.

    Returns
    -------
    statistics : (B, 9 D) float64 Tensor
        Not float32, so that sums do not depend on batch, padding or autocast.

    Raises
    ------
    ValueError
        For another rank, or a length that is not 1 to T.
    """
    lengths = checked_lengths(features, lengths)
    place = torch.arange(features.shape[1], device=features.device)
    inside = (place < lengths[:, None])[:, :, None]  # (B, T, 1)
    count = lengths[:, None].double()
    frames = features.double().masked_fill(~inside, 0.0)
    mean, deviation = _moments(frames, inside, count)
    if means_alone:
        return pad(mean, (0, (STATISTICS - 1) * mean.shape[1]))
    moved, both = frames.diff(dim=1), inside[:, 1:]
    steps = (count - 1).clamp_min(1)
    _, moved_deviation = _moments(moved, both, steps)
    moved_size = (moved.abs() * both).sum(dim=1) / steps
    quantiles = _quantiles(frames.masked_fill(~inside, math.inf), count)
    return torch.cat([mean, deviation, quantiles, moved_deviation, moved_size], dim=1)


def _moments(values: Tensor, inside: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    mean = (values * inside).sum(dim=1) / count
    centred = (values - mean[:, None]) * inside
    return mean, (centred.square().sum(dim=1) / count).sqrt()


def _quantiles(padded: Tensor, count: Tensor) -> Tensor:
    """Interpolate order statistics; padding is infinite and so sorted to the end."""
    ordered = padded.sort(dim=1).values
    share = torch.tensor(QUANTILES, dtype=padded.dtype, device=padded.device)
    place = share * (count - 1)  # (B, Q)
    below, width = place.floor().long(), padded.shape[2]
    above = torch.minimum(below + 1, count.long() - 1)
    low, high = (
        ordered.gather(1, at[:, :, None].expand(-1, -1, width)) for at in (below, above)
    )
    return torch.lerp(low, high, (place - below)[:, :, None]).flatten(1)


def window_frames(seconds: float, frame_rate_hz: float) -> int:
    """Give the frames of a window.

    Raises
    ------
    ValueError
        For a window shorter than 0.5 s.
    """
    if not seconds >= SHORTEST_WINDOW:
        raise ValueError(
            f"a window of the clip code has {seconds:g} s, expected at least "
            f"{SHORTEST_WINDOW:g} s: shorter ones hold nothing that lasts"
        )
    return round(seconds * frame_rate_hz)


def count_windows(lengths: Tensor, window: int | None) -> Tensor:
    """Give the windows of each clip: its length in windows, rounded, at least one.

    The last window holds half to one and a half times the frames of the others.
    """
    if window is None:
        return torch.ones_like(lengths)
    return ((2 * lengths + window) // (2 * window)).clamp_min(1)


def cut_windows(
    features: Tensor, lengths: Tensor | None, window: int | None
) -> tuple[Tensor, Tensor]:
    """Cut clips into windows that follow each other.

    Parameters
    ----------
    features : (B, T, D) Tensor
    lengths : (B,) Tensor or None
    window : int or None
        Frames; None makes one window of each clip.

    Returns
    -------
    windows : (W, F, D) Tensor
        Clip after clip, see `count_windows`.
    window_lengths : (W,) int64 Tensor
    """
    lengths = checked_lengths(features, lengths)
    if window is None:
        return features, lengths
    count = count_windows(lengths, window)
    clip = torch.arange(len(count), device=count.device).repeat_interleave(count)
    first = (count.cumsum(0) - count)[clip]
    index = torch.arange(len(clip), device=count.device) - first  # within the clip
    start = index * window
    is_last = index == count[clip] - 1
    size = torch.where(is_last, lengths[clip] - start, window)
    inside = torch.arange(int(size.max()), device=count.device)
    frame = (start[:, None] + inside).clamp_max(features.shape[1] - 1)
    return features[clip[:, None], frame], size


def checked_lengths(features: Tensor, lengths: Tensor | None) -> Tensor:
    """Give lengths as int64, T where there are none.

    Raises
    ------
    ValueError
        For features of another rank than (B, T, D), or a length that is not 1 to T.
    """
    if features.dim() != 3:
        raise ValueError(
            f"expected a (B, T, D) batch, found shape {tuple(features.shape)}"
        )
    n_clips, n_frames, _ = features.shape
    if lengths is None:
        lengths = torch.full((n_clips,), n_frames, device=features.device)
    if torch.compiler.is_compiling():
        return lengths
    lengths = torch.as_tensor(lengths, device=features.device).long()
    if lengths.shape != (n_clips,) or ((lengths < 1) | (lengths > n_frames)).any():
        raise ValueError(
            f"lengths {lengths.tolist()} do not fit a batch {tuple(features.shape)}, "
            f"expected {n_clips} numbers from 1 to {n_frames}"
        )
    return lengths
