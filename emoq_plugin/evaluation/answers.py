"""What each rate comes to: the best system of each kind, and how far they differ.

A kind (Emo-Q, two-scale, capacity control) has several systems. Taking the one with the
highest test score would flatter it, so each test fold takes the one that is best on the
other test folds: no clip has a part in the choice of the system that it is scored with.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from emoq_plugin.evaluation.intervals import percentile_interval, speaker_confusions
from emoq_plugin.evaluation.metrics import scores_of_confusion
from emoq_plugin.evaluation.pooling import Pool, total_bits
from emoq_plugin.evaluation.predictions import HEADS, key_of
from emoq_plugin.evaluation.reference import sum_by_speaker
from emoq_plugin.evaluation.results import Best, rates_by_bits
from emoq_plugin.evaluation.significance import mean_metrics, with_seeds
from emoq_plugin.routing.systems import (
    CAPACITY_CONTROL,
    CONTINUOUS,
    EMOQ,
    EMOQ_ROLE,
    ROLES,
    TWO_SCALE,
    System,
)

RULE = (
    "where a column has several systems, each test fold takes the one of highest "
    "macro-F1 on the other test folds"
)


def best_systems(pool: Pool) -> Iterator[Best]:
    """Yield the best system of each role at each rate, rates by bits.

    With the first of `HEADS` that decided on units.

    Parameters
    ----------
    pool : Pool
    """
    units = [c[0] for c in pool.conditions.values() if c[0].rate != CONTINUOUS]
    if not units:
        return
    head = min((condition.head for condition in units), key=HEADS.index)
    for rate in rates_by_bits((c.rate, c.bitrate_bps) for c in units):
        systems = [c.system for c in units if (c.rate, c.head) == (rate, head)]
        yield from _best_at(pool, rate, head, systems)


def _best_at(
    pool: Pool, rate: str, head: str, systems: Sequence[str]
) -> Iterator[Best]:
    by_role: dict[str, list[System]] = {role: [] for role in ROLES}
    for system in (System.parse(name, known=False) for name in systems):
        if system.role in by_role:
            by_role[system.role].append(system)
    chosen = {
        role: best_elsewhere(pool, rate, head, members)
        for role, members in by_role.items()
        if members
    }
    sums, bits, samples = {}, {}, {}
    for role, names in chosen.items():
        keys = {fold: key_of(rate, name, head) for fold, name in names.items()}
        composed = pool.composed(keys)
        sums[role] = [sum_by_speaker(c.posteriors, pool.reference) for c in composed]
        samples[role] = mean_metrics(sums[role], pool.weights)["macro_f1"]
        bits[role] = float(np.mean([total_bits(c.bitrate_bps) for c in composed]))
    for role in chosen:
        differences = {
            other: percentile_interval(change[0], change[1:])
            for other in chosen
            if role in (EMOQ_ROLE, TWO_SCALE) and other != role
            for change in [samples[role] - samples[other]]
        }
        yield Best(
            experiment=pool.name,
            rate=rate,
            head=head,
            role=role,
            systems=chosen[role],
            bitrate_bps=bits[role],
            macro_f1=with_seeds(sums[role], pool.weights)["macro_f1"],
            differences=differences,
        )


def best_elsewhere(
    pool: Pool, rate: str, head: str, systems: Sequence[System]
) -> dict[str, str]:
    """Choose for each test fold the system of highest macro-F1 on the other folds.

    Parameters
    ----------
    pool : Pool
    rate, head : str
    systems : sequence of System
        Candidates. Where scores tie, or there is no other fold, the default system
        (`EMOQ`, `CAPACITY_CONTROL`) is taken, or the first in the order of tables.

    Returns
    -------
    dict of str to str
        System by fold.
    """
    defaults = (EMOQ, CAPACITY_CONTROL)
    ordered = sorted(systems, key=lambda s: (s.name not in defaults, *s.order))
    names, folds = [system.name for system in ordered], pool.folds
    if len(names) == 1 or len(folds) == 1:
        return dict.fromkeys(folds, names[0])
    labels, classes = pool.reference.labels, pool.reference.classes
    fold = np.argmax([pool.rows_of(name) for name in folds], axis=0)
    rows = labels >= 0
    scores = []  # (systems, folds)
    for name in names:
        by_seed = []
        for condition in pool.conditions[key_of(rate, name, head)]:
            counts = speaker_confusions(
                labels[rows],
                condition.posteriors[rows].argmax(1),
                labels=classes,
                speakers=fold[rows],
                n_speakers=len(folds),
            )
            elsewhere = counts.sum(axis=0) - counts
            by_seed.append(scores_of_confusion(elsewhere)["macro_f1"])
        scores.append(np.nan_to_num(np.mean(by_seed, axis=0), nan=-1.0))
    return {f: names[n] for f, n in zip(folds, np.argmax(scores, axis=0))}
