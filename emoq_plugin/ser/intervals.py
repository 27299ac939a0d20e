"""Bootstrap intervals over speakers: whole speakers are drawn, never utterances.

Utterances of one speaker resemble each other, so an interval over utterances is too
narrow. Speakers are drawn with replacement and the metric of the pooled utterances is
computed again (cluster bootstrap; Davison and Hinkley, 1997, section 3.8). A draw is a
vector of counts, one a speaker; as every metric here is a function of sums over
utterances, sums by speaker are made once and a resample is one matrix product.
"""

from collections.abc import Sequence

import numpy as np

from emoq_plugin.ser.metrics import positions


def draw_speakers(
    n_speakers: int, n_resamples: int = 1000, *, seed: int = 0
) -> np.ndarray:
    """Draw speakers with replacement.

    Use one draw for all arms: differences between arms are then paired.

    Returns
    -------
    (R, S) float64 array
        How often each speaker stands in each resample; rows sum to S.

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
    """Give one confusion matrix a speaker, columns as in `metrics.confusion`.

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


def resample_means(
    values: np.ndarray, speakers: np.ndarray, *, draws: np.ndarray
) -> np.ndarray:
    """Compute the mean over the pooled utterances of every resample.

    Parameters
    ----------
    values : (N, M) array
        M quantities of every utterance.
    speakers : (N,) int array
        Speaker of each utterance.
    draws : (R, S) array
        From `draw_speakers`.

    Returns
    -------
    (R, M) float64 array
        NaN for a resample in which nobody has an utterance.
    """
    n_speakers = draws.shape[1]
    sums = speaker_sums(values, speakers, n_speakers=n_speakers)  # (S, M)
    sizes = np.bincount(speakers, minlength=n_speakers).astype(np.float64)  # (S,)
    with np.errstate(invalid="ignore"):
        return resample_sums(sums, draws) / resample_sums(sizes, draws)[:, None]


def percentile_interval(
    value: float, samples: np.ndarray, *, level: float = 0.95
) -> dict[str, float]:
    """Give the value on all utterances with its percentile interval.

    With few speakers (ten, say) percentile intervals are somewhat too narrow; read an
    end close to zero with care.

    Parameters
    ----------
    value : float
        The metric on all utterances, not the mean of the resamples.
    samples : (R,) array
        The metric in every resample, or the difference of two arms under the same
        draws; NaN (undefined in a resample) is left out.
    level : float, default=0.95
        Share of the resamples inside.

    Returns
    -------
    dict
        `mean` (the value), `low`, `high`.

    Raises
    ------
    ValueError
        If no resample defines the metric.
    """
    samples = np.asarray(samples, dtype=np.float64)
    samples = samples[np.isfinite(samples)]
    if not samples.size:
        raise ValueError("the metric is undefined in every resample of the speakers")
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(samples, tails)
    return {"mean": float(value), "low": float(low), "high": float(high)}
