"""The headline of a study: rate saving, the chosen setting, examples."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.pooling import total_bits
from emoq_plugin.evaluation.predictions import RETRAINED, key_of
from emoq_plugin.evaluation.significance import compare, with_seeds
from emoq_plugin.recipe.study.experiments import Experiment
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.recipe.study.retained import probe_samples, triple
from emoq_plugin.recipe.study.selection import Selection, select
from emoq_plugin.routing.systems import CAPACITY_CONTROL, CONTINUOUS

N_EXAMPLES = 2  # clips of each class


def headline(study: Study, group: Sequence[Experiment]) -> dict[str, Any]:
    """Return rate saving, choice and examples of one corpus and feature.

    Parameters
    ----------
    study : Study
    group : sequence of Experiment
        The main quantizer first.
    """
    emoq = select(study, group, study.config.candidates())
    plain = select(study, group, [BALANCED])
    return {
        "rate_saving": rate_saving(group[0], study.config.emoq),
        "selected": describe_selection(study, emoq, plain) if emoq and plain else None,
        "examples": examples(study, group[0]),
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
                "bitrate_bps": total_bits(main.bitrate(key)),
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
    validation speakers chose; `phone_ratio` is the accuracy of the phone probe to that
    of balanced RVQ, where phones are known.
    """
    config, weights, sums = study.config, emoq.main.weights, emoq.sums()
    others = {
        "balanced": emoq.sums(BALANCED),
        "best_balanced": plain.sums(),
        "continuous": emoq.sums(CONTINUOUS),
    }
    quantizers = {setting.quantizer for setting, _ in emoq.chosen.values()}
    if all(CAPACITY_CONTROL in config.systems_of(q) for q in quantizers):
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
            for rate in study.cheap_rates(emoq.main.feature, quantizer)
            for system in config.candidates(quantizer)
        ],
        "chosen": _choices(emoq),
        "chosen_balanced": _choices(plain),
        "scores": with_seeds(sums, weights),
        "balanced": with_seeds(others["balanced"], weights),
        "bitrate_bps": emoq.bitrate(),
        "balanced_bitrate_bps": emoq.bitrate(BALANCED),
        "phone_ratio": _phone_ratio(emoq),
        **differences,
    }


def _phone_ratio(emoq: Selection) -> dict[str, Any] | None:
    own, balanced = (
        probe_samples(emoq.main, emoq.measures(system), "phone")
        for system in (None, BALANCED)
    )
    return None if own is None or balanced is None else triple(own / balanced)


def _choices(selection: Selection) -> dict[str, Any]:
    return {
        f"{fold}/{seed}": asdict(setting) | {"validation_macro_f1": score}
        for fold, (setting, score) in selection.chosen.items()
        for seed in selection.main.seeds
    }


def examples(study: Study, main: Experiment) -> list[dict[str, Any]]:
    """Show posteriors of a few clips, the most ambiguous of each class first."""
    reference, quantizer = main.reference, main.quantizer
    rates = study.cheap_rates(main.feature, quantizer)
    rate = (rates or study.config.rates_of(main.feature, quantizer))[-1]
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
