"""Metrics of emotion recognition for `measure` of any espnet3 system."""

from collections.abc import Sequence

import numpy as np
from espnet3.components.metrics.base_metric import BaseMetric
from espnet3.contract import Field

from emoq_plugin.data.votes import parse_votes
from emoq_plugin.evaluation.metrics import (
    SOFT_METRICS,
    confusion,
    scores_of_confusion,
)

HARD_METRICS = {"UA": "uar", "WA": "wa", "macro_F1": "macro_f1"}


class EmotionScores(BaseMetric):
    """UA (recall averaged over classes), WA (accuracy) and macro-F1, in percent.

    `ref` and `hyp` are labels. Utterances whose reference is empty (no majority among
    raters) are left out; a recognised label that is no class is a miss.

    Examples
    --------
    >>> metric = EmotionScores()
    >>> metric.update(ref=["sad", "sad", "angry"], hyp=["sad", "?", "angry"])
    >>> metric.compute()
    {'UA': 75.0, 'WA': 66.67, 'macro_F1': 83.33}
    """

    inputs = (Field("ref", "text"), Field("hyp", "text"))
    outputs = tuple(Field(name, "number") for name in HARD_METRICS)

    def __init__(self):
        super().__init__()
        self.add_state("refs", [], "cat")
        self.add_state("hyps", [], "cat")

    def update(self, *, ref: Sequence[str], hyp: Sequence[str]) -> None:
        """Add labels of one batch."""
        labelled = [pair for pair in zip(ref, hyp) if pair[0]]
        self.refs += [label for label, _ in labelled]
        self.hyps += [label for _, label in labelled]

    def compute(self) -> dict[str, float]:
        """Return the scores of everything added so far.

        Raises
        ------
        ValueError
            If no utterance has a label.
        """
        if not self.refs:
            raise ValueError("no utterance has a reference label: nothing to score")
        labels = sorted(set(self.refs))
        found = scores_of_confusion(confusion(self.refs, self.hyps, labels=labels))
        return {
            name: round(100 * float(found[ours]), 2)
            for name, ours in HARD_METRICS.items()
        }


class SoftEmotionScores(BaseMetric):
    """Means of the soft metrics of `emoq_plugin.evaluation.metrics`.

    `ref` and `hyp` are votes or shares, `angry=3 sad=1`; they are made to sum to 1.

    Parameters
    ----------
    emotions : sequence of str, optional
        Class order; default: the classes that occur, sorted.

    Examples
    --------
    >>> metric = SoftEmotionScores()
    >>> metric.update(ref=["angry=1 sad=1"], hyp=["angry=0.5 sad=0.5"])
    >>> metric.compute()["js"]
    0.0
    """

    inputs = (Field("ref", "text"), Field("hyp", "text"))
    outputs = tuple(Field(name, "number") for name in SOFT_METRICS)

    def __init__(self, emotions: Sequence[str] | None = None):
        self.emotions = list(emotions or ())
        super().__init__()
        self.add_state("refs", [], "cat")
        self.add_state("hyps", [], "cat")

    def update(self, *, ref: Sequence[str], hyp: Sequence[str]) -> None:
        """Add distributions of one batch."""
        self.refs += ref
        self.hyps += hyp

    def compute(self) -> dict[str, float]:
        """Return the means over everything added so far.

        Raises
        ------
        ValueError
            For what `emoq_plugin.data.votes.parse_votes` cannot read.
        """
        words = " ".join([*self.refs, *self.hyps]).split()
        found = {word.partition("=")[0] for word in words}
        emotions = self.emotions or sorted(found)
        target, predicted = (
            np.array([parse_votes(text, emotions) for text in texts])
            for texts in (self.refs, self.hyps)
        )
        target, predicted = (
            rows / rows.sum(axis=1, keepdims=True) for rows in (target, predicted)
        )
        return {
            name: float(score(target, predicted).mean().round(6))
            for name, score in SOFT_METRICS.items()
        }
