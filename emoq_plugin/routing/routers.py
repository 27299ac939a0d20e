"""Routers: functions from the evidence of a clip to the expert(s) that encode it."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.core.clip_encoding import ClipEncoding
from emoq_plugin.routing.calibrated import PREFIX, evidence, posteriors

# Levels of the mixing weight that the soft route transmits (4 bits).
MIXING_STEPS = 16


@dataclass(frozen=True)
class Facts:
    """What a router may know beside the clip.

    Attributes
    ----------
    depth : int
        Levels that the evidence is computed with.
    utterance : str
        Name of the clip; the draws of the controls depend on it.
    emotion : str, optional
        True class, which only the controls `oracle` and `wrong` look at.
    seed : int
        Of the controls.
    unheard : (C,) float array, optional
        Of a training clip: posteriors by a `calibrated` router that was fitted without
        its speaker.
    """

    depth: int = 1
    utterance: str = ""
    emotion: str | None = None
    seed: int = 0
    unheard: np.ndarray | None = None


Route = dict[str, float]  # expert -> mixing weight, summing to one
Router = Callable[[ClipEncoding, Sequence[str], Facts], Route]


def member(expert: str) -> str:
    """Give an expert's name without its group: ``specific/sad`` -> ``sad``."""
    return expert.rpartition("/")[2]


def distortion(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Take the expert with the smallest distortion.

    The classic rule of one codebook per class (Soong, Rosenberg, Rabiner and Juang
    1985, "A vector quantization approach to speaker recognition").
    """
    return {min(experts, key=lambda e: clip.distortion(e, facts.depth)): 1.0}


def cosine(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Take the expert whose reconstruction has the nearest time mean.

    "Unfiltered" routing of arXiv 2603.21224. After the normalisation `clip` every time
    mean is zero, and so this score means nothing there.
    """
    return {max(experts, key=lambda e: clip.cosine(e, facts.depth)): 1.0}


def gain(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Take the largest gain in cosine over the balanced codebook, or fall back to it.

    "Filtered" routing of arXiv 2603.21224; the fallback is the balanced codebook, never
    unquantized features.
    """
    chosen = next(iter(cosine(clip, experts, facts)))
    better = clip.cosine(chosen, facts.depth) > clip.cosine(BALANCED, facts.depth)
    return {chosen if better else BALANCED: 1.0}


def linear(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Take the class that a logistic regression on the pooled features names.

    Raises
    ------
    ValueError
        If the bank has no learned router.
    """
    learned = clip.bank.router_parameters
    if "linear.weight" not in learned:
        raise ValueError("this bank has no linear router: learn codebooks with labels")
    scaled = (clip.pooled() - learned["linear.mean"]) / learned["linear.scale"]
    logits = learned["linear.weight"] @ scaled + learned["linear.bias"]
    best = clip.bank.emotions[int(logits.argmax())]
    return {_of_class(experts, best): 1.0}


def calibrated(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Take the class of highest posterior by two kinds of evidence.

    See `emoq_plugin.routing.calibrated`; looks at the features, not at the levels.

    Raises
    ------
    ValueError
        If the bank has no such router.
    """
    if facts.unheard is not None:
        return {
            _of_class(experts, clip.bank.emotions[int(facts.unheard.argmax())]): 1.0
        }
    learned = {
        name.removeprefix(PREFIX): value
        for name, value in clip.bank.router_parameters.items()
        if name.startswith(PREFIX)
    }
    if not learned:
        raise ValueError(
            "this bank has no calibrated router: learn codebooks with a group of one "
            "expert a class"
        )
    found = posteriors(learned, evidence(learned, clip.normalised))
    return {_of_class(experts, clip.bank.emotions[int(found.argmax())]): 1.0}


def soft(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Mix the two experts of highest posterior ``exp(-distortion / temperature)``.

    Both code streams and a weight of 4 bits are transmitted, and counted.
    """
    temperature = float(clip.bank.router_parameters.get("soft.temperature", 1.0))
    order = sorted(experts, key=lambda e: clip.distortion(e, facts.depth))
    first, second = order[:2]
    margin = clip.distortion(second, facts.depth) - clip.distortion(first, facts.depth)
    share = 1 / (1 + math.exp(-min(margin / temperature, 50.0)))
    # The larger share lies in [1/2, 1]; it is sent as one of MIXING_STEPS numbers.
    step = round((share - 0.5) * 2 * (MIXING_STEPS - 1))
    share = 0.5 + step / (2 * (MIXING_STEPS - 1))
    return {first: share, second: 1 - share}


def oracle(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Take the expert of the true class: a control, never a result."""
    return {_of_class(experts, _true_class(facts)): 1.0}


def wrong(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Take a random expert of another class: a control."""
    true = _of_class(experts, _true_class(facts))
    return {_draw([e for e in experts if e != true], facts): 1.0}


def random(clip: ClipEncoding, experts: Sequence[str], facts: Facts) -> Route:
    """Take a random expert: a control."""
    return {_draw(list(experts), facts): 1.0}


ROUTERS: dict[str, Router] = {
    r.__name__: r
    for r in (
        cosine,
        gain,
        distortion,
        linear,
        calibrated,
        soft,
        oracle,
        random,
        wrong,
    )
}
CONTROLS = ("oracle", "random", "wrong")
# Routers that search the first levels of every expert.
SEARCHING = ("cosine", "gain", "distortion", "soft")
# Routers that are fitted to the group `specific` when codebooks are learned.
FITTED = ("linear", "calibrated", "soft")
# Routers that name a class, which must then be that of an expert.
OF_CLASS = ("linear", "calibrated", "oracle", "wrong")


def get_router(name: str) -> Router:
    """Give a router by name.

    Raises
    ------
    ValueError
        For an unknown name, with the names that exist.
    """
    if name not in ROUTERS:
        raise ValueError(f"unknown router '{name}', expected one of {sorted(ROUTERS)}")
    return ROUTERS[name]


def side_bits(router: str, n_experts: int) -> float:
    """Bits that tell a decoder the route of one clip.

    Parameters
    ----------
    router : str
    n_experts : int

    Returns
    -------
    bits : float
        ``log2`` of the number of routes; `gain` has one more (its fallback); `soft`
        names an ordered pair and a weight.
    """
    if router == "gain":
        return math.log2(n_experts + 1)
    if router == "soft":
        return math.log2(n_experts * (n_experts - 1)) + math.log2(MIXING_STEPS)
    return math.log2(n_experts)


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


def _true_class(facts: Facts) -> str:
    if facts.emotion is None:
        raise ValueError(
            f"utterance '{facts.utterance}' has no class, which a control route needs"
        )
    return facts.emotion


def _of_class(experts: Sequence[str], emotion: str) -> str:
    for expert in experts:
        if member(expert) == emotion:
            return expert
    raise ValueError(f"no expert of class '{emotion}' among {list(experts)}")


def _draw(experts: list[str], facts: Facts) -> str:
    if not facts.utterance:
        raise ValueError("a clip has no name, which the draw of a control depends on")
    text = f"{facts.seed} {facts.utterance}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return experts[number % len(experts)]
