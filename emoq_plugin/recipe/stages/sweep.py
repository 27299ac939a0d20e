"""Run what is missing of a study as one array of jobs: stage 7 of a recipe.

All other options are the recipe's, such as `--nj 32` (tasks at a time), `--ngpu 1`,
`--cmd_opts "--mem 8G"`, or `--stop_stage 8` for the report. Killed and called again, it
waits for the jobs that still run, and then runs those that are not done.
"""

import logging
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from emoq_plugin.options import PASSED_ON, POSITIONAL
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.study.config import StudyConfig
from emoq_plugin.recipe.study.sweep import interruptible, stop


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of a sweep.

    Attributes
    ----------
    config : Path
        File or name of conf/study.
    recipe : Path
        egs2/<corpus>/ser2; here when left out.
    backend : {"local", "stdout", "sge", "pbs", "slurm", "ssh"}
        Who runs the jobs.
    others : tuple of str
        Options of the recipe.
    """

    config: Annotated[Path, config_of("study"), POSITIONAL]
    recipe: Path = Path()
    backend: Literal["local", "stdout", "sge", "pbs", "slurm", "ssh"] = "local"
    others: Annotated[tuple[str, ...], PASSED_ON] = ()


def sweep(options: SweepOptions) -> None:
    """Call the recipe."""
    recipe = options.recipe
    if absent := [n for n in ("run.sh", "ser2.sh") if not (recipe / n).exists()]:
        raise FileNotFoundError(
            f"{recipe.resolve()} has no {absent[0]}: give --recipe egs2/<corpus>/ser2"
        )
    StudyConfig.read(options.config)  # a fault is reported before anything runs
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
