"""Finished jobs of a study, pooled over folds: what every section is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.evaluation.intervals import SpeakerSums
from emoq_plugin.evaluation.pooling import (
    Condition,
    Reference,
    check_same_folds,
    make_reference,
    pool_folds,
    read_conditions,
    sum_by_speaker,
)
from emoq_plugin.files import parse_json
from emoq_plugin.recipe.study.plan import Job, Study
from emoq_plugin.routing.systems import CONTINUOUS
from emoq_plugin.speech.encoders.leakage import encoder_id, leakage_notes
from emoq_plugin.speech.store import FeatureStore

RETRAINED = "retrained"


@dataclass
class Experiment:
    """One corpus, feature and quantizer: its seeds and pooled folds.

    Attributes
    ----------
    name, corpus, feature, quantizer : str
    seeds : list of int
    folds : list of str
        That all these seeds have.
    jobs : dict of (int, str) to Job
        By seed and fold.
    reference : Reference
    utterances : list of str
        Rows of all posteriors.
    tested : dict of str to set of str
        Test clips by fold.
    n_identities : int
        Speakers of the whole corpus.
    conditions : dict of str to list of Condition
        By key, one for each seed.
    measures : list of dict
        All lines of measures.jsonl, with their seed.
    notes : list of str
        What the encoder may have heard of the corpus.
    """

    name: str
    corpus: str
    feature: str
    quantizer: str
    seeds: list[int]
    folds: list[str]
    jobs: dict[tuple[int, str], Job]
    reference: Reference
    utterances: list[str]
    tested: dict[str, set[str]]
    n_identities: int
    conditions: dict[str, list[Condition]]
    measures: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    @cached_property
    def sums(self) -> dict[str, list[SpeakerSums]]:
        """Sums by speaker of every condition and seed."""
        return {
            key: [
                sum_by_speaker(condition.posteriors, self.reference)
                for condition in conditions
            ]
            for key, conditions in self.conditions.items()
        }

    @cached_property
    def row(self) -> dict[str, int]:
        """Row of each utterance."""
        return {utterance: n for n, utterance in enumerate(self.utterances)}

    def rows_of(self, fold: str) -> np.ndarray:
        """Mark the test clips of a fold, (N,) bool."""
        return np.array([u in self.tested[fold] for u in self.utterances])

    def measured(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Return the lines of measures.jsonl by rate and system."""
        conditions: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for line in self.measures:
            conditions.setdefault((line["rate"], line["system"]), []).append(line)
        return conditions

    @property
    def weights(self) -> np.ndarray:
        """Ways of counting the speakers, (1 + R, S)."""
        return self.reference.weights

    def bitrate(self, key: str) -> dict[str, float] | None:
        """Return the bits/s of a condition, averaged over seeds."""
        found = [condition.bitrate_bps for condition in self.conditions[key]]
        if any(rates is None for rates in found):
            return None
        return {n: float(np.mean([rates[n] for rates in found])) for n in found[0]}

    def total_bitrate(self, key: str) -> float:
        """Return nominal bits/s and those of the route."""
        return total_bits(self.bitrate(key) or {})


def total_bits(rates: Mapping[str, float]) -> float:
    """Return the nominal bits/s of all streams and those of the route."""
    return rates["nominal"] + rates["side_info"]


def key_of(rate: str, system: str, head: str = RETRAINED) -> str:
    """Return the key of a condition."""
    return f"{rate}/{head}" if rate == CONTINUOUS else f"{rate}/{system}/{head}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    with open(path, encoding="utf-8") as stream:
        return [parse_json(text, path, line=n) for n, text in enumerate(stream, 1)]


def load_experiments(study: Study) -> tuple[list[Experiment], list[dict[str, str]]]:
    """Read all finished jobs.

    Returns
    -------
    experiments : list of Experiment
        Pooled over the folds that a seed has most of; seeds that lack one of these are
        left out.
    missing : list of dict
        `job` and `why`.

    Raises
    ------
    ValueError
        If no job is finished.
    """
    done: dict[tuple[str, str], dict[tuple[int, str], Job]] = {}
    missing = []
    for job in study.jobs():
        if why := study.why_undone(job):
            missing.append({"job": job.name, "why": why})
            continue
        for fold in job.folds:
            # A test set of a cross-corpus study is an experiment of its own.
            group = fold if study.crosses else ""
            done.setdefault((job.experiment, group), {})[job.seed, fold] = job
    if not done:
        raise ValueError(
            f"{study.output}: none of {len(missing)} jobs is finished; the first: "
            f"{missing[0]['job']} {missing[0]['why']}"
        )
    emotions = study.classes()
    data = DataDirectory.read(study.data_dir, emotions)
    experiments = [
        _load(study, data, emotions, jobs=jobs, test_set=group)
        for (_, group), jobs in done.items()
    ]
    return experiments, missing


def _load(
    study: Study,
    data: DataDirectory,
    emotions: list[str],
    *,
    jobs: dict[tuple[int, str], Job],
    test_set: str,
) -> Experiment:
    folds_of: dict[int, list[str]] = {}
    for seed, fold in jobs:
        folds_of.setdefault(seed, []).append(fold)
    folds = max(folds_of.values(), key=len)
    seeds = [seed for seed, has in folds_of.items() if set(folds) <= set(has)]
    by_seed = []
    for seed in seeds:
        places = (study.fold_dir(jobs[seed, fold], fold) for fold in folds)
        by_seed.append(
            read_conditions((p / "ser/posteriors.jsonl" for p in places), emotions)
        )
    tested = check_same_folds(dict(enumerate(chain(*(c.values() for c in by_seed)))))
    utterances = sorted(set().union(*tested.values()))
    reference = make_reference(
        data, utterances, emotions, n_resamples=study.config.n_resamples, seed=0
    )
    any_job = next(iter(jobs.values()))
    card = FeatureStore(study.feature_dir(any_job.feature)).card
    corpus = any_job.corpus
    if test_set:
        corpus = list(study.config.test_on)[int(test_set) - 1]
    measures = [
        line | {"seed": seed}
        for seed in seeds
        for fold in folds
        for line in read_lines(
            study.fold_dir(jobs[seed, fold], fold) / "measures/measures.jsonl"
        )
    ]
    return Experiment(
        name=f"{corpus}-{any_job.feature}-{any_job.quantizer}",
        corpus=corpus,
        feature=any_job.feature,
        quantizer=any_job.quantizer,
        seeds=seeds,
        folds=folds,
        jobs=jobs,
        reference=reference,
        utterances=utterances,
        tested=tested,
        n_identities=len(set(data.speaker.values())),
        conditions={
            key: [pool_folds(conditions[key], utterances) for conditions in by_seed]
            for key in by_seed[0]
        },
        measures=measures,
        notes=leakage_notes(encoder_id(card), [corpus, *study.config.learn_on]),
    )
