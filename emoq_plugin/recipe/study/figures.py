"""Figures that a study is to reach: conditions and goals that its file names.

They stand in the file before anything is run, so that neither a rate nor a system is
picked by its score.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from emoq_plugin.evaluation.intervals import percentile_interval
from emoq_plugin.evaluation.pooling import total_bits
from emoq_plugin.evaluation.predictions import key_of
from emoq_plugin.evaluation.significance import mean_metrics
from emoq_plugin.recipe.study.config import Figure
from emoq_plugin.recipe.study.experiments import Experiment
from emoq_plugin.routing.systems import CONTINUOUS


def score_figures(
    figures: Sequence[Figure],
    experiment: Experiment,
    unseen: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Give each figure its value, with the interval over speakers.

    Parameters
    ----------
    figures : sequence of Figure
    experiment : Experiment
        Of the main quantizer.
    unseen : sequence of mapping
        See `recipe.study.unseen.unseen_classes`.

    Yields
    ------
    entry : dict
        The fields of `Figure`, ``value`` (mean, low and high, as shares; None where
        its jobs are missing), ``bitrate_bps`` of its conditions, and ``reached`` (None
        without a goal or a value).
    """
    where = (experiment.corpus, experiment.feature)
    beside = [u for u in unseen if (u["corpus"], u["feature"]) == where]
    for figure in figures:
        if figure.unseen:
            value, bits = _of_unseen(figure, beside)
        else:
            value, bits = _of_all(figure, experiment)
        yield asdict(figure) | {
            "value": value,
            "bitrate_bps": bits,
            "reached": _reached(figure, value),
        }


def _key(condition: str) -> str:
    rate, _, system = condition.partition("/")
    return key_of(rate, system or CONTINUOUS)


def _of_all(
    figure: Figure, experiment: Experiment
) -> tuple[dict[str, Any] | None, list[float | None]]:
    keys = [_key(condition) for condition in figure.conditions]
    if not all(key in experiment.sums for key in keys):
        return None, []
    own, *other = (
        mean_metrics(experiment.sums[key], experiment.weights)["macro_f1"]
        for key in keys
    )
    samples = own - other[0] if other else own
    rates = [experiment.bitrate(key) for key in keys]
    value = percentile_interval(float(samples[0]), samples[1:])
    return value, [None if found is None else total_bits(found) for found in rates]


def _of_unseen(
    figure: Figure, found: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any] | None, list[float | None]]:
    kind = "differences" if figure.minus else "conditions"
    for entry in found[0][kind] if found else ():
        pair = [f"{entry['rate']}/{entry['system']}"]
        bits = [entry["bitrate_bps"]]
        if figure.minus:
            pair.append(f"{entry['reference_rate']}/{entry['reference']}")
            bits.append(entry["reference_bitrate_bps"])
        if pair == figure.conditions:
            return entry["unseen"], bits
    return None, []


def _reached(figure: Figure, value: Mapping[str, Any] | None) -> bool | None:
    if value is None or (figure.least is None and figure.low is None):
        return None
    enough = figure.least is None or 100 * value["mean"] >= figure.least
    if figure.low is None:
        return enough
    return enough and value["low"] is not None and 100 * value["low"] > figure.low
