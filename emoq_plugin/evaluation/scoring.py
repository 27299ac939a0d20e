"""Scores of an experiment: every condition on all folds pooled."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoq_plugin.evaluation.intervals import LEVEL, intervals, why_no_interval
from emoq_plugin.evaluation.pooling import (
    Condition,
    Reference,
    check_same_folds,
    make_reference,
    pool_folds,
    read_conditions,
    sum_by_speaker,
)
from emoq_plugin.routing.systems import display_name, is_control

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory


def _score_condition(
    condition: Condition, samples: Mapping[str, np.ndarray], reference: Reference
) -> dict:
    score = {
        "rate": condition.rate,
        "system": condition.system,
        "name": display_name(condition.system),
        "control": is_control(condition.system),
        "head": condition.head,
        "bitrate_bps": condition.bitrate_bps,
        "n_resamples": len(reference.draws),
        **intervals(samples),
    }
    if reference.parts:
        score["ambiguity"] = {
            part: {
                "n_utterances": int(rows.sum()),
                **intervals(
                    sum_by_speaker(condition.posteriors, reference, rows).metrics(
                        reference.weights
                    )
                ),
            }
            for part, rows in reference.parts.items()
        }
    return score


def score_experiment(
    prediction_files: Iterable[str | Path],
    data: "DataDirectory",
    *,
    emotions: Sequence[str],
    corpus: str,
    tag: str,
    synthetic: bool,
    facts: Mapping[str, Any] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score every condition of an experiment on all folds pooled.

    Hard metrics use the utterances that have a label and the classes that occur among
    them (`scored_emotions`). Soft metrics use all utterances: vote shares where raters
    voted, one-hot labels elsewhere.

    Parameters
    ----------
    prediction_files : iterable of str or Path
        Files of `write_predictions`, all conditions and folds together.
    data : DataDirectory
        Speakers, labels and votes of the predicted utterances.
    emotions : sequence of C str
        Class order.
    corpus, tag : str
        Names shown with every number.
    synthetic : bool
        True for speech that no human spoke.
    facts : mapping, optional
        More entries: `feature`, `quantizer`, `command`, `environment`.
    n_resamples, seed : int
        Of the bootstrap over speakers, common to all conditions.

    Returns
    -------
    dict
        Content of `scores.json`. Each metric is `{"mean", "low", "high"}`: the value on
        all utterances and its 95 % interval; with one test speaker the ends are None,
        and `interval` says why.

    Raises
    ------
    ValueError
        If a condition misses a fold, an utterance is predicted twice or unknown, class
        orders differ, or `facts` would replace a computed entry.
    """
    emotions = list(emotions)
    by_condition = read_conditions(prediction_files, emotions)
    folds = check_same_folds(by_condition)
    utterances = sorted(set().union(*folds.values()))
    reference = make_reference(
        data, utterances, emotions, n_resamples=n_resamples, seed=seed
    )
    systems: dict[str, dict] = {}
    samples: dict[str, dict[str, np.ndarray]] = {}
    for key in sorted(by_condition):
        condition = pool_folds(by_condition[key], utterances)
        sums = sum_by_speaker(condition.posteriors, reference)
        samples[key] = sums.metrics(reference.weights)
        systems[key] = _score_condition(condition, samples[key], reference)
    for key, system in systems.items():
        balanced = f"{system['rate']}/balanced/{system['head']}"
        if balanced in systems and balanced != key:
            change = {n: samples[key][n] - samples[balanced][n] for n in samples[key]}
            system["difference_to_balanced"] = intervals(change)
    scores = {
        "corpus": corpus,
        "synthetic": synthetic,
        "tag": tag,
        "folds": sorted(folds),
        "feature": None,
        "quantizer": None,
        "emotions": emotions,
        "scored_emotions": [emotions[label] for label in reference.classes],
        "n_utterances": len(utterances),
        "n_labelled": int((reference.labels >= 0).sum()),
        "n_speakers": reference.draws.shape[1],
        "soft_targets": "votes" if reference.parts else "one-hot",
        "interval": {
            "level": LEVEL,
            "unit": "speaker",
            "n_resamples": len(reference.draws),
            "seed": seed,
            "absent": why_no_interval(reference.draws.shape[1]),
        },
    }
    facts = dict(facts or {})
    if clash := sorted(n for n in facts if scores.get(n) is not None or n == "systems"):
        raise ValueError(f"facts name {clash}, which the scorer itself computes")
    return {**scores, **facts, "systems": systems}
