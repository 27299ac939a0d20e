"""Fitting the calibrated router: its codebooks, its regression, and their weights.

The two weights are fitted on training clips whose evidence comes from a router that was
fitted without their speaker.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.files import check_options, check_ranges, check_types, errors_of
from emoq_plugin.learning.distributed import alone
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.settings import LAST_SEED, LearningSettings
from emoq_plugin.learning.sources import ArraySource
from emoq_plugin.routing.evidence import (
    evidence,
    in_context,
    posteriors,
    project,
    statistics_over_time,
)
from emoq_plugin.routing.pooled import PooledClassifier

FRAMES_PER_CODEWORD = 8
# Evidence that says nothing on held-out speakers must not send all to one class.
SMALLEST_WEIGHT = 1e-3


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
        Of the training speakers, for evidence on held-out speakers.
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


def fit_weights(found: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Find the positive weights of highest likelihood.

    A conditional logit (McFadden 1974). No weight belongs to a class, so offsets
    between routers learned from more or fewer speakers do not matter.

    Parameters
    ----------
    found : (N, C, M) array
        Evidence of training clips from routers fitted without them.
    targets : (N, C) array
        Class shares.

    Returns
    -------
    weights : (M,) array
    """
    from scipy.optimize import minimize

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
        Speaker-held-out posteriors of the training clips.

    Raises
    ------
    ValueError
        If a class has no training clip, in all or in one of the parts.
    """
    settings = settings or CalibratedSettings()
    step = -(-n_frames // settings.max_frames)
    # In frames; an artifact holds nothing but float32.
    offsets = torch.tensor([float(round(s * frame_rate_hz)) for s in settings.context])
    shared = _fit_projection(read, offsets, step, settings)
    kept, pooled = [], []
    for frames in read():
        lengths = torch.tensor([len(frames)])
        kept.append(project(shared, frames[None], lengths)[0, ::step])
        pooled.append(statistics_over_time(frames[None], lengths)[0].numpy())
    pooled = np.stack(pooled)
    part = speaker_parts(speakers, settings.parts)
    if any((targets[part != i].sum(axis=0) == 0).any() for i in set(part)):
        logging.warning(
            "a class has clips of too few speakers: the calibrated router is weighed "
            "on held-out clips, of speakers that it was fitted on"
        )
        part = speaker_parts(range(len(speakers)), settings.parts)

    def learn(rows: np.ndarray) -> dict[str, Tensor]:
        codebooks = _fit_codebooks([kept[i] for i in rows], targets[rows], settings)
        classifier = PooledClassifier().fit(pooled[rows], targets[rows])
        learned = classifier.parameters() | {"codebooks": codebooks}
        return shared | {
            name: torch.as_tensor(v).float() for name, v in learned.items()
        }

    without = [learn(np.flatnonzero(part != i)) for i in range(part.max() + 1)]
    found = torch.cat(
        [
            evidence(without[i], f[None], torch.tensor([len(f)]))
            for i, f in zip(part, read())
        ]
    )
    weights = torch.from_numpy(fit_weights(found.numpy(), targets)).float()
    parameters = learn(np.arange(len(part))) | {"weights": weights}
    return parameters, posteriors(parameters, found).numpy()


def speaker_parts(speakers: Sequence, n_parts: int) -> np.ndarray:
    """Deal speakers (or the clips of a single one) out: part of each clip."""
    groups = speakers if len(set(speakers)) > 1 else range(len(speakers))
    order = {group: i for i, group in enumerate(sorted(set(groups)))}
    return np.array([order[group] % n_parts for group in groups])


def _fit_projection(
    read: Callable[[], Iterable[Tensor]],
    offsets: Tensor,
    step: int,
    settings: CalibratedSettings,
) -> dict[str, Tensor]:
    """Principal components of frames, then of frames in context."""
    frames = torch.cat([f[::step] for f in read()])
    # More than a spectrum has; it keeps the context of a wide encoder small.
    _, axes = _components(frames, 2 * settings.dimensions)
    mean = frames.mean(dim=0)
    seen = []
    for f in read():
        reduced = ((f - mean) @ axes)[None]
        seen.append(in_context(reduced, offsets, torch.tensor([len(f)]))[0, ::step])
    variances, projection = _components(torch.cat(seen), settings.dimensions)
    return {
        "offsets": offsets,
        "frame_mean": mean,
        "frame_projection": axes,
        "projection": projection / variances**settings.whitening,
    }


def _components(frames: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest variances (q,) and their directions (D, q); q <= count."""
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
