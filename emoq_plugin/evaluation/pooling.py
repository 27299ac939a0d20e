"""Predictions of all folds together, and what they are compared with.

Every utterance is predicted in exactly one test fold, and each metric is computed once
on all of them, with an interval over speakers.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emoq_plugin.evaluation.intervals import (
    SpeakerSums,
    draw_speakers,
    speaker_confusions,
    speaker_sums,
    why_no_interval,
    with_everyone,
)
from emoq_plugin.evaluation.metrics import SOFT_METRICS
from emoq_plugin.evaluation.predictions import Prediction, read_predictions
from emoq_plugin.routing.systems import CONTINUOUS

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory

# An utterance is clear when more than half of its raters agree (METHOD: 50 %).
CLEAR_SHARE = 0.5


@dataclass
class Condition:
    """One rate, system and head over all folds; rows follow the common utterances."""

    rate: str
    system: str
    head: str
    bitrate_bps: dict[str, float] | None
    posteriors: np.ndarray  # (N, C)
    folds: dict[str, Prediction] = field(default_factory=dict)


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


def pool_folds(folds: Mapping[str, Prediction], utterances: Sequence[str]) -> Condition:
    """Join the folds of a condition, rows in the order of `utterances`."""
    row = {u: n for n, u in enumerate(u for p in folds.values() for u in p.utterances)}
    stacked = np.concatenate([p.posteriors for p in folds.values()])
    first = next(iter(folds.values()))
    return Condition(
        rate=first.rate,
        system=CONTINUOUS if first.rate == CONTINUOUS else first.system,
        head=first.head,
        bitrate_bps=mean_bitrate(folds.values()),
        posteriors=stacked[[row[u] for u in utterances]],
        folds=dict(folds),
    )


@dataclass
class Reference:
    """What every condition is compared with, and the common draws of speakers."""

    emotions: list[str]
    labels: np.ndarray  # (N,) class or -1
    classes: list[int]  # classes that occur: the label set of the hard metrics
    targets: np.ndarray  # (N, C)
    speakers: np.ndarray  # (N,) index
    draws: np.ndarray  # (R, S); R is 0 where there is one speaker
    weights: np.ndarray  # (1 + R, S), `with_everyone`
    parts: dict[str, np.ndarray]  # ambiguity -> (N,) bool, empty without votes


def make_reference(
    data: "DataDirectory",
    utterances: list[str],
    emotions: list[str],
    *,
    n_resamples: int,
    seed: int,
) -> Reference:
    """Return labels, vote shares and speakers of the pooled utterances.

    Raises
    ------
    ValueError
        If an utterance is unknown, or none has a label.
    """
    if unknown := [u for u in utterances if u not in data.speaker]:
        raise ValueError(
            f"{data.path}: utterances {unknown[:5]} are predicted but not in utt2spk: "
            "score with the data directory that was predicted"
        )
    labels = data.labels(utterances, emotions)
    if not (labels >= 0).any():
        raise ValueError(
            f"{data.path}: none of the {len(utterances)} predicted utterances has a "
            "label in utt2emo"
        )
    spoken_by = [data.speaker[u] for u in utterances]
    number = {name: n for n, name in enumerate(sorted(set(spoken_by)))}
    targets = data.targets(utterances, emotions)
    voted = np.array([u in data.votes for u in utterances])
    clear = targets.max(1) > CLEAR_SHARE
    parts = {"low": voted & clear, "high": voted & ~clear} if voted.any() else {}
    if why_no_interval(len(number)):
        draws = np.ones((0, len(number)))
    else:
        draws = draw_speakers(len(number), n_resamples, seed=seed)
    return Reference(
        emotions=emotions,
        labels=labels,
        classes=sorted(set(labels[labels >= 0].tolist())),
        targets=targets,
        speakers=np.array([number[name] for name in spoken_by]),
        draws=draws,
        weights=with_everyone(draws),
        parts={name: rows for name, rows in parts.items() if rows.any()},
    )


def sum_by_speaker(
    posteriors: np.ndarray, reference: Reference, rows: np.ndarray | None = None
) -> SpeakerSums:
    """Compare posteriors with the reference and sum over each speaker's utterances.

    Parameters
    ----------
    posteriors : (N, C) array
    reference : Reference
    rows : (N,) bool array, optional
        Utterances that count; all by default. Only those with a label count in the
        hard metrics.
    """
    n_speakers = reference.draws.shape[1]
    rows = np.ones(len(posteriors), dtype=bool) if rows is None else rows
    hard = rows & (reference.labels >= 0)
    soft = [
        metric(reference.targets[rows], posteriors[rows])
        for metric in SOFT_METRICS.values()
    ]
    return SpeakerSums(
        confusions=speaker_confusions(
            reference.labels[hard],
            posteriors[hard].argmax(1),
            labels=reference.classes,
            speakers=reference.speakers[hard],
            n_speakers=n_speakers,
        ),
        soft=speaker_sums(
            np.stack(soft, axis=1), reference.speakers[rows], n_speakers=n_speakers
        ),
        sizes=np.bincount(reference.speakers[rows], minlength=n_speakers) * 1.0,
        classes=tuple(reference.emotions[label] for label in reference.classes),
    )
