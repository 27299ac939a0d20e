"""One job of a study: stages 4 to 6 with its own codebooks, and the measures."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.files import read_json
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.recipe.stages.encode_units import EncodeUnitsOptions, encode_units
from emoq_plugin.recipe.stages.fold_inputs import TrainOn
from emoq_plugin.recipe.stages.learn_codebooks import (
    LearnCodebooksOptions,
    learn_codebooks,
)
from emoq_plugin.recipe.stages.measure import MeasureOptions, measure
from emoq_plugin.recipe.stages.ser_probe import SerProbeOptions, ser_probe
from emoq_plugin.recipe.study.config import Job
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.units.rates import Rate


def run_job(study: Study, job: Job, *, device: str = "cpu", number: int = 1) -> None:
    """Do what is not done yet of a job; wait for another process that is at it.

    With `train+valid` the candidates are learned a second time without the validation
    speakers, who then choose among them.

    Parameters
    ----------
    study : Study
    job : Job
    device : {"cpu", "cuda"}, default="cpu"
        For learning codebooks.
    number : int, default=1
        Of the job; jobs take the GPUs by turns.
    """
    marker = study.marker(job)
    if study.why_undone(job):
        Stage(marker.parent, marker=marker.name).hold()
    if not study.why_undone(job):
        logging.info("%s is up to date: nothing to do", job.name)
        return
    start = time.monotonic()
    for fold in job.folds:
        # The test sets of a cross-corpus study share the codebooks of the first one.
        learns_on = (device, number)
        if study.crosses and fold != job.folds[0]:
            learns_on = None
        _run_fold(study, job, fold, learns_on=learns_on)
    # A later call may find most parts done: the time is that of the longest one.
    before = read_json(marker)["seconds"] if marker.exists() else 0.0
    study.stage(job).finish(seconds=max(before, time.monotonic() - start))


def _run_fold(
    study: Study, job: Job, fold: str, *, learns_on: tuple[str, int] | None
) -> None:
    """Run the stages of a fold, then those for the choice of one setting."""
    config, place = study.config, study.fold_dir(job, fold)
    rates = tuple(map(Rate.parse, config.rates_of_job(job)))
    systems = tuple(config.systems_of_job(job))
    quantizer_dir = study.quantizer_dir(job, fold)
    _run_stages(
        study,
        job,
        fold,
        place=place,
        quantizer_dir=quantizer_dir,
        learns_on=learns_on,
        train_on=config.train_on,
        predict=("test", "valid") if config.train_on == "train" else ("test",),
        rates=rates,
        systems=systems,
    )
    if job.left_out:
        return
    measure(
        MeasureOptions(
            inputs=study.inputs(fold),
            quantizer_dir=quantizer_dir,
            units_dir=place / "units",
            feature_dir=study.feature_dir(job.feature),
            rates=rates,
            systems=systems,
            train_on=config.train_on,
            alignments=study.alignments,
            seed=job.seed,
            output_dir=place / "measures",
        )
    )
    if study.chooses_apart(job):
        _run_stages(
            study,
            job,
            fold,
            place=place / "select",
            quantizer_dir=quantizer_dir.with_name("select") / "quantizer",
            learns_on=learns_on,
            train_on="train",
            predict=("valid",),
            rates=tuple(map(Rate.parse, study.cheap_rates(job.feature, job.quantizer))),
            systems=[BALANCED, *config.candidates(job.quantizer)],
        )


def _run_stages(
    study: Study,
    job: Job,
    fold: str,
    *,
    place: Path,
    quantizer_dir: Path,
    learns_on: tuple[str, int] | None,
    train_on: TrainOn,
    predict: tuple[str, ...],
    rates: tuple[Rate, ...],
    systems: Sequence[str],
) -> None:
    """Run stages 4 to 6 in one directory; without a device, 4 has been run."""
    config = study.config
    common = {
        "inputs": study.inputs(fold),
        "feature_dir": study.feature_dir(job.feature),
        "rates": rates,
    }
    if learns_on:
        device, number = learns_on
        learn_codebooks(
            LearnCodebooksOptions(
                **common,
                config=study.write_quantizer_config(job, systems, quantizer_dir.parent),
                systems=tuple(systems),
                corpus=job.corpus,
                train_on=train_on,
                crossfit=config.crossfit,
                route_depth=config.route_depth,
                without_class=job.left_out,
                output_dir=quantizer_dir,
                device=device,
                job=number,
            )
        )
    encode_units(
        EncodeUnitsOptions(
            **common,
            systems=tuple(systems),
            quantizer_dir=quantizer_dir,
            route_depth=config.route_depth,
            seed=job.seed,
            output_dir=place / "units",
        )
    )
    ser_probe(
        SerProbeOptions(
            **common,
            systems=tuple(systems),
            quantizer_dir=quantizer_dir,
            units_dir=place / "units",
            train_on=train_on,
            predict=predict,
            config=study.probe_config,
            output_dir=place / "ser",
        )
    )
