"""Labels, votes and speakers of test clips, which predictions are compared with."""

from dataclasses import dataclass
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

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory

# An utterance is clear when more than half of its raters agree (METHOD: 50 %).
CLEAR_SHARE = 0.5


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
    ratings: np.ndarray  # (N, 3), NaN where there is none


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
        ratings=data.rating_rows(utterances),
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
