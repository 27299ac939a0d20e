"""From the finished jobs of a study to `conditions.jsonl` and `summary.json`."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.answers import best_systems
from emoq_plugin.evaluation.predictions import RETRAINED, key_of
from emoq_plugin.evaluation.reference import sum_by_speaker
from emoq_plugin.evaluation.results import Comparison, Results
from emoq_plugin.evaluation.scoring import describe, describe_interval, score_conditions
from emoq_plugin.evaluation.significance import adjust, compare
from emoq_plugin.files import atomic_write, read_json
from emoq_plugin.recipe.study.config import Figure
from emoq_plugin.recipe.study.experiments import Experiment, load_experiments
from emoq_plugin.recipe.study.figures import score_figures
from emoq_plugin.recipe.study.headline import headline
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.recipe.study.retained import controls, measure_conditions
from emoq_plugin.recipe.study.unseen import unseen_classes
from emoq_plugin.routing.systems import (
    CAPACITY_CONTROL,
    CONTINUOUS,
    WITH,
    is_control,
)

SUMMARY = "summary.json"
CONDITIONS = "conditions.jsonl"
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
    loaded, missing = load_experiments(study)
    experiments = [e for e in loaded if not e.left_out]
    missing += [
        {"job": f"all of test set {corpus}", "why": why}
        for corpus, why in study.left_out.items()
    ]
    for entry in missing:
        logging.warning("missing: %s %s", entry["job"], entry["why"])
    markers = dict.fromkeys(
        study.marker(job) for e in loaded for job in e.jobs.values()
    )
    n_conditions = _write_conditions(study, experiments)

    def every[T](section: Callable[[Experiment], Iterable[T]]) -> list[T]:
        return list(chain.from_iterable(map(section, experiments)))

    first, *further = headlines(study, experiments)
    emoq = study.config.emoq
    unseen = list(unseen_classes([e for e in loaded if e.left_out], emoq))
    figures = [Figure(**entry) for entry in study.config.figures]
    Results(
        name=study.name,
        corpus=study.corpus,
        synthetic=synthetic,
        emotions=study.classes(),
        experiments=[
            describe(
                experiment,
                experiment.corpus,
                feature=experiment.feature,
                quantizer=experiment.quantizer,
                leakage=experiment.leakage,
            )
            for experiment in experiments
        ],
        scores=every(score_conditions),
        comparisons=adjust(every(lambda e: comparisons(e, emoq))),
        best=every(best_systems),
        command=command,
        environment=dict(environment),
        config=asdict(study.config),
        interval=describe_interval(experiments[0], seed=0),
        jobs=len(study.jobs()),
        conditions=n_conditions,
        seconds=sum(read_json(marker)["seconds"] for marker in markers),
        missing=missing,
        measures=every(measure_conditions),
        controls=every(controls),
        unseen=unseen,
        figures=list(score_figures(figures, experiments[0], unseen)),
        **{k: v for k, v in first.items() if k not in ("corpus", "feature")},
        further=further,
    ).write(study.output / SUMMARY)
    logging.info(
        "%s: %d conditions of %d of %d jobs",
        study.output / SUMMARY,
        n_conditions,
        len(markers),
        len(study.jobs()),
    )


def _write_conditions(study: Study, experiments: Iterable[Experiment]) -> int:
    """Write `conditions.jsonl`; return the number of its lines."""
    number = 0
    with atomic_write(study.output / CONDITIONS) as stream:
        for line in chain.from_iterable(map(condition_lines, experiments)):
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            number += 1
    return number


def headlines(study: Study, experiments: Iterable[Experiment]) -> list[dict[str, Any]]:
    """Return a headline for each corpus and feature, the main quantizer first."""
    order = list(study.config.quantizers)
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for experiment in sorted(experiments, key=lambda e: order.index(e.quantizer)):
        groups.setdefault((experiment.corpus, experiment.feature), []).append(
            experiment
        )
    return [
        {"corpus": corpus, "feature": feature} | headline(study, group)
        for (corpus, feature), group in groups.items()
    ]


def comparisons(experiment: Experiment, emoq: str) -> list[Comparison]:
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
    beside = [system for system in systems if system.endswith(f"{WITH}{emoq}")]
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
            Comparison(
                family=f"{family}, {metric.partition('/')[0]}",
                experiment=experiment.name,
                rate=rate,
                head=RETRAINED,
                system=system,
                reference=reference,
                metric=metric,
                **difference,
            )
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
