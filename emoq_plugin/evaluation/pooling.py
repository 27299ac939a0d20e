"""Predictions of all folds together, condition by condition.

Every utterance is predicted in exactly one test fold, and each metric is computed once
on all of them, with an interval over speakers.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from emoq_plugin.data.ratings import DIMENSIONS
from emoq_plugin.evaluation.intervals import SpeakerSums
from emoq_plugin.evaluation.predictions import Prediction, read_predictions
from emoq_plugin.evaluation.ratings import ccc_samples
from emoq_plugin.evaluation.reference import (
    Reference,
    make_reference,
    sum_by_speaker,
)
from emoq_plugin.routing.systems import CONTINUOUS

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory


@dataclass
class Condition:
    """One rate, system and head over all folds; rows follow the common utterances."""

    rate: str
    system: str
    head: str
    bitrate_bps: dict[str, float] | None
    posteriors: np.ndarray  # (N, C)
    ratings: np.ndarray  # (N, 3), NaN where none are predicted
    folds: dict[str, Prediction]


def read_conditions(
    files: Iterable[str | Path], emotions: Sequence[str]
) -> dict[str, dict[str, Prediction]]:
    """Sort all predictions into condition -> fold -> prediction.

    Raises
    ------
    ValueError
        For another class order, or a condition that is predicted twice in a fold.
    """
    conditions: dict[str, dict[str, Prediction]] = {}
    for path in files:
        for prediction in read_predictions(path):
            if prediction.emotions != list(emotions):
                raise ValueError(
                    f"{path}: condition {prediction.key} has classes "
                    f"{prediction.emotions}, "
                    f"expected {list(emotions)} in this order"
                )
            folds = conditions.setdefault(prediction.key, {})
            if prediction.fold in folds:
                raise ValueError(
                    f"{path}: condition {prediction.key} is predicted twice in fold "
                    f"{prediction.fold}: give each prediction file once"
                )
            folds[prediction.fold] = prediction
    if not conditions:
        raise ValueError("no prediction files given")
    return conditions


def check_same_folds(
    conditions: dict[str, dict[str, Prediction]],
) -> dict[str, set[str]]:
    """Refuse conditions that miss folds or differ in the utterances of a fold.

    Returns
    -------
    tested : dict of str to set of str
        Utterances by fold.

    Raises
    ------
    ValueError
        Naming the condition, or the utterance that two folds test.
    """
    tested: dict[str, set[str]] = {}
    for folds in conditions.values():
        for fold, prediction in folds.items():
            tested.setdefault(fold, set(prediction.utterances))
    for key, folds in conditions.items():
        if missing := sorted(set(tested) - set(folds)):
            raise ValueError(
                f"condition {key} misses folds {missing} that other conditions have"
            )
        for fold, prediction in folds.items():
            if odd := sorted(tested[fold] ^ set(prediction.utterances)):
                raise ValueError(
                    f"condition {key}, fold {fold}: utterances {odd[:5]} are predicted "
                    "in some conditions and not in others"
                )
    seen: dict[str, str] = {}
    for fold in sorted(tested):
        for utterance in sorted(tested[fold]):
            if utterance in seen:
                raise ValueError(
                    f"utterance {utterance} is predicted in fold {seen[utterance]} and "
                    f"in fold {fold}, expected exactly one test fold"
                )
            seen[utterance] = fold
    return tested


def mean_bitrate(folds: Iterable[Prediction]) -> dict[str, float] | None:
    """Return the bits of all folds together by their seconds."""
    folds = list(folds)
    if any(prediction.bitrate_bps is None for prediction in folds):
        return None
    weights = [prediction.seconds for prediction in folds]
    if None in weights:
        weights = [len(prediction.utterances) for prediction in folds]
        if any(p.bitrate_bps != folds[0].bitrate_bps for p in folds):
            logging.warning(
                "%s: its predictions are without 'seconds', so the bit/s of folds are "
                "weighted by their clips: run stages 5 and 6 again",
                folds[0].key,
            )
    names = [n for n in folds[0].bitrate_bps if all(n in p.bitrate_bps for p in folds)]
    return {
        name: float(np.average([p.bitrate_bps[name] for p in folds], weights=weights))
        for name in names
    }


def total_bits(rates: Mapping[str, float]) -> float:
    """Return the nominal bits/s of all streams and those of the route."""
    return rates["nominal"] + rates["side_info"]


def pool_folds(folds: Mapping[str, Prediction], utterances: Sequence[str]) -> Condition:
    """Join the folds of a condition, rows in the order of `utterances`."""
    row = {u: n for n, u in enumerate(u for p in folds.values() for u in p.utterances)}
    stacked = np.concatenate([p.posteriors for p in folds.values()])
    rated = np.concatenate([_rating_rows(p) for p in folds.values()])
    rows = [row[u] for u in utterances]
    first = next(iter(folds.values()))
    return Condition(
        rate=first.rate,
        system=CONTINUOUS if first.rate == CONTINUOUS else first.system,
        head=first.head,
        bitrate_bps=mean_bitrate(folds.values()),
        posteriors=stacked[rows],
        ratings=rated[rows],
        folds=dict(folds),
    )


def _rating_rows(prediction: Prediction) -> np.ndarray:
    unknown = np.full(len(prediction.utterances), np.nan)
    ratings = prediction.ratings or {}
    return np.stack([ratings.get(name, unknown) for name in DIMENSIONS], axis=1)


def compose(parts: Mapping[str, Condition], utterances: Sequence[str]) -> Condition:
    """Take the test clips of each fold from a condition of its own.

    Rate, system and head of the whole are those of the first fold.
    """
    return pool_folds({f: c.folds[f] for f, c in parts.items()}, utterances)


# ---------------------------------------------------------------------- one experiment


@dataclass
class Pool:
    """One experiment: the conditions of its seeds over all folds.

    Attributes
    ----------
    name : str
    seeds : list of int
    tested : dict of str to set of str
        Test clips by fold.
    utterances : list of str
        Rows of all posteriors.
    reference : Reference
    conditions : dict of str to list of Condition
        By key, one for each seed.
    """

    name: str
    seeds: list[int]
    tested: dict[str, set[str]]
    utterances: list[str]
    reference: Reference
    conditions: dict[str, list[Condition]]

    @classmethod
    def read(
        cls,
        name: str,
        files: Mapping[int, Iterable[str | Path]],
        data: "DataDirectory",
        emotions: Sequence[str],
        *,
        n_resamples: int,
        seed: int = 0,
        **more: Any,
    ) -> Self:
        """Read and check the predictions of every seed.

        Parameters
        ----------
        name : str
        files : mapping of int to iterable of str or Path
            By seed, all conditions and folds together.
        data : DataDirectory
            Speakers, labels and votes of the predicted utterances.
        emotions : sequence of C str
            Class order.
        n_resamples, seed : int
            Of the bootstrap over speakers, common to all conditions.
        **more
            Attributes of a subclass.

        Raises
        ------
        ValueError
            If a condition misses a fold, an utterance is predicted twice or unknown,
            or class orders differ.
        """
        emotions = list(emotions)
        by_seed = {s: read_conditions(paths, emotions) for s, paths in files.items()}
        named = {
            key if len(by_seed) == 1 else f"{key} of seed {s}": folds
            for s, conditions in by_seed.items()
            for key, folds in conditions.items()
        }
        tested = check_same_folds(named)
        utterances = sorted(set().union(*tested.values()))
        first, *others = by_seed.values()
        for conditions in others:
            if odd := sorted(set(first) ^ set(conditions)):
                raise ValueError(
                    f"{name}: condition {odd[0]} is predicted with some seeds and not "
                    "with others: run its jobs again"
                )
        return cls(
            name=name,
            seeds=list(by_seed),
            tested=tested,
            utterances=utterances,
            reference=make_reference(
                data, utterances, emotions, n_resamples=n_resamples, seed=seed
            ),
            conditions={
                key: [pool_folds(c[key], utterances) for c in by_seed.values()]
                for key in first
            },
            **more,
        )

    @cached_property
    def sums(self) -> dict[str, list[SpeakerSums]]:
        """Sums by speaker of every condition and seed."""
        return {
            key: [sum_by_speaker(c.posteriors, self.reference) for c in conditions]
            for key, conditions in self.conditions.items()
        }

    @cached_property
    def ccc(self) -> dict[str, dict[str, list[np.ndarray]]]:
        """CCC of every condition by dimension, a row for each seed."""
        reference = self.reference
        return {
            key: ccc_samples(
                reference.ratings,
                [condition.ratings for condition in conditions],
                speakers=reference.speakers,
                weights=self.weights,
            )
            for key, conditions in self.conditions.items()
        }

    @property
    def folds(self) -> list[str]:
        """Names of the test folds."""
        return list(self.tested)

    @property
    def weights(self) -> np.ndarray:
        """Ways of counting the speakers, (1 + R, S)."""
        return self.reference.weights

    def rows_of(self, fold: str) -> np.ndarray:
        """Mark the test clips of a fold, (N,) bool."""
        return np.array([u in self.tested[fold] for u in self.utterances])

    def bitrate(self, key: str) -> dict[str, float] | None:
        """Return the bits/s of a condition, averaged over seeds."""
        found = [condition.bitrate_bps for condition in self.conditions[key]]
        if any(rates is None for rates in found):
            return None
        return {n: float(np.mean([rates[n] for rates in found])) for n in found[0]}

    def composed(self, keys: Mapping[str, str]) -> list[Condition]:
        """Take the test clips of each fold from a condition of its own.

        Parameters
        ----------
        keys : mapping of str to str
            Condition by fold, all with bits or all without.

        Returns
        -------
        list of Condition
            One for each seed, see `compose`.
        """
        return [
            compose(
                {f: self.conditions[key][n] for f, key in keys.items()}, self.utterances
            )
            for n in range(len(self.seeds))
        ]
