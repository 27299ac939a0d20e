"""Classes that nothing was learned from: what systems keep of them.

Each class is left out in turn of codebooks, clip codes and routers, and heads learn
from all classes. Scores are means over the classes that are left out: macro-F1 over
all classes, F1 of the class that is left out, mean F1 of the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.intervals import percentile_interval
from emoq_plugin.evaluation.pooling import total_bits
from emoq_plugin.evaluation.predictions import RETRAINED, key_of
from emoq_plugin.recipe.study.experiments import Experiment
from emoq_plugin.routing.systems import CONTINUOUS, TWO_SCALE, System

# Mean over all classes, of the class that is left out, mean over the others.
KINDS = ("all", "unseen", "seen")


def unseen_classes(
    experiments: Sequence[Experiment], emoq: str
) -> Iterator[dict[str, Any]]:
    """Score what is kept of classes that nothing was learned from.

    Parameters
    ----------
    experiments : sequence of Experiment
        One for each class that is left out, of any corpora and features.
    emoq : str
        The system that represents Emo-Q.

    Yields
    ------
    unseen : dict
        ``corpus``, ``feature``, ``classes``, ``seeds``, ``conditions`` (each with
        ``by_class``) and ``differences`` of two-scale systems to Emo-Q and to balanced
        codes with a label beside, paired and with intervals over speakers.
    """
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for experiment in experiments:
        key = (experiment.corpus, experiment.feature)
        groups.setdefault(key, []).append(experiment)
    for (corpus, feature), group in groups.items():
        # A class that lacks folds is among what is missing: its speakers are others.
        most = max((e.utterances for e in group), key=len)
        whole = [e for e in group if e.utterances == most]
        yield {"corpus": corpus, "feature": feature} | _unseen(whole, emoq)


def _unseen(experiments: Sequence[Experiment], emoq: str) -> dict[str, Any]:
    samples = {
        key: {e.left_out: _samples(e, key, e.left_out) for e in experiments}
        for key in experiments[0].conditions
        if key.endswith(f"/{RETRAINED}")
        and all(key in e.conditions for e in experiments)
    }
    bits = {key: _bits(experiments, key) for key in samples}
    first = experiments[0].conditions
    return {
        "classes": [e.left_out for e in experiments],
        "seeds": experiments[0].seeds,
        "conditions": [
            {
                "rate": first[key][0].rate,
                "system": first[key][0].system,
                "bitrate_bps": bits[key],
                "by_class": {
                    left_out: {kind: float(found[kind][0]) for kind in KINDS}
                    for left_out, found in by_class.items()
                },
                **_triples(_mean(by_class)),
            }
            for key, by_class in samples.items()
        ],
        "differences": list(_differences(first, samples, bits, emoq)),
    }


def _samples(experiment: Experiment, key: str, left_out: str) -> dict[str, np.ndarray]:
    """Return each of `KINDS` for every count of speakers, (1 + R,), over seeds."""
    f1 = [sums.f1(experiment.weights) for sums in experiment.sums[key]]
    by_class = {name: np.mean([f[name] for f in f1], axis=0) for name in f1[0]}
    seen = [values for name, values in by_class.items() if name != left_out]
    return {
        "all": np.nanmean([*by_class.values()], axis=0),
        "unseen": by_class[left_out],
        "seen": np.nanmean(seen, axis=0),
    }


def _mean(by_class: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {
        kind: np.nanmean([found[kind] for found in by_class.values()], axis=0)
        for kind in KINDS
    }


def _triples(samples: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {k: percentile_interval(float(v[0]), v[1:]) for k, v in samples.items()}


def _bits(experiments: Sequence[Experiment], key: str) -> float | None:
    rates = [experiment.bitrate(key) for experiment in experiments]
    if any(found is None for found in rates):
        return None
    return float(np.mean([total_bits(found) for found in rates]))


def _differences(
    conditions: Mapping[str, Any],
    samples: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    bits: Mapping[str, float | None],
    emoq: str,
) -> Iterator[dict[str, Any]]:
    """Compare two-scale systems with others at their rate of frames, and at more bits.

    The latter is the lowest rate at which the other has at least as many bits.
    """
    systems = {c[0].system for c in conditions.values()} - {CONTINUOUS}
    labelled = [
        name
        for name in systems
        if (parsed := System.parse(name)).beside and parsed.expert_set == BALANCED
    ]
    for key, entry in conditions.items():
        rate, system = entry[0].rate, entry[0].system
        if key not in samples or system == CONTINUOUS:
            continue
        if System.parse(system).role != TWO_SCALE:
            continue
        for other in (emoq, *sorted(labelled)):
            keys = {k for k in samples if k.split("/")[1] == other}
            dearer = {k for k in keys if bits[k] >= bits[key]}
            chosen = [key_of(rate, other), min(dearer, key=bits.get, default=None)]
            for reference in dict.fromkeys(k for k in chosen if k in keys):
                own, its = _mean(samples[key]), _mean(samples[reference])
                yield {
                    "rate": rate,
                    "system": system,
                    "bitrate_bps": bits[key],
                    "reference": other,
                    "reference_rate": conditions[reference][0].rate,
                    "reference_bitrate_bps": bits[reference],
                    **_triples({kind: own[kind] - its[kind] for kind in KINDS}),
                }
