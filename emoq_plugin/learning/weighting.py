"""Weights of training clips for every expert: who learns from what."""

import re
from collections.abc import Sequence

import numpy as np

from emoq_plugin.core.bank import BALANCED

EXPERT_SETS = "balanced, specific, biased<percent> (such as biased95), capacity"


def check_expert_sets(expert_sets: Sequence[str]) -> None:
    """Refuse expert sets that are none, unknown or named twice.

    Raises
    ------
    ValueError
        With those that exist.
    """
    if not expert_sets or len(set(expert_sets)) < len(expert_sets):
        raise ValueError(
            f"expert_sets are {list(expert_sets)}, expected some of {EXPERT_SETS}, once"
        )
    for expert_set in expert_sets:
        if expert_set not in (BALANCED, "specific", "capacity"):
            _ratio(expert_set)


def _ratio(expert_set: str) -> float:
    """Return the share of the own class of a expert set ``biased<percent>``."""
    match = re.fullmatch(r"biased(\d\d?(?:\.\d+)?)", expert_set)
    if not match or not float(match[1]) > 0:
        raise ValueError(
            f"unknown expert set '{expert_set}', expected one of {EXPERT_SETS}"
        )
    return float(match[1]) / 100


def expert_weights(
    expert_sets: Sequence[str],
    targets: np.ndarray,
    lengths: np.ndarray,
    *,
    emotions: Sequence[str],
    seed: int = 0,
    equal_budget: bool = False,
) -> tuple[list[str], np.ndarray]:
    """Weigh every training clip for every expert.

    With ``p_uc`` the share of class c in clip u (0 or 1 for hard labels), ``T_u`` its
    frames and ``M_c = sum_u p_uc T_u`` the mass of a class, a frame of clip u weighs

    - balanced: ``sum_c p_uc / M_c``, equal mass for each class;
    - specific/c: ``p_uc``;
    - biased<r>/c: ``r p_uc / M_c + (1 - r) / (C - 1) sum_{b != c} p_ub / M_b``;
    - capacity/i: as balanced, on the i-th part of a random partition of the clips into
      as many parts as there are classes (a control: as many codewords as `specific`,
      no emotion).

    Parameters
    ----------
    expert sets : sequence of str
        Any of balanced, specific, biased<percent>, capacity.
    targets : (U, C) array
        Class shares of the clips, rows sum to one.
    lengths : (U,) array
        Frames of the clips.
    emotions : sequence of C str
    seed : int, default=0
        Of the partition and of the budgets.
    equal_budget : bool, default=False
        Cut every expert's clips at random to the frames of the poorest expert.

    Returns
    -------
    experts : list of E str
    weights : (U, E) float32 array

    Raises
    ------
    ValueError
        For an unknown expert set, or a class that has no training clip.
    """
    check_expert_sets(expert_sets)
    targets = np.asarray(targets, dtype=np.float64)
    lengths = np.asarray(lengths, dtype=np.float64)
    mass = targets.T @ lengths  # (C,)
    if (mass == 0).any():
        empty = [e for e, m in zip(emotions, mass) if m == 0]
        raise ValueError(
            f"no training clip of {', '.join(empty)}: remove the class from the "
            "emotions file or add data"
        )
    share = targets / mass * lengths.sum()  # (U, C), mean over frames is 1 a class
    random = np.random.default_rng(seed)
    experts, columns = [], []
    for expert_set in expert_sets:
        names, weights = _set_weights(expert_set, targets, share, emotions, random)
        experts += names
        columns += weights
    weights = np.stack(columns, axis=1)
    if equal_budget:
        weights = _cut_to_budget(weights, lengths, random)
    return experts, weights.astype(np.float32)


def is_blind(expert_set: str) -> bool:
    """Return whether an expert set knows no classes."""
    return expert_set in (BALANCED, "capacity")


def _set_weights(
    expert_set: str,
    targets: np.ndarray,
    share: np.ndarray,
    emotions: Sequence[str],
    random: np.random.Generator,
) -> tuple[list[str], list[np.ndarray]]:
    n_classes = len(emotions)
    balanced = share.mean(axis=1)
    if expert_set == BALANCED:
        return [BALANCED], [balanced]
    named = [f"{expert_set}/{emotion}" for emotion in emotions]
    if expert_set == "specific":
        return named, list(targets.T)
    if expert_set == "capacity":
        part = random.permutation(len(targets)) % n_classes
        numbered = [f"{expert_set}/{i}" for i in range(n_classes)]
        return numbered, [balanced * (part == i) for i in range(n_classes)]
    if n_classes < 2:
        raise ValueError(
            f"expert set '{expert_set}' needs two classes or more, found {emotions}"
        )
    ratio = _ratio(expert_set)
    rest = (1 - ratio) / (n_classes - 1)
    others = share.sum(axis=1, keepdims=True) - share
    return named, list((ratio * share + rest * others).T)


def _cut_to_budget(
    weights: np.ndarray, lengths: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Zero random clips of every expert until it has the frames of the poorest."""
    budget = ((weights > 0) * lengths[:, None]).sum(axis=0).min()
    cut = np.zeros_like(weights)
    for e in range(weights.shape[1]):
        # Drawn in proportion to weight, so that a biased mixture stays what it is.
        with np.errstate(divide="ignore"):
            keys = random.exponential(size=len(weights)) / weights[:, e]
        order = np.argsort(keys, kind="stable")
        order = order[weights[order, e] > 0]
        keep = order[np.cumsum(lengths[order]) <= budget]
        cut[keep, e] = 1.0
    return cut
