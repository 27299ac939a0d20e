"""Stage 7: a study of many experiments: --list its jobs, --run them, --aggregate.

A job is one corpus, feature, quantizer, seed and fold at all rates: stages 4 to 6 with
its own codebooks, and the measures of what the units keep. Finished parts are not done
again, so a study goes on wherever it stopped.
"""

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from emoq_plugin.options import SWITCH, Count
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stage import MARKER
from emoq_plugin.recipe.study.sweep import prepare, read_job_name, run_missing

if TYPE_CHECKING:
    from emoq_plugin.recipe.study.config import Job
    from emoq_plugin.recipe.study.plan import Study

ACTIONS = ("needs", "list", "job", "run", "aggregate")
# What the process of a job does not need.
OF_THE_CALL = (*ACTIONS, "python", "command", "only", "jobs")


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Options of a study: where it is, and one of needs, list, job, run, aggregate.

    Attributes
    ----------
    config : Path
        File or name of conf/study.
    root : Path
        Of the repository.
    corpus : str
        The recipe's corpus.
    synthetic : bool
        No human spoke the corpus.
    data_dir : Path
        Formatted set, dump/raw/<set>.
    emotions : Path
        Class order, data/emotions.
    folds : Path
        Directory of the folds, data/folds.
    dumpdir : Path
        Holds <feature>/<set>.
    output_dir : Path
        exp/study_<name>.
    alignments : Path, optional
        Directory of phone labels, for a control.
    only : str
        Jobs with this in their name, such as s0/fold1.
    device : {"cpu", "cuda"}
        Where codebooks are learned.
    command : str
        Shown with the numbers.
    python : str
        Command of the tasks of --run.
    jobs : Path, optional
        Names that --job counts, instead of all jobs.
    needs : bool
        Print absent features.
    list : bool
        Print the jobs that can run.
    job : int, optional
        Do one: its number, from 1.
    run : str, optional
        Do all that are not done, as one array of run.pl, ...
    aggregate : bool
        Write summary.json.
    """

    config: Annotated[Path, config_of("study")]
    root: Path
    corpus: str
    synthetic: bool = False
    data_dir: Path
    emotions: Path
    folds: Path
    dumpdir: Path
    output_dir: Path
    alignments: Path | None = None
    only: str = ""
    device: Literal["cpu", "cuda"] = "cpu"
    command: str = ""
    python: str = "python3"
    jobs: Path | None = None
    needs: Annotated[bool, SWITCH] = False
    list: Annotated[bool, SWITCH] = False
    job: Count | None = None
    run: str | None = None
    aggregate: Annotated[bool, SWITCH] = False


def study(options: StudyOptions) -> None:
    """List, run or aggregate."""
    given = [f"--{name}" for name in ACTIONS if getattr(options, name)]
    if len(given) != 1:
        known = ", ".join(f"--{name}" for name in ACTIONS)
        found = " and ".join(given) or "none"
        raise ValueError(f"found {found} of {known}, expected one of them")
    planned = plan_of(options)
    if options.needs:
        _print_needs(planned)
    elif options.list or options.run:
        _list_and_run(planned, options)
    elif options.aggregate:
        from emoq_plugin.recipe.stages.score import environment
        from emoq_plugin.recipe.study.summary import aggregate

        aggregate(
            planned,
            synthetic=options.synthetic,
            command=options.command,
            environment=environment(),
        )
    else:
        from emoq_plugin.recipe.study.run_job import run_job

        job = _chosen_job(planned, options)
        logging.info("job %d: %s", options.job, job.name)
        run_job(planned, job, device=options.device, number=options.job)


def plan_of(options: StudyOptions) -> "Study":
    """Return the study of some options."""
    from emoq_plugin.recipe.study.config import StudyConfig
    from emoq_plugin.recipe.study.plan import Study

    planned = Study(
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
        planned.leave_out_absent()
    return planned


def _print_needs(planned: "Study") -> None:
    for corpus, feature in planned.sources():
        places = planned.source_dirs(corpus, feature)
        finished = all((place / MARKER).exists() for place in places)
        if planned.feature_config(feature).exists() and not finished:
            print(corpus, feature)


def _list_and_run(planned: "Study", options: StudyOptions) -> None:
    """Print the jobs; run those that are not done, each by a process of its own."""
    jobs = prepare(planned, options.only)
    for number, job in enumerate(jobs, 1):
        print(number, job.name, planned.why_undone(job) or "done", flush=True)
    if options.run:
        # These processes may run on other machines, so they have all as arguments.
        values = {f.name: getattr(options, f.name) for f in fields(options)}
        task = [*options.python.split(), "-m", "emoq_plugin.bin.study"]
        for name, value in values.items():
            if value is not None and name not in OF_THE_CALL:
                task += [f"--{name}", str(value)]
        run_missing(planned, jobs, launcher=options.run.split(), task=task)


def _chosen_job(planned: "Study", options: StudyOptions) -> "Job":
    jobs = planned.runnable(options.only)
    if options.jobs:
        name = read_job_name(options.jobs, options.job)
        for job in jobs:
            if job.name == name:
                return job
        raise ValueError(f"{options.jobs}: the study has no job {name} that can run")
    if options.job > len(jobs):
        raise ValueError(f"--job {options.job}, expected 1 to {len(jobs)}")
    return jobs[options.job - 1]
