"""Stage 7: a study of many experiments: --list its jobs, --run them, --aggregate.

A job is one corpus, feature, quantizer, seed and fold at all rates: stages 4 to 6 with
its own codebooks, and the measures of what the units keep. Finished parts are not done
again, so a study goes on wherever it stopped.
"""

import argparse
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoq_plugin.options import str2bool
from emoq_plugin.files import read_json
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.recipe.study.sweep import read_job_name, run_missing

if TYPE_CHECKING:
    from emoq_plugin.recipe.study.plan import Job, Study


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="study", description=__doc__)
    add = parser.add_argument
    add(
        "--config",
        type=config_of("study"),
        required=True,
        help="file or name of conf/study",
    )
    add("--root", type=Path, required=True, help="of the repository")
    add("--corpus", required=True, help="the recipe's corpus")
    add("--synthetic", type=str2bool, default=False, help="no human spoke the corpus")
    add("--data_dir", type=Path, required=True, help="formatted set, dump/raw/<set>")
    add("--emotions", type=Path, required=True, help="data/emotions")
    add("--folds", type=Path, required=True, help="data/folds")
    add("--dumpdir", type=Path, required=True, help="holds <feature>/<set>")
    add("--output_dir", type=Path, required=True, help="exp/study_<name>")
    add("--alignments", type=Path, help="directory of phone labels, for a control")
    add("--only", default="", help="jobs with this in their name, such as s0/fold1")
    add("--device", default="cpu", help="cpu or cuda, for learning codebooks")
    add("--command", default="", help="shown with the numbers")
    add("--python", default="python3", help="command of the tasks of --run")
    add("--jobs", type=Path, help="names that --job counts, instead of all jobs")
    act = parser.add_mutually_exclusive_group(required=True)
    act.add_argument("--needs", action="store_true", help="print absent features")
    act.add_argument("--list", action="store_true", help="print the jobs that can run")
    act.add_argument("--job", type=int, help="do one: its number, from 1")
    act.add_argument(
        "--run", help="do all that are not done, as one array of run.pl, ..."
    )
    act.add_argument("--aggregate", action="store_true", help="write summary.json")
    return parser


def _study(options: argparse.Namespace) -> "Study":
    from emoq_plugin.recipe.study.plan import Study, StudyConfig

    study = Study(
        options.config.stem,
        StudyConfig.read(options.config),
        output=options.output_dir,
        root=options.root,
        corpus=options.corpus,
        data_dir=options.data_dir,
        emotions=options.emotions,
        folds=options.folds,
        dumpdir=options.dumpdir,
        alignments=options.alignments,
    )
    if not options.needs:
        study.leave_out_absent()
    return study


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """Spell options as a command takes them; those that are None are left out."""
    arguments = []
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{name}", *map(str, values)]
    return arguments


def _call(module: Any, **options: Any) -> None:
    """Do the work of another command with these options."""
    module.work(module.get_parser().parse_args(_arguments(options)))


def _encode_and_probe(
    study: "Study",
    job: "Job",
    fold: str,
    *,
    place: Path,
    quantizer_dir: Path,
    learns: bool,
    hardware: dict[str, Any],
    train_on: str,
    predict: list[str],
    rates: list[str],
    systems: list[str],
) -> dict[str, Any]:
    """Run stages 4 to 6 in one directory; give the options that they share."""
    from emoq_plugin.recipe.stages import encode_units, learn_codebooks, ser_probe

    config = study.config
    common = {
        "data_dir": study.data_dir,
        "emotions": study.emotions,
        "folds": study.folds,
        "fold": fold,
        "feature_dir": study.feature_dir(job.feature),
        "rates": rates,
    }
    if learns:
        _call(
            learn_codebooks,
            **common,
            config=study.write_quantizer_config(job, systems, quantizer_dir.parent),
            corpus=job.corpus,
            train_on=train_on,
            crossfit=config.crossfit,
            route_depth=config.route_depth,
            output_dir=quantizer_dir,
            **hardware,
        )
    _call(
        encode_units,
        **common,
        systems=[system for system in systems if system in config.unit_systems],
        quantizer_dir=quantizer_dir,
        route_depth=config.route_depth,
        seed=job.seed,
        output_dir=place / "units",
    )
    _call(
        ser_probe,
        **common,
        systems=systems,
        quantizer_dir=quantizer_dir,
        units_dir=place / "units",
        train_on=train_on,
        predict=predict,
        config=study.probe_config,
        output_dir=place / "ser",
    )
    return common | {"quantizer_dir": quantizer_dir, "units_dir": place / "units"}


def run_job(study: "Study", job: "Job", *, hardware: dict[str, Any]) -> None:
    """Do what is not done yet of a job; wait for another process that is at it.

    With `train+valid` the candidates are learned a second time without the validation
    speakers, who then choose among them.

    Parameters
    ----------
    study : Study
    job : Job
    hardware : dict
        `device` and `job` of `learn_codebooks`.
    """
    from emoq_plugin.recipe.stages import measure

    marker = study.marker(job)
    if study.why_undone(job):
        Stage(marker.parent, marker=marker.name).hold()
    if not study.why_undone(job):
        logging.info("%s is up to date: nothing to do", job.name)
        return
    start, config = time.monotonic(), study.config
    inside = config.train_on == "train"
    for n, fold in enumerate(job.folds):
        place = study.fold_dir(job, fold)
        # The test sets of a cross-corpus study share the codebooks of the first one.
        learns = n == 0 or not study.crosses
        common = _encode_and_probe(
            study,
            job,
            fold,
            place=place,
            quantizer_dir=study.quantizer_dir(job, fold),
            learns=learns,
            hardware=hardware,
            train_on=config.train_on,
            predict=["test", "valid"] if inside else ["test"],
            rates=config.rates_of(job.feature),
            systems=config.systems,
        )
        _call(
            measure,
            **common,
            systems=config.unit_systems,
            train_on=config.train_on,
            seed=job.seed,
            alignments=study.alignments,
            output_dir=place / "measures",
        )
        if study.chooses_apart(job):
            inner = study.quantizer_dir(job, fold).with_name("select")
            _encode_and_probe(
                study,
                job,
                fold,
                place=place / "select",
                quantizer_dir=inner / "quantizer",
                learns=learns,
                hardware=hardware,
                train_on="train",
                predict=["valid"],
                rates=study.cheap_rates(job.feature),
                systems=["balanced", *config.candidates],
            )
    # A later call may find most parts done: the longest one tells the time.
    before = read_json(marker)["seconds"] if marker.exists() else 0.0
    study.stage(job).finish(seconds=max(before, time.monotonic() - start))


def _run(study: "Study", jobs: list["Job"], options: argparse.Namespace) -> None:
    """Run the jobs that are not done, each as a call of this command."""
    here = ("needs", "list", "job", "run", "aggregate", "python", "command", "only")
    shared = {name: v for name, v in vars(options).items() if name not in here}
    task = [*options.python.split(), "-m", "emoq_plugin.bin.study", *_arguments(shared)]
    run_missing(study, jobs, launcher=options.run.split(), task=task)


def work(options: argparse.Namespace) -> None:
    """List, run or aggregate."""
    study = _study(options)
    if options.needs:
        for corpus, feature in study.sources():
            places = study.source_dirs(corpus, feature)
            if study.feature_config(feature).exists() and not all(
                (place / ".done.json").exists() for place in places
            ):
                print(corpus, feature)
        return
    if options.list or options.run:
        from emoq_plugin.recipe.study.joined import join_corpora

        join_corpora(study)
        jobs = study.runnable(options.only)
        study.write_card(study.jobs())
        for number, job in enumerate(jobs, 1):
            print(number, job.name, study.why_undone(job) or "done", flush=True)
        if options.run:
            _run(study, jobs, options)
        return
    if options.aggregate:
        from emoq_plugin.recipe.stages.score import environment
        from emoq_plugin.recipe.study.summary import aggregate

        aggregate(
            study,
            synthetic=options.synthetic,
            command=options.command,
            environment=environment(),
        )
        return
    jobs = study.runnable(options.only)
    if options.jobs:
        name = read_job_name(options.jobs, options.job)
        chosen = [job for job in jobs if job.name == name]
        if not chosen:
            raise ValueError(
                f"{options.jobs}: the study has no job {name} that can run"
            )
        [job] = chosen
    elif not 1 <= options.job <= len(jobs):
        raise ValueError(f"--job {options.job}, expected 1 to {len(jobs)}")
    else:
        job = jobs[options.job - 1]
    logging.info("job %d: %s", options.job, job.name)
    run_job(study, job, hardware={"device": options.device, "job": options.job})
