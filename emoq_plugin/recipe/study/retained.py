"""What units retain beside emotion: measures over folds, and relative losses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from emoq_plugin.evaluation.intervals import (
    draw_speakers,
    means_of_sums,
    percentile_interval,
    speaker_sums,
)
from emoq_plugin.evaluation.predictions import key_of
from emoq_plugin.evaluation.significance import mean_metrics
from emoq_plugin.recipe.study.experiments import Experiment
from emoq_plugin.routing.systems import CONTINUOUS


def over_folds(lines: Sequence[Mapping[str, Any]]) -> Any:
    """Average nested numbers over seeds, then folds; intervals by resampling folds.

    Parameters
    ----------
    lines : sequence of mapping
        Of one rate and system, with `fold`.

    Returns
    -------
    values : nested
        With `{"mean", "low", "high"}` for each number; the interval is null where a
        single fold defines it.
    """
    found: dict[tuple, dict[str, list[float]]] = {}
    for line in lines:
        rest = {k: v for k, v in line.items() if k not in ("fold", "seed")}
        for path, number in _leaves(rest):
            found.setdefault(path, {}).setdefault(line["fold"], []).append(number)
    triples = {}
    for path, folds in found.items():
        values = np.array([np.mean(numbers) for numbers in folds.values()])
        triples[path] = {"mean": float(values.mean()), "low": None, "high": None}
        if len(values) > 1:
            samples = draw_speakers(len(values)) @ values / len(values)
            triples[path] = percentile_interval(values.mean(), samples)
    return _nested(triples) if triples else {}


def _leaves(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, float]]:
    """Yield the numbers of a nested value with their places."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, number))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def _nested(leaves: Mapping[tuple, Any]) -> Any:
    """Build the nested value whose leaves these are."""
    if () in leaves:
        return leaves[()]
    heads = list(dict.fromkeys(path[0] for path in leaves))
    parts = {
        head: _nested({p[1:]: v for p, v in leaves.items() if p[0] == head})
        for head in heads
    }
    return list(parts.values()) if isinstance(heads[0], int) else parts


def probe_samples(
    experiment: Experiment, lines: Sequence[Mapping[str, Any]], probe: str
) -> np.ndarray | None:
    """Return the accuracy of the phone or speaker probe for every count of speakers.

    Parameters
    ----------
    experiment : Experiment
        Whose clips and speakers these are.
    lines : sequence of mapping
        Of measures.jsonl, one condition in all its folds and seeds.
    probe : {"phone", "speaker"}

    Returns
    -------
    accuracy : (1 + R,) array or None
        Averaged over seeds; None where the condition was not probed, or no clip could
        be (all test clips have one text).
    """
    weights = experiment.weights
    row = {utterance: n for n, utterance in enumerate(experiment.utterances)}
    by_seed: dict[int, np.ndarray] = {}
    for line in lines:
        if (entry := line.get(probe)) and entry["utterances"]:
            right = entry["correct"]
            total = entry.get("total", [1] * len(right))
            speakers = [
                experiment.reference.speakers[row[u]] for u in entry["utterances"]
            ]
            sums = speaker_sums(
                np.stack([right, total], axis=1),
                np.array(speakers),
                n_speakers=weights.shape[1],
            )
            by_seed[line["seed"]] = by_seed.get(line["seed"], 0) + sums
    if not by_seed:
        return None
    accuracies = [means_of_sums(s[:, :1], s[:, 1], weights) for s in by_seed.values()]
    return np.mean(accuracies, axis=0)[:, 0]


def chance_of(experiment: Experiment, probe: str) -> float:
    """Return the accuracy of a probe that has nothing to go by.

    Phones: as measured, that of the most frequent one. Speakers: one of all.
    """
    if probe == "speaker":
        return 1 / experiment.n_identities
    found = [line[probe]["chance"] for line in experiment.measures if line.get(probe)]
    return float(np.mean(found))


def relative_losses(experiment: Experiment) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the share above chance that units lose: emotion, phone, speaker.

    ``1 - (score - chance) / (continuous - chance)`` in every resample of the speakers;
    emotion is the UAR of the retrained head, whose chance is one of all classes.
    """
    scores: dict[str, dict[tuple[str, str], np.ndarray]] = {}
    chances = {"emotion": 1 / len(experiment.reference.classes)}
    for pair, lines in experiment.measured().items():
        sums = experiment.sums.get(key_of(*pair))
        if sums:
            uar = mean_metrics(sums, experiment.weights)["uar"]
            scores.setdefault("emotion", {})[pair] = uar
        for probe in ("phone", "speaker"):
            accuracy = probe_samples(experiment, lines, probe)
            if accuracy is not None:
                scores.setdefault(probe, {})[pair] = accuracy
                chances[probe] = chance_of(experiment, probe)
    losses: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for what, conditions in scores.items():
        bound = conditions.get((CONTINUOUS, CONTINUOUS))
        for pair, score in conditions.items():
            if bound is not None and pair[0] != CONTINUOUS:
                above = (score - chances[what]) / (bound - chances[what])
                losses.setdefault(pair, {})[what] = 1 - above
    return losses


def controls(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Compare the relative losses of emotion with those of phones and speakers."""
    for (rate, system), loss in relative_losses(experiment).items():
        entry = {f"{what}_loss": triple(samples) for what, samples in loss.items()}
        for other in ("phone", "speaker"):
            if "emotion" in loss and other in loss:
                more = loss["emotion"] - loss[other]
                entry[f"emotion_minus_{other}"] = triple(more)
        yield {"experiment": experiment.name, "rate": rate, "system": system, **entry}


def measure_conditions(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Average the measures of every rate and system."""
    for (rate, system), lines in experiment.measured().items():
        probes = {}
        for probe in ("phone", "speaker"):
            accuracy = probe_samples(experiment, lines, probe)
            if accuracy is not None:
                probes[probe] = {"accuracy": triple(accuracy)}
                probes[probe]["chance"] = chance_of(experiment, probe)
        # Bits of folds are not averaged but summed, with the scores.
        plain = ("rate", "system", "phone", "speaker", "bitrate_bps")
        bare = [{k: v for k, v in x.items() if k not in plain} for x in lines]
        yield {
            "experiment": experiment.name,
            "rate": rate,
            "system": system,
            "values": over_folds(bare) | probes,
        }


def triple(samples: np.ndarray) -> dict[str, float]:
    """Return value and interval of a metric whose first sample counts everyone once."""
    return percentile_interval(float(samples[0]), samples[1:])
