"""What the calibrated router sees: two kinds of evidence for each class.

How well the codebook of each class explains the frames together with their neighbours
(the classic rule of one codebook per class, on trajectories instead of single spectra),
and a logistic regression on statistics over time. They err differently.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from emoq_plugin.core.batch import mask_of
from emoq_plugin.core.batch_encoding import masked_pool
from emoq_plugin.core.nearest import half_squared_norms

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def statistics_over_time(frames: Tensor, lengths: Tensor) -> Tensor:
    """Pool (B, T, D) to mean, deviation, quantiles and movement, (B, 9 D + 3).

    Movement: deviation and mean size of the difference to the frame before, for every
    dimension; of the mean over dimensions its deviation and mean size of difference;
    the logarithm of the number of frames.
    """
    mask = mask_of(lengths, frames.shape[1])
    # A clip of one frame does not move: one difference, zero.
    moved = torch.cat([frames[:, :1], frames], dim=1).diff(dim=1)
    time = torch.arange(frames.shape[1], device=frames.device)
    later = mask & ((time > 0) | (lengths[:, None] == 1))
    level = frames.mean(dim=2, keepdim=True)
    moved_level = moved.mean(dim=2, keepdim=True)
    dimension = frames.shape[2]
    return torch.cat(
        [
            masked_pool(frames, mask),
            _quantiles(frames, mask, lengths),
            masked_pool(moved, later)[:, dimension:],
            masked_pool(moved.abs(), later)[:, :dimension],
            masked_pool(level, mask)[:, 1:],
            masked_pool(moved_level.abs(), later)[:, :1],
            lengths[:, None].log().to(frames.dtype),
        ],
        dim=1,
    )


def _quantiles(frames: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Interpolated quantiles over time, (B, 5 D), as `torch.quantile` has them."""
    ordered = torch.where(mask[..., None], frames, torch.inf).sort(dim=1).values
    share = torch.tensor(QUANTILES, dtype=frames.dtype, device=frames.device)
    place = share * (lengths[:, None] - 1).to(frames.dtype)  # (B, Q)
    width = (-1, -1, frames.shape[2])
    below, above = (
        ordered.gather(1, p.long()[..., None].expand(*width))
        for p in (place.floor(), place.ceil())
    )
    return below.lerp(above, (place - place.floor())[..., None]).flatten(1)


def in_context(frames: Tensor, offsets: Tensor, lengths: Tensor) -> Tensor:
    """Put neighbours beside each frame: (B, T, D) and (O,) to (B, T, O * D).

    Past the ends the first and the last frame are repeated.
    """
    time = torch.arange(frames.shape[1], device=frames.device)
    place = (time[:, None] + offsets.long()).clamp_min(0)  # (T, O)
    place = torch.minimum(place[None], lengths[:, None, None] - 1)  # (B, T, O)
    rows = place.flatten(1)[..., None].expand(-1, -1, frames.shape[2])
    return frames.gather(1, rows).unflatten(1, place.shape[1:]).flatten(2)


def project(
    parameters: Mapping[str, Tensor], frames: Tensor, lengths: Tensor
) -> Tensor:
    """Project frames in context: (B, T, D) to (B, T, q)."""
    reduced = (frames - parameters["frame_mean"]) @ parameters["frame_projection"]
    beside = in_context(reduced, parameters["offsets"], lengths)
    return beside @ parameters["projection"]


def evidence(
    parameters: Mapping[str, Tensor], frames: Tensor, lengths: Tensor
) -> Tensor:
    """Return what speaks for each class.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        From `fit_calibrated`.
    frames : (B, T, D) Tensor
        Normalised features.
    lengths : (B,) Tensor

    Returns
    -------
    evidence : (B, C, 2) float64 Tensor
        Minus the mean distortion by the codebook of the class; logarithm of the
        posterior by the pooled view.
    """
    inside = mask_of(lengths, frames.shape[1])
    seen = project(parameters, frames, lengths)
    energy = _sum(seen.square().sum(dim=2), inside)
    scores = torch.stack(
        [
            _sum((seen @ table.T - half_squared_norms(table)).amax(dim=2), inside)
            for table in parameters["codebooks"]
        ],
        dim=1,
    )
    distortion = (energy[:, None] - 2 * scores) / (lengths[:, None] * seen.shape[2])
    pooled = statistics_over_time(frames, lengths)
    scaled = (pooled - parameters["mean"]) / parameters["scale"]
    logits = scaled @ parameters["weight"].T + parameters["bias"]
    return torch.stack([-distortion, logits.double().log_softmax(dim=1)], dim=2)


def _sum(values: Tensor, inside: Tensor) -> Tensor:
    return torch.where(inside, values, 0).sum(dim=1, dtype=torch.float64)


def posteriors(parameters: Mapping[str, Tensor], found: Tensor) -> Tensor:
    """Weigh (..., C, 2) evidence to posteriors (..., C)."""
    return (found @ parameters["weights"].double()).softmax(dim=-1)
