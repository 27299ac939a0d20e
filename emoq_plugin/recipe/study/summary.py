"""From the finished jobs of a study to `cells.jsonl` and `summary.json`."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from emoq_plugin.evaluation.intervals import why_no_interval
from emoq_plugin.evaluation.results import Cell, Reference, sum_by_speaker
from emoq_plugin.evaluation.significance import adjust, compare, with_seeds
from emoq_plugin.files import atomic_write, read_json, write_json
from emoq_plugin.recipe.study.headline import CAPACITY_CONTROL, headline
from emoq_plugin.recipe.study.plan import BALANCED, Study
from emoq_plugin.recipe.study.pooling import (
    RETRAINED,
    Experiment,
    key_of,
    load_experiments,
)
from emoq_plugin.recipe.study.retained import controls, measure_cells
from emoq_plugin.routing.systems import CONTINUOUS, WITH_ROUTE_OF, is_control

COMPARED = ("macro_f1", "js", "recall")


def aggregate(
    study: Study, *, synthetic: bool, command: str, environment: Mapping[str, str]
) -> None:
    """Write `cells.jsonl` and `summary.json` from the jobs that are finished.

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
    n_cells = 0
    with atomic_write(study.output / "cells.jsonl") as stream:
        for line in chain.from_iterable(map(cell_lines, experiments)):
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            n_cells += 1
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
        "cells": n_cells,
        "seconds": seconds,
        "missing": missing,
        "experiments": [experiment_facts(e) for e in experiments],
        "scores": every(score_cells),
        "measures": every(measure_cells),
        "comparisons": adjust(every(lambda e: comparisons(e, emoq))),
        "controls": every(controls),
        **{k: v for k, v in heads[0].items() if k not in ("corpus", "feature")},
        "further": heads[1:],
    }
    write_json(study.output / "summary.json", summary)
    logging.info(
        "%s: %d cells of %d of %d jobs",
        study.output / "summary.json",
        n_cells,
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


def score_cells(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Score every rate, arm and head, in all and by ambiguity."""
    reference = experiment.reference
    for key, cells in experiment.cells.items():
        ambiguity = {}
        for part, rows in reference.parts.items():
            sums = [sum_by_speaker(c.posteriors, reference, rows) for c in cells]
            table = with_seeds(sums, experiment.weights)
            ambiguity[part] = {"n": int(rows.sum()), **table}
        yield {
            "experiment": experiment.name,
            "rate": cells[0].rate,
            "arm": cells[0].arm,
            "head": cells[0].head,
            "control": is_control(cells[0].arm),
            "bitrate_bps": experiment.bitrate(key),
            "metrics": with_seeds(experiment.sums[key], experiment.weights),
            "ambiguity": ambiguity or None,
            "confusion": confusion(cells, reference).tolist(),
        }


def confusion(cells: Sequence[Cell], reference: Reference) -> np.ndarray:
    """Count true against predicted class over all seeds, (C, C)."""
    counts = np.zeros((len(reference.emotions),) * 2, dtype=np.int64)
    rows = reference.labels >= 0
    for cell in cells:
        guess = cell.posteriors[rows].argmax(axis=1)
        np.add.at(counts, (reference.labels[rows], guess), 1)
    return counts


def comparisons(experiment: Experiment, emoq: str) -> list[dict[str, Any]]:
    """Compare arms with balanced, capacity, continuous, and codes with routes.

    A family, within which p-values are adjusted, holds the arms of one rate (or the
    rates of one pair of arms) under one metric; the recalls of all emotions are one.
    """
    heads = [key for key in experiment.cells if key.endswith(f"/{RETRAINED}")]
    cells = [experiment.cells[key][0] for key in heads]
    rates = [r for r in dict.fromkeys(c.rate for c in cells) if r != CONTINUOUS]
    arms = list(dict.fromkeys(c.arm for c in cells))
    routed = [a for a in arms if a not in (BALANCED, CONTINUOUS) and not is_control(a)]
    beside = [arm for arm in arms if arm.endswith(f"{WITH_ROUTE_OF}{emoq}")]
    plan = []
    for rate in rates:
        at_rate = f"{experiment.name}, {rate}: arms - "
        plan += [(at_rate + "balanced", rate, arm, BALANCED) for arm in routed]
        plan += [(at_rate + "capacity", rate, arm, CAPACITY_CONTROL) for arm in routed]
    for arm in beside:
        over = f"{experiment.name}: {emoq} - {arm}"
        plan += [(over, rate, emoq, arm) for rate in rates]
    for arm in (BALANCED, emoq):
        over = f"{experiment.name}: {arm} - continuous"
        plan += [(over, rate, arm, CONTINUOUS) for rate in rates]
    found = []
    for family, rate, arm, reference in plan:
        key = key_of(rate, arm)
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
                "arm": arm,
                "reference": reference,
                "metric": metric,
                **difference,
            }
            for metric, difference in differences.items()
            if metric.partition("/")[0] in COMPARED
        ]
    return found


def cell_lines(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Give a line for each rate, arm, seed and fold: its measures and head scores."""
    everyone = np.ones((1, experiment.weights.shape[1]))
    by_cell: dict[tuple[str, str], list[str]] = {}
    for key, cells in experiment.cells.items():
        by_cell.setdefault((cells[0].rate, cells[0].arm), []).append(key)
    measured = {
        (m["rate"], m["arm"], m["seed"], m["fold"]): m for m in experiment.measures
    }
    for (rate, arm), keys in by_cell.items():
        for number, seed in enumerate(experiment.seeds):
            for fold in experiment.folds:
                line = measured.get((rate, arm, seed, fold))
                tested = experiment.rows_of(fold)
                heads = {}
                for key in keys:
                    cell = experiment.cells[key][number]
                    sums = sum_by_speaker(cell.posteriors, experiment.reference, tested)
                    found = sums.metrics(everyone)
                    heads[cell.head] = {
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
                    "arm": arm,
                    "heads": heads,
                    "measures": line,
                }
