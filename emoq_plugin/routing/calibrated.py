"""The calibrated router: class posteriors from two kinds of evidence.

How well the codebook of each class explains the frames together with their neighbours
(the classic rule of one codebook per class, on trajectories instead of single spectra),
and a logistic regression on statistics over time. They err differently. The two weights
are fitted on training clips whose evidence comes from a router that has not heard their
speaker.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from emoq_plugin.core.clip_encoding import pool
from emoq_plugin.core.nearest import nearest_codewords
from emoq_plugin.files import check_options, check_ranges, check_types, errors_of
from emoq_plugin.learning.distributed import alone
from emoq_plugin.learning.learner import (
    LAST_SEED,
    LearningSettings,
    learn_residual_codebooks,
)
from emoq_plugin.learning.sources import ArraySource
from emoq_plugin.routing.pooled import PooledClassifier

PREFIX = "calibrated."
FRAMES_PER_CODEWORD = 8
# Evidence that says nothing on unheard speakers must not leave all routes to one class.
SMALLEST_WEIGHT = 1e-3
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class CalibratedSettings:
    """How the router is made.

    Attributes
    ----------
    context : sequence of float, default=(-0.12, -0.06, 0.0, 0.06, 0.12)
        Neighbours that a frame is seen with, seconds.
    dimensions : int, default=40
        Of the projection of a frame in context.
    whitening : float, default=0.25
        Components are divided by their variance to this power: 0 keeps the geometry of
        the features, 0.5 gives every component the same weight.
    codewords : int, default=256
        For each class; fewer where a class has less than 8 frames for each.
    parts : int, default=4
        Of the training speakers, for evidence on speakers that were not heard.
    max_frames : int, default=400_000
        Training frames kept; of more, every n-th.
    seed : int, default=0
    """

    context: Sequence[float] = (-0.12, -0.06, 0.0, 0.06, 0.12)
    dimensions: int = 40
    whitening: float = 0.25
    codewords: int = 256
    parts: int = 4
    max_frames: int = 400_000
    seed: int = 0

    def __post_init__(self) -> None:
        seen = [s for s in self.context if math.isfinite(s)]
        check_ranges(
            self,
            [
                (
                    "context",
                    bool(seen) and len(seen) == len(self.context),
                    "one number or more, seconds",
                ),
                ("dimensions", self.dimensions >= 1, "at least 1"),
                ("whitening", 0 <= self.whitening <= 0.5, "0 to 0.5"),
                ("codewords", self.codewords >= 2, "at least 2"),
                ("parts", self.parts >= 2, "at least 2"),
                ("max_frames", self.max_frames >= 1, "at least 1"),
                ("seed", 0 <= self.seed < LAST_SEED, f"0 to {LAST_SEED - 1}"),
            ],
        )

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> "CalibratedSettings":
        """Read the option `calibrated` of a quantizer's YAML file.

        Raises
        ------
        ValueError
            For an unknown option or a value of another type or out of range.
        """
        check_options(values, cls.__dataclass_fields__, where)
        check_types(values, get_type_hints(cls), where)
        with errors_of(where):
            return cls(**values)


def statistics_over_time(frames: Tensor) -> Tensor:
    """Pool (T, D) to mean, deviation, quantiles and movement, (9 D + 3,).

    Movement: deviation and mean size of the difference to the frame before, for every
    dimension; of the mean over dimensions its deviation and mean size of difference;
    the logarithm of T.
    """
    moved = torch.diff(frames, dim=0) if len(frames) > 1 else torch.zeros_like(frames)
    level = frames.mean(dim=1)
    moved_level = moved.mean(dim=1)
    quantiles = torch.tensor(QUANTILES, dtype=frames.dtype, device=frames.device)
    return torch.cat(
        [
            pool(frames),
            torch.quantile(frames, quantiles, dim=0).flatten(),
            moved.std(dim=0, correction=0),
            moved.abs().mean(dim=0),
            torch.stack(
                [
                    level.std(correction=0),
                    moved_level.abs().mean(),
                    torch.tensor(len(frames), device=frames.device).log(),
                ]
            ),
        ]
    )


def in_context(frames: Tensor, offsets: Sequence[int]) -> Tensor:
    """Put neighbours beside each frame: (T, D) to (T, len(offsets) * D).

    Past the ends the first and the last frame stand in.
    """
    time = torch.arange(len(frames), device=frames.device)
    return torch.cat(
        [frames[(time + o).clamp(0, len(frames) - 1)] for o in offsets], dim=1
    )


def evidence(parameters: Mapping[str, Tensor], frames: Tensor) -> Tensor:
    """Give what speaks for each class.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        From `fit_calibrated`, without the prefix.
    frames : (T, D) Tensor
        One clip in normalised features.

    Returns
    -------
    evidence : (C, 2) float64 Tensor
        Minus the mean distortion by the codebook of the class; logarithm of the
        posterior by the pooled view.
    """
    seen = _project(parameters, frames)
    energy = seen.square().sum(dtype=torch.float64)
    scores = torch.stack(
        [
            nearest_codewords(seen, codebook)[1].sum(dtype=torch.float64)
            for codebook in parameters["codebooks"]
        ]
    )
    distortion = (energy - 2 * scores) / seen.numel()
    pooled = (statistics_over_time(frames) - parameters["mean"]) / parameters["scale"]
    logits = parameters["weight"] @ pooled + parameters["bias"]
    return torch.stack([-distortion, logits.double().log_softmax(dim=0)], dim=1)


def posteriors(parameters: Mapping[str, Tensor], found: Tensor) -> Tensor:
    """Weigh (..., C, 2) evidence to posteriors (..., C)."""
    return (found @ parameters["weights"].double()).softmax(dim=-1)


def fit_weights(found: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Find the positive weights of highest likelihood.

    A conditional logit (McFadden 1974). No weight belongs to a class, so offsets
    between routers learned from more or fewer speakers do not matter.

    Parameters
    ----------
    found : (N, C, M) array
        Evidence of training clips from routers that have not heard them.
    targets : (N, C) array
        Class shares.

    Returns
    -------
    weights : (M,) array
    """
    spread = np.abs(found - found.mean(axis=1, keepdims=True)).mean(axis=(0, 1))
    spread[spread == 0] = 1.0
    scaled = found / spread

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = scaled @ weights
        logits -= logits.max(axis=1, keepdims=True)
        log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        error = np.exp(log) - targets
        slope = np.einsum("nc,ncm->m", error, scaled) + 0.1 * weights
        return -(targets * log).sum() + 0.05 * weights @ weights, slope

    start = np.ones(found.shape[2])
    bounds = [(SMALLEST_WEIGHT, None)] * len(start)
    best = minimize(loss, start, jac=True, bounds=bounds).x
    return best / spread


def fit_calibrated(
    read: Callable[[], Iterable[Tensor]],
    targets: np.ndarray,
    speakers: Sequence[str],
    *,
    n_frames: int,
    frame_rate_hz: float,
    settings: CalibratedSettings | None = None,
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Fit the router of one fold.

    Parameters
    ----------
    read : callable
        Gives the normalised features of N training clips, (T, D) Tensors, from the
        first clip on whenever it is called.
    targets : (N, C) array
        Their class shares, rows sum to one.
    speakers : sequence of N str
    n_frames : int
        Of all clips together.
    frame_rate_hz : float
    settings : CalibratedSettings, optional

    Returns
    -------
    parameters : dict of str to Tensor
    out_of_fold : (N, C) float64 array
        Posteriors of the training clips by routers that have not heard their speaker.

    Raises
    ------
    ValueError
        If a class has no training clip, in all or in one of the parts.
    """
    settings = settings or CalibratedSettings()
    step = -(-n_frames // settings.max_frames)
    offsets = [round(second * frame_rate_hz) for second in settings.context]
    shared = _fit_projection(read, offsets, step, settings)
    kept = [_project(shared, frames)[::step] for frames in read()]
    pooled = np.stack([statistics_over_time(f).numpy() for f in read()])
    part = _parts(speakers, settings.parts)
    if any((targets[part != i].sum(axis=0) == 0).any() for i in set(part)):
        logging.warning(
            "a class has clips of too few speakers: the calibrated router is weighed "
            "on clips it has not heard, of speakers it has"
        )
        part = _parts(range(len(speakers)), settings.parts)

    def learn(rows: np.ndarray) -> dict[str, Tensor]:
        codebooks = _fit_codebooks([kept[i] for i in rows], targets[rows], settings)
        classifier = PooledClassifier().fit(pooled[rows], targets[rows])
        learned = classifier.parameters() | {"codebooks": codebooks}
        return shared | {
            name: torch.as_tensor(v).float() for name, v in learned.items()
        }

    unheard = [learn(np.flatnonzero(part != i)) for i in range(part.max() + 1)]
    found = torch.stack([evidence(unheard[i], f) for i, f in zip(part, read())])
    weights = torch.from_numpy(fit_weights(found.numpy(), targets)).float()
    parameters = learn(np.arange(len(part))) | {"weights": weights}
    return parameters, posteriors(parameters, found).numpy()


def _parts(speakers: Sequence, n_parts: int) -> np.ndarray:
    """Deal speakers (or the clips of a single one) out: part of each clip."""
    groups = speakers if len(set(speakers)) > 1 else range(len(speakers))
    order = {group: i for i, group in enumerate(sorted(set(groups)))}
    return np.array([order[group] % n_parts for group in groups])


def _project(parameters: Mapping[str, Tensor], frames: Tensor) -> Tensor:
    reduced = (frames - parameters["frame_mean"]) @ parameters["frame_projection"]
    return (
        in_context(reduced, parameters["offsets"].int().tolist())
        @ parameters["projection"]
    )


def _fit_projection(
    read: Callable[[], Iterable[Tensor]],
    offsets: list[int],
    step: int,
    settings: CalibratedSettings,
) -> dict[str, Tensor]:
    """Principal components of frames, then of frames in context."""
    frames = torch.cat([f[::step] for f in read()])
    # More than a spectrum has; it keeps the context of a wide encoder small.
    _, axes = _components(frames, 2 * settings.dimensions)
    mean = frames.mean(dim=0)
    seen = [in_context((f - mean) @ axes, offsets)[::step] for f in read()]
    variances, projection = _components(torch.cat(seen), settings.dimensions)
    return {
        # In frames; an artifact holds nothing but float32.
        "offsets": torch.tensor(offsets, dtype=torch.float32),
        "frame_mean": mean,
        "frame_projection": axes,
        "projection": projection / variances**settings.whitening,
    }


def _components(frames: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Give the largest variances (q,) and their directions (D, q); q <= count."""
    variances, axes = torch.linalg.eigh(frames.double().T.cov())
    count = max(1, min(count, int((variances > 1e-9 * variances[-1]).sum())))
    variances, axes = variances.flip(0)[:count], axes.flip(1)[:, :count]
    return variances.clamp_min(1e-12).float(), axes.float().contiguous()


def _fit_codebooks(
    clips: Sequence[Tensor], targets: np.ndarray, settings: CalibratedSettings
) -> Tensor:
    """Learn one codebook a class from projected frames, (C, K, q)."""
    weights = np.repeat(targets, [len(frames) for frames in clips], axis=0)
    fewest = int((weights > 0).sum(axis=0).min())
    if not fewest:
        raise ValueError(
            "the calibrated router needs two or more clips of every class, "
            f"found frames {(weights > 0).sum(axis=0).tolist()} by class "
            "without some of them"
        )
    size = max(2, min(settings.codewords, fewest // FRAMES_PER_CODEWORD))
    source = ArraySource(torch.cat(list(clips)).numpy(), weights.astype(np.float32))
    learning = LearningSettings(seed=settings.seed)
    # On the CPU, where the tensors of a group of GPUs could not be joined.
    with alone():
        return learn_residual_codebooks(source, [size], settings=learning)[0]
