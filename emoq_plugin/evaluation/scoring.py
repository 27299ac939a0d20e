"""Scores of an experiment: every condition on all folds pooled."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.answers import best_systems
from emoq_plugin.evaluation.intervals import LEVEL, intervals, why_no_interval
from emoq_plugin.evaluation.pooling import Condition, Pool
from emoq_plugin.evaluation.predictions import key_of
from emoq_plugin.evaluation.ratings import with_intervals
from emoq_plugin.evaluation.reference import Reference, sum_by_speaker
from emoq_plugin.evaluation.results import (
    Comparison,
    ExperimentInfo,
    Results,
    Score,
)
from emoq_plugin.evaluation.significance import mean_metrics, with_seeds

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory


def score_experiment(
    prediction_files: Iterable[str | Path],
    data: "DataDirectory",
    *,
    emotions: Sequence[str],
    corpus: str,
    name: str,
    synthetic: bool,
    n_resamples: int = 1000,
    seed: int = 0,
    leakage: Sequence[str] = (),
    **shown: Any,
) -> Results:
    """Score every condition of an experiment on all folds pooled.

    Hard metrics use the utterances that have a label and the classes that occur among
    them. Soft metrics use all utterances: vote shares where raters voted, one-hot
    labels elsewhere.

    Parameters
    ----------
    prediction_files : iterable of str or Path
        Files of `write_predictions`, all conditions and folds together.
    data : DataDirectory
        Speakers, labels and votes of the predicted utterances.
    emotions : sequence of C str
        Class order.
    corpus, name : str
        Shown with every number.
    synthetic : bool
        True for speech that no human spoke.
    n_resamples, seed : int
        Of the bootstrap over speakers, common to all conditions.
    leakage : sequence of str
        What the encoder may have heard of the corpus.
    **shown
        `command`, `environment`, `config` and `audio` of `Results`.

    Raises
    ------
    ValueError
        See `Pool.read`.
    """
    config = shown.get("config", {})
    learning = config.get("quantizer", {}).get("learning") or {}
    pool = Pool.read(
        name,
        {learning.get("seed", 0): prediction_files},
        data,
        emotions,
        n_resamples=n_resamples,
        seed=seed,
    )
    return Results(
        name=name,
        corpus=corpus,
        synthetic=synthetic,
        emotions=list(emotions),
        experiments=[
            describe(
                pool,
                corpus,
                feature=config.get("feature", {}).get("encoder"),
                quantizer=config.get("quantizer", {}).get("norm"),
                leakage=leakage,
            )
        ],
        scores=list(score_conditions(pool)),
        comparisons=list(differences_to_balanced(pool)),
        best=list(best_systems(pool)),
        interval=describe_interval(pool, seed),
        **shown,
    )


def describe(
    pool: Pool,
    corpus: str,
    *,
    feature: str | None,
    quantizer: str | None,
    leakage: Sequence[str] = (),
) -> ExperimentInfo:
    """Say what an experiment is and how much of it is tested."""
    reference = pool.reference
    n_speakers = reference.draws.shape[1]
    return ExperimentInfo(
        name=pool.name,
        corpus=corpus,
        folds=pool.folds,
        n_utterances=len(pool.utterances),
        n_speakers=n_speakers,
        seeds=pool.seeds,
        feature=feature,
        quantizer=quantizer,
        n_labelled=int((reference.labels >= 0).sum()),
        scored_emotions=[reference.emotions[label] for label in reference.classes],
        soft_targets="votes" if reference.parts else "one-hot",
        no_interval=why_no_interval(n_speakers),
        leakage=list(leakage),
    )


def describe_interval(pool: Pool, seed: int) -> dict[str, Any]:
    """Say how the intervals over speakers are made."""
    return {"level": LEVEL, "n_resamples": len(pool.reference.draws), "seed": seed}


def score_conditions(pool: Pool) -> Iterator[Score]:
    """Score every rate, system and head, in all and by ambiguity."""
    reference = pool.reference
    for key, conditions in pool.conditions.items():
        ambiguity = {}
        for part, rows in reference.parts.items():
            sums = [sum_by_speaker(c.posteriors, reference, rows) for c in conditions]
            table = with_seeds(sums, pool.weights)
            ambiguity[part] = {"n_utterances": int(rows.sum()), **table}
        yield Score(
            experiment=pool.name,
            rate=conditions[0].rate,
            system=conditions[0].system,
            head=conditions[0].head,
            bitrate_bps=pool.bitrate(key),
            metrics=with_seeds(pool.sums[key], pool.weights),
            ambiguity=ambiguity or None,
            confusion=confusion(conditions, reference).tolist(),
            ratings=with_intervals(pool.ccc[key]) or None,
        )


def confusion(conditions: Sequence[Condition], reference: Reference) -> np.ndarray:
    """Count true against predicted class over all seeds, (C, C)."""
    counts = np.zeros((len(reference.emotions),) * 2, dtype=np.int64)
    rows = reference.labels >= 0
    for condition in conditions:
        guess = condition.posteriors[rows].argmax(axis=1)
        np.add.at(counts, (reference.labels[rows], guess), 1)
    return counts


def differences_to_balanced(pool: Pool) -> Iterator[Comparison]:
    """Compare each condition with balanced RVQ of its rate and head, without tests."""
    samples: dict[str, Mapping[str, np.ndarray]] = {
        key: mean_metrics(sums, pool.weights)
        | {f"ccc/{name}": np.mean(rows, axis=0) for name, rows in pool.ccc[key].items()}
        for key, sums in pool.sums.items()
    }
    for key, (condition, *_) in pool.conditions.items():
        balanced = key_of(condition.rate, BALANCED, condition.head)
        if balanced not in samples or balanced == key:
            continue
        change = intervals(
            {
                name: values - samples[balanced][name]
                for name, values in samples[key].items()
                if name in samples[balanced]
            }
        )
        for table in ("recall", "ccc"):
            entries = change.pop(table, {})
            change |= {f"{table}/{name}": triple for name, triple in entries.items()}
        for metric, difference in change.items():
            yield Comparison(
                family="at equal rate and head",
                experiment=pool.name,
                rate=condition.rate,
                head=condition.head,
                system=condition.system,
                reference=BALANCED,
                metric=metric,
                difference=difference,
            )
