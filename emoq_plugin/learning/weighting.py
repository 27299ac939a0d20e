"""Weights of training clips for every expert: who learns from what."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from emoq_plugin.core.bank import BALANCED


@dataclass(frozen=True)
class ClassShares:
    """Training clips, as an expert set sees them.

    Attributes
    ----------
    targets : (U, C) array
        Class shares of the clips, rows sum to one.
    equal : (U, C) array
        The same with equal mass for each class: 1 in the mean over frames.
    emotions : list of C str
    random : np.random.Generator
    """

    targets: np.ndarray
    equal: np.ndarray
    emotions: list[str]
    random: np.random.Generator

    def by_class(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Name the columns of (U, C) weights."""
        return dict(zip(self.emotions, weights.T))


# Weights (U,) by member: `sad` of `specific/sad`; one expert without a name.
Weights = dict[str, np.ndarray]


def _balanced(clips: ClassShares) -> Weights:
    return {"": clips.equal.mean(axis=1)}


def _specific(clips: ClassShares) -> Weights:
    return clips.by_class(clips.targets)


def _biased(clips: ClassShares, ratio: float) -> Weights:
    if len(clips.emotions) < 2:
        raise ValueError(
            f"expert set 'biased{100 * ratio:g}' needs two classes or more, found "
            f"{clips.emotions}"
        )
    others = clips.equal.sum(axis=1, keepdims=True) - clips.equal
    rest = (1 - ratio) / (len(clips.emotions) - 1)
    return clips.by_class(ratio * clips.equal + rest * others)


def _capacity(clips: ClassShares) -> Weights:
    n_classes = len(clips.emotions)
    part = clips.random.permutation(len(clips.targets)) % n_classes
    balanced = clips.equal.mean(axis=1)
    return {str(i): balanced * (part == i) for i in range(n_classes)}


# By name; `biased<percent>` is found by its form.
EXPERT_SETS: dict[str, Callable[[ClassShares], Weights]] = {
    BALANCED: _balanced,
    "specific": _specific,
    "capacity": _capacity,
}
# These know no classes.
BLIND = (BALANCED, "capacity")


def check_expert_sets(expert_sets: Sequence[str]) -> None:
    """Refuse expert sets that are none, unknown or named twice.

    Raises
    ------
    ValueError
        With those that exist.
    """
    if not expert_sets or len(set(expert_sets)) < len(expert_sets):
        raise ValueError(
            f"expert_sets are {list(expert_sets)}, expected some of {_known()}, once"
        )
    for expert_set in expert_sets:
        _find(expert_set)


def _known() -> str:
    return ", ".join([*EXPERT_SETS, "biased<percent> (such as biased95)"])


def _find(expert_set: str) -> Callable[[ClassShares], Weights]:
    """Return what weighs clips for an expert set."""
    if expert_set in EXPERT_SETS:
        return EXPERT_SETS[expert_set]
    match = re.fullmatch(r"biased(\d\d?(?:\.\d+)?)", expert_set)
    if not match or not float(match[1]) > 0:
        raise ValueError(
            f"unknown expert set '{expert_set}', expected one of {_known()}"
        )
    return partial(_biased, ratio=float(match[1]) / 100)


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
    expert_sets : sequence of str
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
    clips = ClassShares(targets, share, list(emotions), random)
    experts, columns = [], []
    for expert_set in expert_sets:
        for member, weights in _find(expert_set)(clips).items():
            experts.append(f"{expert_set}/{member}" if member else expert_set)
            columns.append(weights)
    weights = np.stack(columns, axis=1)
    if equal_budget:
        weights = _cut_to_budget(weights, lengths, random)
    return experts, weights.astype(np.float32)


def rows_of_classes(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make the rows of a regression that learns from class shares.

    Parameters
    ----------
    targets : (U, C) array
        Class shares of the clips, rows sum to one.

    Returns
    -------
    clip, label, weight : (R,) array
        A clip counts in each class by its share; classes that have clips have equal
        total weight.
    """
    clip, label = np.nonzero(targets)
    mass = targets.sum(axis=0)
    weight = targets[clip, label] / mass[label] * len(targets) / (mass > 0).sum()
    return clip, label, weight


def is_blind(expert_set: str) -> bool:
    """Return whether an expert set knows no classes."""
    return expert_set in BLIND


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


def leave_class_out(
    left_out: str, emotions: Sequence[str], targets: np.ndarray
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Take a class out of what is learned from.

    Parameters
    ----------
    left_out : str
    emotions : sequence of C str
    targets : (U, C) array
        Class shares, rows sum to one.

    Returns
    -------
    kept : (V,) int array
        Rows of the clips in which the class has not the largest share.
    others : list of C - 1 str
    shares : (V, C - 1) array
        Of the kept clips in the other classes, rows sum to one.

    Raises
    ------
    ValueError
        For an unknown class, or fewer than two others.

    Examples
    --------
    >>> shares = np.array([[0.5, 0.25, 0.25], [0, 0, 1.0]])
    >>> kept, _, found = leave_class_out("c", ["a", "b", "c"], shares)
    >>> kept.tolist(), found.round(2).tolist()
    ([0], [[0.67, 0.33]])
    """
    if left_out not in emotions or len(emotions) < 3:
        raise ValueError(
            f"class '{left_out}' cannot be left out, expected one of at least three, "
            f"found {' '.join(emotions)}"
        )
    column = list(emotions).index(left_out)
    kept = np.flatnonzero(targets.argmax(axis=1) != column)
    shares = np.delete(targets[kept], column, axis=1)
    others = [name for name in emotions if name != left_out]
    return kept, others, shares / shares.sum(axis=1, keepdims=True)
