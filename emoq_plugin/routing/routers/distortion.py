"""Routers by distortion: the smallest one, or a mixture of the best two."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from emoq_plugin.routing.base import Choice, Router, RoutingInputs, single
from emoq_plugin.routing.training import FittedRouter, RouterTraining

# Levels of the mixing weight that the soft route transmits (4 bits).
MIXING_STEPS = 16


class DistortionRouter(Router):
    """Takes the expert with the smallest distortion.

    The classic rule of one codebook per class (Soong, Rosenberg, Rabiner and Juang
    1985, "A vector quantization approach to speaker recognition").
    """

    name = "distortion"

    def choose(self, inputs: RoutingInputs, experts: Sequence[str]) -> Choice:
        """Take the smallest distortion."""
        places = inputs.places(experts)
        return single(inputs.clips.distortion(places, inputs.depth).argmin(dim=1))


class SoftRouter(Router):
    """Mixes the two experts of highest posterior ``exp(-distortion / temperature)``.

    Both code streams and a weight of 4 bits are transmitted, and counted.
    """

    name = "soft"
    title = "soft mixture"
    n_streams = 2

    def side_bits(self, n_experts: int) -> float:
        """Bits of an ordered pair and a weight."""
        return math.log2(n_experts * (n_experts - 1)) + math.log2(MIXING_STEPS)

    def choose(self, inputs: RoutingInputs, experts: Sequence[str]) -> Choice:
        """Mix the best two; the larger share is one of `MIXING_STEPS` in [1/2, 1]."""
        learned = inputs.bank.router_parameters
        temperature = learned.get("soft.temperature", torch.tensor(1.0)).double()
        found = inputs.clips.distortion(inputs.places(experts), inputs.depth)
        best = found.topk(2, dim=1, largest=False)
        margin = best.values[:, 1] - best.values[:, 0]
        share = torch.sigmoid((margin / temperature).clamp_max(50.0))
        steps = 2 * (MIXING_STEPS - 1)
        share = 0.5 + ((share - 0.5) * steps).round() / steps
        return best.indices, torch.stack([share, 1 - share], dim=1).float()

    def fit(self, training: RouterTraining) -> FittedRouter:
        """Learn the temperature."""
        targets = torch.from_numpy(training.targets)
        temperature = fit_soft_temperature(training.distortions(), targets)
        return FittedRouter({"temperature": temperature})


def fit_soft_temperature(distortions: Tensor, targets: Tensor) -> Tensor:
    """Find the temperature of highest likelihood on training clips.

    Parameters
    ----------
    distortions : (N, C) Tensor
        Of the expert of each class.
    targets : (N, C) Tensor
        Shares of the classes, rows sum to one.

    Returns
    -------
    temperature : () Tensor
    """
    spread = float((distortions - distortions.amin(dim=1, keepdim=True)).mean())
    grid = max(spread, 1e-12) * torch.logspace(-2, 2, 81, dtype=torch.float64)
    logits = -distortions.double()[None] / grid[:, None, None]  # (G, N, C)
    likelihood = (logits.log_softmax(dim=-1) * targets.double()).sum(dim=(1, 2))
    return grid[likelihood.argmax()].float()
