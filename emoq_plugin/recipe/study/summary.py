"""From the finished jobs of a study to `conditions.jsonl` and `summary.json`."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.intervals import why_no_interval
from emoq_plugin.evaluation.pooling import Condition, Reference, sum_by_speaker
from emoq_plugin.evaluation.significance import adjust, compare, with_seeds
from emoq_plugin.files import atomic_write, read_json, write_json
from emoq_plugin.recipe.study.experiments import (
    RETRAINED,
    Experiment,
    key_of,
    load_experiments,
)
from emoq_plugin.recipe.study.headline import CAPACITY_CONTROL, headline
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.recipe.study.retained import controls, measure_conditions
from emoq_plugin.routing.systems import CONTINUOUS, WITH_ROUTE_OF, is_control

COMPARED = ("macro_f1", "js", "recall")


def aggregate(
    study: Study, *, synthetic: bool, command: str, environment: Mapping[str, str]
) -> None:
    """Write `conditions.jsonl` and `summary.json` from the jobs that are finished.

    Parameters
    ----------
    study : Study
    synthetic : bool
        No human spoke the corpus.
    command : str
        Shown with the numbers.
    environment : mapping of str to str
        Versions.

    Raises
    ------
    ValueError
        If no job is finished.
    """
    experiments, missing = load_experiments(study)
    missing += [
        {"job": f"all of test set {corpus}", "why": why}
        for corpus, why in study.left_out.items()
    ]
    for entry in missing:
        logging.warning("missing: %s %s", entry["job"], entry["why"])
    markers = dict.fromkeys(
        study.marker(job) for e in experiments for job in e.jobs.values()
    )
    seconds = sum(read_json(marker)["seconds"] for marker in markers)
    n_conditions = 0
    with atomic_write(study.output / "conditions.jsonl") as stream:
        for line in chain.from_iterable(map(condition_lines, experiments)):
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            n_conditions += 1
    order = list(study.config.quantizers)
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for experiment in sorted(experiments, key=lambda e: order.index(e.quantizer)):
        groups.setdefault((experiment.corpus, experiment.feature), []).append(
            experiment
        )
    heads = [
        {"corpus": corpus, "feature": feature}
        | headline(study, group, seconds=seconds, complete=not missing)
        for (corpus, feature), group in groups.items()
    ]

    def every(section: Callable[[Experiment], Iterable]) -> list:
        return list(chain.from_iterable(map(section, experiments)))

    emoq = study.config.emoq
    summary = {
        "study": study.name,
        "corpus": study.corpus,
        "synthetic": synthetic,
        "emotions": study.classes(),
        "command": command,
        "environment": dict(environment),
        "config": asdict(study.config),
        "jobs": len(study.jobs()),
        "conditions": n_conditions,
        "seconds": seconds,
        "missing": missing,
        "experiments": [experiment_facts(e) for e in experiments],
        "scores": every(score_conditions),
        "measures": every(measure_conditions),
        "comparisons": adjust(every(lambda e: comparisons(e, emoq))),
        "controls": every(controls),
        **{k: v for k, v in heads[0].items() if k not in ("corpus", "feature")},
        "further": heads[1:],
    }
    write_json(study.output / "summary.json", summary)
    logging.info(
        "%s: %d conditions of %d of %d jobs",
        study.output / "summary.json",
        n_conditions,
        len(markers),
        len(study.jobs()),
    )


def experiment_facts(experiment: Experiment) -> dict[str, Any]:
    """Tell what an experiment is."""
    return {
        "name": experiment.name,
        "corpus": experiment.corpus,
        "feature": experiment.feature,
        "quantizer": experiment.quantizer,
        "seeds": experiment.seeds,
        "folds": experiment.folds,
        "n_utterances": len(experiment.utterances),
        "n_speakers": experiment.reference.draws.shape[1],
        "no_interval": why_no_interval(experiment.reference.draws.shape[1]),
        "soft_targets": "votes" if experiment.reference.parts else "one-hot",
        "leakage": experiment.notes,
    }


def score_conditions(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Score every rate, system and head, in all and by ambiguity."""
    reference = experiment.reference
    for key, conditions in experiment.conditions.items():
        ambiguity = {}
        for part, rows in reference.parts.items():
            sums = [sum_by_speaker(c.posteriors, reference, rows) for c in conditions]
            table = with_seeds(sums, experiment.weights)
            ambiguity[part] = {"n": int(rows.sum()), **table}
        yield {
            "experiment": experiment.name,
            "rate": conditions[0].rate,
            "system": conditions[0].system,
            "head": conditions[0].head,
            "control": is_control(conditions[0].system),
            "bitrate_bps": experiment.bitrate(key),
            "metrics": with_seeds(experiment.sums[key], experiment.weights),
            "ambiguity": ambiguity or None,
            "confusion": confusion(conditions, reference).tolist(),
        }


def confusion(conditions: Sequence[Condition], reference: Reference) -> np.ndarray:
    """Count true against predicted class over all seeds, (C, C)."""
    counts = np.zeros((len(reference.emotions),) * 2, dtype=np.int64)
    rows = reference.labels >= 0
    for condition in conditions:
        guess = condition.posteriors[rows].argmax(axis=1)
        np.add.at(counts, (reference.labels[rows], guess), 1)
    return counts


def comparisons(experiment: Experiment, emoq: str) -> list[dict[str, Any]]:
    """Compare systems with balanced, capacity, continuous, and codes with routes.

    A family, within which p-values are adjusted, holds the systems of one rate (or the
    rates of one pair of systems) under one metric; the recalls of all emotions are one.
    """
    heads = [key for key in experiment.conditions if key.endswith(f"/{RETRAINED}")]
    conditions = [experiment.conditions[key][0] for key in heads]
    rates = [r for r in dict.fromkeys(c.rate for c in conditions) if r != CONTINUOUS]
    systems = list(dict.fromkeys(c.system for c in conditions))
    routed = [
        a for a in systems if a not in (BALANCED, CONTINUOUS) and not is_control(a)
    ]
    beside = [system for system in systems if system.endswith(f"{WITH_ROUTE_OF}{emoq}")]
    plan = []
    for rate in rates:
        at_rate = f"{experiment.name}, {rate}: systems - "
        plan += [(at_rate + "balanced", rate, system, BALANCED) for system in routed]
        plan += [
            (at_rate + "capacity", rate, system, CAPACITY_CONTROL) for system in routed
        ]
    for system in beside:
        over = f"{experiment.name}: {emoq} - {system}"
        plan += [(over, rate, emoq, system) for rate in rates]
    for system in (BALANCED, emoq):
        over = f"{experiment.name}: {system} - continuous"
        plan += [(over, rate, system, CONTINUOUS) for rate in rates]
    found = []
    for family, rate, system, reference in plan:
        key = key_of(rate, system)
        other = key_of(CONTINUOUS if reference == CONTINUOUS else rate, reference)
        if key not in experiment.sums or other not in experiment.sums:
            continue
        differences = compare(
            experiment.sums[key], experiment.sums[other], experiment.weights
        )
        found += [
            {
                "family": f"{family}, {metric.partition('/')[0]}",
                "experiment": experiment.name,
                "rate": rate,
                "head": RETRAINED,
                "system": system,
                "reference": reference,
                "metric": metric,
                **difference,
            }
            for metric, difference in differences.items()
            if metric.partition("/")[0] in COMPARED
        ]
    return found


def condition_lines(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Yield a line for each rate, system, seed and fold: measures and scores."""
    everyone = np.ones((1, experiment.weights.shape[1]))
    by_condition: dict[tuple[str, str], list[str]] = {}
    for key, conditions in experiment.conditions.items():
        by_condition.setdefault((conditions[0].rate, conditions[0].system), []).append(
            key
        )
    measured = {
        (m["rate"], m["system"], m["seed"], m["fold"]): m for m in experiment.measures
    }
    for (rate, system), keys in by_condition.items():
        for number, seed in enumerate(experiment.seeds):
            for fold in experiment.folds:
                line = measured.get((rate, system, seed, fold))
                tested = experiment.rows_of(fold)
                heads = {}
                for key in keys:
                    condition = experiment.conditions[key][number]
                    sums = sum_by_speaker(
                        condition.posteriors, experiment.reference, tested
                    )
                    found = sums.metrics(everyone)
                    heads[condition.head] = {
                        name: float(value[0])
                        for name, value in found.items()
                        if np.isfinite(value[0])
                    }
                yield {
                    "experiment": experiment.name,
                    "corpus": experiment.corpus,
                    "feature": experiment.feature,
                    "quantizer": experiment.quantizer,
                    "seed": seed,
                    "fold": fold,
                    "rate": rate,
                    "system": system,
                    "heads": heads,
                    "measures": line,
                }
