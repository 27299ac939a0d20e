"""Metrics of several seeds, paired differences with tests over speakers, Holm.

Intervals come from the bootstrap over speakers (`ser.intervals`), p-values from a
paired randomisation test: if two systems are equally good, their predictions for a
speaker may be exchanged (Noreen 1989, "Computer-intensive methods for testing
hypotheses"; Yeh 2000, "More accurate tests for the statistical significance of result
differences"). Whole speakers are exchanged, in all seeds together, so utterances of a
speaker and seeds of a system do not count as independent. With few speakers every
exchange is tried and the test is exact; its smallest p-value is 2 / 2^S. One speaker
cannot be tested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from emoq_plugin.evaluation.intervals import SpeakerSums, intervals, why_no_interval
from emoq_plugin.evaluation.results import Comparison

# Up to this many speakers all exchanges are tried, above it this many random ones.
EXACT_SPEAKERS = 12
N_EXCHANGES = 10_000
# Rounding does not part an exchange from the observed order that it equals.
TOLERANCE = 1e-12


def mean_metrics(
    seeds: Sequence[SpeakerSums], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Average every metric over seeds, within each way of counting the speakers.

    Parameters
    ----------
    seeds : sequence of SpeakerSums
        One for each seed, of the same utterances.
    weights : (R, S) array

    Returns
    -------
    dict of str to (R,) float64 array
        See `SpeakerSums.metrics`.
    """
    found = [sums.metrics(weights) for sums in seeds]
    return {name: np.mean([m[name] for m in found], axis=0) for name in found[0]}


def with_seeds(seeds: Sequence[SpeakerSums], weights: np.ndarray) -> dict[str, Any]:
    """Return each metric as `{"mean", "low", "high", "by_seed"}`.

    Parameters
    ----------
    seeds : sequence of SpeakerSums
    weights : (1 + R, S) array
        From `with_everyone`.
    """
    table = intervals(mean_metrics(seeds, weights))
    each = [sums.metrics(weights[:1]) for sums in seeds]
    for name, triple in table.items():
        if name == "recall":
            for emotion, entry in triple.items():
                entry["by_seed"] = [float(m[f"recall/{emotion}"][0]) for m in each]
        else:
            triple["by_seed"] = [float(m[name][0]) for m in each]
    return table


def exchanges(n_speakers: int, *, seed: int = 0) -> np.ndarray:
    """Return the ways of exchanging two systems: (P, S), 0 keeps and 1 exchanges.

    The first row keeps all.
    """
    if n_speakers <= EXACT_SPEAKERS:
        numbers = np.arange(2**n_speakers)
        return (numbers[:, None] >> np.arange(n_speakers) & 1).astype(np.float64)
    random = np.random.default_rng(seed).integers(2, size=(N_EXCHANGES, n_speakers))
    # The observed order is one of the ways (Phipson and Smyth 2010): p is never zero.
    random[0] = 0
    return random.astype(np.float64)


def exchange_test(
    system: Sequence[SpeakerSums], reference: Sequence[SpeakerSums], *, seed: int = 0
) -> dict[str, float]:
    """Return the two-sided p-value of the difference of two systems, for each metric.

    Parameters
    ----------
    system, reference : sequence of SpeakerSums
        One for each seed, the same speakers.
    seed : int, default=0
        Of the random exchanges where there are many speakers.

    Returns
    -------
    dict of str to float
        Share of the exchanges whose absolute difference is at least the observed one.
        NaN where a metric is undefined.
    """
    both = [a.beside(b) for a, b in zip(system, reference, strict=True)]
    flips = exchanges(len(system[0].sizes), seed=seed)
    one = mean_metrics(both, np.concatenate([1 - flips, flips], axis=1))
    other = mean_metrics(both, np.concatenate([flips, 1 - flips], axis=1))
    p_values = {}
    for name in one:
        size = np.abs(one[name] - other[name])
        size = size[np.isfinite(size)] if np.isfinite(size[0]) else size[:1]
        p_values[name] = float(np.mean(size >= size[0] - TOLERANCE))
        if not np.isfinite(size[0]):
            p_values[name] = float("nan")
    return p_values


def compare(
    system: Sequence[SpeakerSums], reference: Sequence[SpeakerSums], weights: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Return the paired difference of two systems in each metric.

    Parameters
    ----------
    system, reference : sequence of SpeakerSums
    weights : (1 + R, S) array
        From `with_everyone`; common to both systems.

    Returns
    -------
    dict of str to dict
        By metric, `recall/<class>` included: `difference` (`mean`, `low`, `high`) and
        `p`, which is None with one speaker. A metric that is undefined on all speakers
        together is left out.
    """
    one, other = mean_metrics(system, weights), mean_metrics(reference, weights)
    table = intervals({name: one[name] - other[name] for name in one})
    recalls = table.pop("recall", {})
    table |= {f"recall/{emotion}": triple for emotion, triple in recalls.items()}
    alone = why_no_interval(len(system[0].sizes))
    p_values = {} if alone else exchange_test(system, reference)
    return {
        name: {"difference": difference, "p": p_values.get(name)}
        for name, difference in table.items()
    }


def above_zero(difference: Mapping[str, Any] | None, *, better: bool = True) -> bool:
    """Return whether an interval lies above zero (below, where lower is better)."""
    if difference is None or difference["low"] is None or difference["high"] is None:
        return False
    return difference["low"] > 0 if better else difference["high"] < 0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of a family so that any false claim has at most the error rate.

    The k-th smallest of n counts ``n - k + 1`` times, never less than those before it
    (Holm 1979, "A simple sequentially rejective multiple test procedure").

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, n in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[n]))
        adjusted[n] = float(largest)
    return adjusted


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Set `p_holm` of comparisons, adjusted within each `family`.

    None where there is no `p`.
    """
    families: dict[str, list[int]] = {}
    for n, comparison in enumerate(comparisons):
        if comparison.p is not None:
            families.setdefault(comparison.family, []).append(n)
    adjusted: dict[int, float] = {}
    for rows in families.values():
        adjusted |= zip(rows, holm([comparisons[n].p for n in rows]))
    return [replace(c, p_holm=adjusted.get(n)) for n, c in enumerate(comparisons)]
