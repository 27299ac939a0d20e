"""Bootstrap intervals over speakers: whole speakers are drawn, never utterances.

Utterances of one speaker resemble each other, so an interval over utterances is too
narrow. Speakers are drawn with replacement and the metric of the pooled utterances is
computed again (cluster bootstrap; Davison and Hinkley, 1997, section 3.8). A draw is a
vector of counts, one a speaker; as every metric here is a function of sums over
utterances, sums by speaker are made once and a resample is one matrix product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoq_plugin.evaluation.metrics import SOFT_METRICS, positions, scores_of_confusion

LEVEL = 0.95


def draw_speakers(
    n_speakers: int, n_resamples: int = 1000, *, seed: int = 0
) -> np.ndarray:
    """Draw speakers with replacement.

    Use one draw for all systems: differences between systems are then paired.

    Returns
    -------
    (R, S) float64 array
        How often each speaker is in each resample; rows sum to S.

    Raises
    ------
    ValueError
        With fewer than two speakers: nothing could vary.
    """
    if n_speakers < 2:
        raise ValueError(
            f"found {n_speakers} speaker(s), a bootstrap over speakers needs at least "
            "2: score more folds together"
        )
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples} should be >= 1")
    shares = np.full(n_speakers, 1 / n_speakers)
    draws = np.random.default_rng(seed).multinomial(n_speakers, shares, n_resamples)
    return draws.astype(np.float64)


def why_no_interval(n_speakers: int) -> str | None:
    """Say why scores of so few test speakers have neither interval nor test.

    Examples
    --------
    >>> why_no_interval(1)
    'one test speaker: an interval over speakers needs at least 2, score more folds'
    >>> why_no_interval(2) is None
    True
    """
    if n_speakers > 1:
        return None
    return (
        "one test speaker: an interval over speakers needs at least 2, score more folds"
    )


def speaker_sums(
    values: np.ndarray, speakers: np.ndarray, *, n_speakers: int
) -> np.ndarray:
    """Sum over the utterances of each speaker.

    Parameters
    ----------
    values : (N, ...) array
        One entry an utterance.
    speakers : (N,) int array
        Speaker of each utterance, 0 .. S - 1.
    n_speakers : int
        S; a speaker without utterances has sum 0.

    Returns
    -------
    (S, ...) float64 array
    """
    values = np.asarray(values, dtype=np.float64)
    sums = np.zeros((n_speakers, *values.shape[1:]))
    np.add.at(sums, speakers, values)
    return sums


def speaker_confusions(
    reference: Sequence,
    predicted: Sequence,
    *,
    labels: Sequence,
    speakers: np.ndarray,
    n_speakers: int,
) -> np.ndarray:
    """Return one confusion matrix a speaker, columns as in `metrics.confusion`.

    A single speaker may lack a class, so this does not refuse it.

    Returns
    -------
    (S, C, C + 1) float64 array
    """
    rows, columns = positions(reference, labels), positions(predicted, labels)
    counts = np.zeros((n_speakers, len(labels), len(labels) + 1))
    np.add.at(counts, (speakers, rows, columns), 1)
    return counts


def resample_sums(sums: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Pool the sums of the drawn speakers: (S, ...) and (R, S) give (R, ...)."""
    return np.tensordot(draws, sums, axes=1)


def means_of_sums(sums: np.ndarray, sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Compute the mean over the pooled utterances of every resample.

    Parameters
    ----------
    sums : (S, M) array
        M quantities summed over the utterances of each speaker, see `speaker_sums`.
    sizes : (S,) array
        Utterances of each speaker.
    draws : (R, S) array
        From `draw_speakers`.

    Returns
    -------
    (R, M) float64 array
        NaN for a resample in which nobody has an utterance.
    """
    with np.errstate(invalid="ignore"):
        return resample_sums(sums, draws) / resample_sums(sizes, draws)[:, None]


@dataclass(frozen=True)
class SpeakerSums:
    """Everything that the metrics of a condition are functions of, summed by speaker.

    Attributes
    ----------
    confusions : (S, C, C + 1) float64 array
        See `speaker_confusions`.
    soft : (S, M) float64 array
        The metrics of `SOFT_METRICS`.
    sizes : (S,) float64 array
        Utterances behind `soft`.
    classes : tuple of C str
        Names of the rows of `confusions`.
    """

    confusions: np.ndarray
    soft: np.ndarray
    sizes: np.ndarray
    classes: tuple[str, ...]

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric for every way of counting the speakers.

        Parameters
        ----------
        weights : (R, S) array
            How often each speaker counts; see `with_everyone`.

        Returns
        -------
        dict of str to (R,) float64 array
            `macro_f1`, `uar`, `wa`, `recall/<class>` and the soft metrics; NaN where
            nobody that counts defines a metric.
        """
        with np.errstate(invalid="ignore"):
            hard = scores_of_confusion(resample_sums(self.confusions, weights))
        recall, _ = hard.pop("recall"), hard.pop("f1")  # (R, C)
        soft = means_of_sums(self.soft, self.sizes, weights)
        return (
            hard
            | {f"recall/{name}": recall[:, c] for c, name in enumerate(self.classes)}
            | {name: soft[:, m] for m, name in enumerate(SOFT_METRICS)}
        )

    def f1(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the F1 of each class for every way of counting the speakers, (R,)."""
        found = scores_of_confusion(resample_sums(self.confusions, weights))["f1"]
        return dict(zip(self.classes, found.T))

    def beside(self, other: "SpeakerSums") -> "SpeakerSums":
        """Return the speakers of two conditions side by side, as (2 S) clusters."""
        pairs = ((getattr(self, n), getattr(other, n)) for n in _SUMMED)
        return SpeakerSums(*map(np.concatenate, pairs), self.classes)


_SUMMED = ("confusions", "soft", "sizes")


def with_everyone(draws: np.ndarray) -> np.ndarray:
    """Put the count of all speakers, each once, before the resamples.

    Parameters
    ----------
    draws : (R, S) array

    Returns
    -------
    (1 + R, S) float64 array
    """
    return np.concatenate([np.ones((1, draws.shape[1])), draws])


def percentile_interval(
    value: float, samples: np.ndarray, *, level: float = LEVEL
) -> dict[str, float | None]:
    """Return the value on all utterances with its percentile interval.

    With few speakers (ten, say) percentile intervals are somewhat too narrow; read an
    end close to zero with care.

    Parameters
    ----------
    value : float
        The metric on all utterances, not the mean of the resamples.
    samples : (R,) array
        The metric in every resample, or the difference of two systems under the same
        draws; NaN (undefined in a resample) is left out. With R = 0, of one speaker,
        there is no interval.
    level : float, default=0.95
        Share of the resamples inside.

    Returns
    -------
    dict
        `mean` (the value), `low`, `high`; the last two are None without samples.

    Raises
    ------
    ValueError
        If no resample defines the metric.
    """
    samples = np.asarray(samples, dtype=np.float64)
    if not samples.size:
        return {"mean": float(value), "low": None, "high": None}
    samples = samples[np.isfinite(samples)]
    if not samples.size:
        raise ValueError("the metric is undefined in every resample of the speakers")
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(samples, tails)
    return {"mean": float(value), "low": float(low), "high": float(high)}


def intervals(samples: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Turn `SpeakerSums.metrics` of `with_everyone` into triples.

    `recall/<class>` goes into a table of its own. A metric that is undefined on all
    utterances together is left out.
    """
    result: dict[str, Any] = {}
    for name, (value, *resampled) in samples.items():
        if not np.isfinite(value):
            continue
        triple = percentile_interval(value, np.array(resampled))
        table, _, emotion = name.partition("/")
        if emotion:
            result.setdefault(table, {})[emotion] = triple
        else:
            result[name] = triple
    return result
