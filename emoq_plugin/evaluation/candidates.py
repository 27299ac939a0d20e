"""Which features: candidates under the probe, one chosen by validation speakers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import Fold
from emoq_plugin.evaluation.metrics import macro_f1
from emoq_plugin.routing.pooled import PooledClassifier


@dataclass(frozen=True)
class Candidate:
    """Score of one kind of features.

    Attributes
    ----------
    name : str
    valid_macro_f1 : float
        On the validation clips of all folds together.
    chosen_in : list of str
        Folds whose validation speakers choose it.
    """

    name: str
    valid_macro_f1: float
    chosen_in: list[str]


@dataclass(frozen=True)
class Choice:
    """What validation speakers choose.

    Attributes
    ----------
    candidates : list of Candidate
    chosen : str
        The best on validation clips of all folds.
    test_macro_f1 : float
        On the test clips of all folds, each under the candidate that the validation
        speakers of its fold choose, so that no test speaker takes part in a choice.
    """

    candidates: list[Candidate]
    chosen: str
    test_macro_f1: float

    def to_json(self) -> dict[str, Any]:
        """Return the choice as a dictionary that JSON can hold."""
        return asdict(self)


def choose_by_validation(
    pooled: Mapping[str, Mapping[str, np.ndarray]],
    data: DataDirectory,
    folds: Sequence[Fold],
    emotions: Sequence[str],
    **head: Any,
) -> Choice:
    """Train the probe on the training part of every fold, score the others.

    Parameters
    ----------
    pooled : mapping of str to mapping of str to (F,) array
        By candidate and clip; the first wins ties.
    data : DataDirectory
    folds : sequence of Fold
    emotions : sequence of C str
    **head
        Options of `PooledClassifier`.

    Raises
    ------
    ValueError
        If there is nothing to choose from, or a fold has no validation clips.
    """
    if not pooled:
        raise ValueError("no features to choose from, expected at least one kind")
    for fold in folds:
        if not fold.valid:
            raise ValueError(
                f"fold {fold.name} has no validation clips to choose by: make folds "
                "with --n_valid_speakers of at least 1"
            )

    def labels(clips: Sequence[str]) -> list[str]:
        rows = data.targets(clips, emotions).argmax(axis=1)
        return [emotions[row] for row in rows]

    def score(clips: Sequence[str], found: Mapping[str, str]) -> float:
        return macro_f1(labels(clips), [found[u] for u in clips], labels=emotions)

    valid = [u for fold in folds for u in fold.valid]
    chosen: dict[str, list[str]] = {name: [] for name in pooled}
    in_fold: dict[str, dict[str, list[str]]] = {name: {} for name in pooled}
    tested: dict[str, str] = {}
    for fold in folds:
        targets = data.targets(fold.train, emotions)
        scores, tests = {}, {}
        for name, rows in pooled.items():
            fitted = PooledClassifier(**head).fit(_stack(rows, fold.train), targets)
            of_valid, tests[name] = (
                [
                    emotions[k]
                    for k in fitted.predict_proba(_stack(rows, part)).argmax(axis=1)
                ]
                for part in (fold.valid, fold.test)
            )
            in_fold[name][fold.name] = of_valid
            scores[name] = score(fold.valid, dict(zip(fold.valid, of_valid)))
        best = max(scores, key=scores.__getitem__)
        chosen[best].append(fold.name)
        tested |= dict(zip(fold.test, tests[best]))
    reference = labels(valid)
    candidates = [
        Candidate(
            name,
            macro_f1(reference, sum(parts.values(), []), labels=emotions),
            chosen[name],
        )
        for name, parts in in_fold.items()
    ]
    best = max(candidates, key=lambda candidate: candidate.valid_macro_f1)
    return Choice(candidates, best.name, score(list(tested), tested))


def _stack(rows: Mapping[str, np.ndarray], clips: Sequence[str]) -> np.ndarray:
    return np.stack([rows[clip] for clip in clips])
