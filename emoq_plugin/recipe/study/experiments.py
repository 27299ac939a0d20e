"""Finished jobs of a study, pooled over folds: what every section is made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.evaluation.pooling import Pool
from emoq_plugin.files import parse_json
from emoq_plugin.recipe.study.config import Job
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.speech.encoders.leakage import encoder_id, leakage_notes
from emoq_plugin.speech.store import FeatureStore

RETRAINED = "retrained"


@dataclass
class Experiment(Pool):
    """One corpus, feature and quantizer of a study.

    Attributes
    ----------
    corpus, feature, quantizer : str
    jobs : dict of (int, str) to Job
        By seed and fold.
    n_identities : int
        Speakers of the whole corpus.
    measures : list of dict
        All lines of measures.jsonl, with their seed.
    leakage : list of str
        What the encoder may have heard of the corpus.
    left_out : str
        Class that nothing but the heads was learned from; empty for none.
    """

    corpus: str
    feature: str
    quantizer: str
    jobs: dict[tuple[int, str], Job]
    n_identities: int
    measures: list[dict[str, Any]]
    leakage: list[str]
    left_out: str = ""

    def measured(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Return the lines of measures.jsonl by rate and system."""
        conditions: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for line in self.measures:
            conditions.setdefault((line["rate"], line["system"]), []).append(line)
        return conditions


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
    places = {
        seed: [study.fold_dir(jobs[seed, fold], fold) for fold in folds]
        for seed, has in folds_of.items()
        if set(folds) <= set(has)
    }
    job = next(iter(jobs.values()))
    corpus = list(study.config.test_on)[int(test_set) - 1] if test_set else job.corpus
    spec = FeatureStore(study.feature_dir(job.feature)).specification
    return Experiment.read(
        f"{corpus}-{job.feature}-{job.quantizer}",
        {
            seed: [place / "ser/posteriors.jsonl" for place in found]
            for seed, found in places.items()
        },
        data,
        emotions,
        n_resamples=study.config.n_resamples,
        corpus=corpus,
        feature=job.feature,
        quantizer=job.quantizer,
        jobs=jobs,
        n_identities=len(set(data.speaker.values())),
        measures=[
            line | {"seed": seed}
            for seed, found in places.items()
            for place in (() if job.left_out else found)
            for line in read_lines(place / "measures/measures.jsonl")
        ],
        left_out=job.left_out,
        leakage=leakage_notes(encoder_id(spec), [corpus, *study.config.learn_on]),
    )
