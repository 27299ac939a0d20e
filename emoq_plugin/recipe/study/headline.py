"""The headline of a study: rate saving, the chosen setting, goals, examples."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.intervals import why_no_interval
from emoq_plugin.evaluation.significance import above_zero, compare, with_seeds
from emoq_plugin.recipe.study.experiments import RETRAINED, Experiment, key_of
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.recipe.study.retained import probe_samples, triple
from emoq_plugin.recipe.study.selection import Selection, select
from emoq_plugin.routing.systems import CAPACITY_CONTROL, CONTINUOUS

N_EXAMPLES = 2  # clips of each class


def headline(
    study: Study, group: Sequence[Experiment], *, seconds: float, complete: bool
) -> dict[str, Any]:
    """Return rate saving, choice, goals and examples of one corpus and feature.

    Parameters
    ----------
    study : Study
    group : sequence of Experiment
        The main quantizer first.
    seconds : float
        That all jobs took.
    complete : bool
        No job of the study is missing.
    """
    emoq = select(study, group, study.config.candidates)
    plain = select(study, group, [BALANCED])
    saving = rate_saving(group[0], study.config.emoq)
    selected = emoq and plain and describe_selection(study, emoq, plain)
    goals = [rate_goal(saving), time_goal(seconds)]
    if emoq and selected:
        goals = [*chosen_goals(study, emoq, selected), *goals]
    for goal in goals:
        goal["reached"] &= complete
        goal["aim_reached"] &= complete
    return {
        "rate_saving": saving,
        "selected": selected,
        "examples": examples(study, group[0]),
        "targets": goals,
    }


def rate_saving(main: Experiment, emoq: str) -> dict[str, Any] | None:
    """Find the smallest bitrate at which Emo-Q is as good as the best balanced rate.

    In macro-F1 of retrained heads; bitrates are nominal with the route.
    """

    def scored(system: str) -> list[dict[str, Any]]:
        return [
            {
                "rate": conditions[0].rate,
                "system": system,
                "bitrate_bps": main.total_bitrate(key),
                "macro_f1": with_seeds(main.sums[key], main.weights)["macro_f1"],
            }
            for key, conditions in main.conditions.items()
            if (conditions[0].system, conditions[0].head) == (system, RETRAINED)
        ]

    balanced, routed = scored(BALANCED), scored(emoq)
    if not routed:
        return None
    best = max(balanced, key=lambda condition: condition["macro_f1"]["mean"])
    least = best["macro_f1"]["mean"]
    enough = [
        condition for condition in routed if condition["macro_f1"]["mean"] >= least
    ]
    reached = min(enough, key=lambda condition: condition["bitrate_bps"], default=None)
    return {
        "experiment": main.name,
        "best_balanced": best,
        "emoq": reached,
        "ratio": reached and reached["bitrate_bps"] / best["bitrate_bps"],
    }


def describe_selection(
    study: Study, emoq: Selection, plain: Selection
) -> dict[str, Any]:
    """Score the chosen setting against what it is compared with.

    `difference_to_balanced` and `difference_to_capacity` are at the chosen quantizer
    and rate; `difference_to_best_balanced` is to the balanced setting that the same
    validation speakers chose.
    """
    config, weights, sums = study.config, emoq.main.weights, emoq.sums()
    others = {
        "balanced": emoq.sums(BALANCED),
        "best_balanced": plain.sums(),
        "continuous": emoq.sums(CONTINUOUS),
    }
    if CAPACITY_CONTROL in config.systems:
        others["capacity"] = emoq.sums(CAPACITY_CONTROL)
    differences = {}
    for name, other in others.items():
        found = compare(sums, other, weights)
        differences[f"difference_to_{name}"] = {
            metric: {**found[metric]["difference"], "p": found[metric]["p"]}
            for metric in found
            if not metric.startswith("recall/")
        }
    return {
        "experiment": emoq.main.name,
        "by": "validation speakers of each fold",
        "candidates": [
            {"quantizer": quantizer, "rate": rate, "system": system}
            for quantizer in emoq.experiments
            for rate in study.cheap_rates(emoq.main.feature)
            for system in config.candidates
        ],
        "chosen": _choices(emoq),
        "chosen_balanced": _choices(plain),
        "scores": with_seeds(sums, weights),
        "balanced": with_seeds(others["balanced"], weights),
        "bitrate_bps": emoq.bitrate(),
        "balanced_bitrate_bps": emoq.bitrate(BALANCED),
        **differences,
    }


def _choices(selection: Selection) -> dict[str, Any]:
    return {
        f"{fold}/{seed}": asdict(setting) | {"validation_macro_f1": score}
        for fold, (setting, score) in selection.chosen.items()
        for seed in selection.main.seeds
    }


def _goal(
    what: str,
    must: str,
    aim: str,
    value: Mapping[str, Any] | float | None,
    *,
    reached: bool,
    aim_reached: bool,
    why_open: str | None = None,
) -> dict[str, Any]:
    triple = value if isinstance(value, Mapping) else {"mean": value}
    return {
        "why_open": why_open,
        "what": what,
        "must": must,
        "aim": aim,
        "value": triple["mean"],
        "low": triple.get("low"),
        "high": triple.get("high"),
        "reached": reached,
        "aim_reached": aim_reached,
    }


def chosen_goals(
    study: Study, emoq: Selection, selected: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Set the figures that the chosen setting is to reach beside what it reaches."""
    # Goals that ask for an interval cannot be decided without one.
    alone = why_no_interval(emoq.main.weights.shape[1])
    gain = selected["difference_to_balanced"]["macro_f1"]
    over = selected["difference_to_continuous"]["macro_f1"]["mean"]
    goals = [
        _goal(
            "chosen Emo-Q minus balanced RVQ, macro-F1, same quantizer and rate "
            f"(<= {study.config.select_below:g} bit/s with the route), retrained heads",
            ">= +0.05, interval excludes 0",
            ">= +0.12, above continuous features",
            gain,
            reached=gain["mean"] >= 0.05 and above_zero(gain),
            aim_reached=gain["mean"] >= 0.12 and above_zero(gain) and over > 0,
            why_open=alone,
        )
    ]
    if "difference_to_capacity" in selected:
        above = selected["difference_to_capacity"]["macro_f1"]
        goals.append(
            _goal(
                "chosen Emo-Q minus capacity control, macro-F1, equal rate",
                "> 0, interval excludes 0",
                ">= +0.08",
                above,
                reached=above_zero(above),
                aim_reached=above["mean"] >= 0.08 and above_zero(above),
                why_open=alone,
            )
        )
    change = selected["difference_to_balanced"]["js"]
    fifth = 0.2 * selected["balanced"]["js"]["mean"]
    votes = "votes" if emoq.main.reference.parts else "one-hot labels (no votes)"
    goals.append(
        _goal(
            f"Jensen-Shannon to {votes}, chosen Emo-Q minus balanced RVQ",
            "< 0, interval excludes 0",
            f"<= {-fifth:.4f} (-20 % relative)",
            change,
            reached=above_zero(change, better=False),
            aim_reached=above_zero(change, better=False) and change["mean"] <= -fifth,
            why_open=alone,
        )
    )
    pair = [
        probe_samples(emoq.main, emoq.measures(system), "phone")
        for system in (None, BALANCED)
    ]
    if pair[0] is not None and pair[1] is not None:
        ratio = triple(pair[0] / pair[1])
        goals.append(
            _goal(
                "phone probe of chosen Emo-Q / balanced RVQ, equal rate",
                ">= 0.99",
                ">= 1.03",
                ratio,
                reached=ratio["mean"] >= 0.99,
                aim_reached=ratio["mean"] >= 1.03,
            )
        )
    return goals


def rate_goal(saving: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tell how much of the bitrate Emo-Q needs."""
    ratio = saving and saving["ratio"]
    return _goal(
        "rate at which Emo-Q reaches the best balanced score / rate of balanced",
        "<= 1/2",
        "<= 1/4",
        ratio,
        reached=ratio is not None and ratio <= 1 / 2,
        aim_reached=ratio is not None and ratio <= 1 / 4,
    )


def time_goal(seconds: float) -> dict[str, Any]:
    """Tell how long the study takes on two cores, from the seconds of its jobs."""
    minutes = seconds / 120
    return _goal(
        "all jobs, minutes on two cores",
        "<= 60",
        "<= 20",
        minutes,
        reached=minutes <= 60,
        aim_reached=minutes <= 20,
    )


def examples(study: Study, main: Experiment) -> list[dict[str, Any]]:
    """Show posteriors of a few clips, the most ambiguous of each class first."""
    reference, rates = main.reference, study.cheap_rates(main.feature)
    rate = (rates or study.config.rates_of(main.feature))[-1]
    keys = {CONTINUOUS: key_of(CONTINUOUS, CONTINUOUS)}
    keys |= {system: key_of(rate, system) for system in (BALANCED, study.config.emoq)}
    shown = []
    for label, emotion in enumerate(reference.emotions):
        rows = np.flatnonzero(reference.labels == label)
        order = np.argsort(reference.targets[rows].max(axis=1), kind="stable")
        for row in rows[order][:N_EXAMPLES]:
            posteriors = {
                system: dict(
                    zip(
                        reference.emotions,
                        main.conditions[key][0].posteriors[row].tolist(),
                    )
                )
                for system, key in keys.items()
                if key in main.conditions
            }
            shares = dict(zip(reference.emotions, reference.targets[row].tolist()))
            shown.append(
                {
                    "utterance": main.utterances[row],
                    "emotion": emotion,
                    "rate": rate,
                    "targets": shares,
                    "posteriors": posteriors,
                }
            )
    return shown
