"""Run what is missing of a study as one array of jobs: stage 7 of a recipe.

All other options are the recipe's, such as `--nj 32` (tasks at a time), `--ngpu 1`,
`--cmd_opts "--mem 8G"`, or `--stop_stage 8` for the report. Killed and called again, it
waits for the jobs that still run, and then runs those that are not done.
"""

import argparse
import logging
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from emoq_plugin.presets import config_of
from emoq_plugin.recipe.study.plan import StudyConfig
from emoq_plugin.recipe.study.sweep import interruptible, stop

BACKENDS = ("local", "stdout", "sge", "pbs", "slurm", "ssh")


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="emoq sweep", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("config", type=config_of("study"), help="file or name of conf/study")
    add("--recipe", type=Path, default=Path(), help="egs2/<corpus>/ser2; default: here")
    add("--backend", default="local", choices=BACKENDS, help="who runs the jobs")
    return parser


def work(options: argparse.Namespace) -> None:
    """Call the recipe."""
    recipe = options.recipe
    if absent := [n for n in ("run.sh", "ser2.sh") if not (recipe / n).exists()]:
        raise FileNotFoundError(
            f"{recipe.resolve()} has no {absent[0]}: give --recipe egs2/<corpus>/ser2"
        )
    StudyConfig.read(options.config)  # a fault is told before anything runs
    command = ["./run.sh", "--stage", "7", "--stop_stage", "7"]
    command += ["--study_config", str(options.config.resolve())]
    command += ["--cmd_backend", options.backend, *options.others]
    logging.info("%s: %s", recipe.resolve(), shlex.join(command))
    with interruptible():
        process = subprocess.Popen(
            command, cwd=recipe, stdin=subprocess.DEVNULL, process_group=0
        )
        try:
            status = process.wait()
        except KeyboardInterrupt as error:
            stop(process)
            raise InterruptedError(
                "stopped; the same command goes on with what is not done"
            ) from error
    if status:
        raise ValueError(f"{recipe}/run.sh ended with status {status}, see above")
