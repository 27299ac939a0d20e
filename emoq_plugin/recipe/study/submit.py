"""The jobs of a study through submitit, for those who submit from Python."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emoq_plugin.optional import needs
from emoq_plugin.recipe.study.config import Job
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.recipe.study.sweep import prepare

if TYPE_CHECKING:
    import submitit


@dataclass
class StudyTask:
    """What submitit runs for one job, and submits again after a time-out.

    Attributes
    ----------
    study : Study
    device : str
        `cpu` or `cuda`, for learning codebooks.
    """

    study: Study
    device: str = "cpu"

    def __call__(self, job: Job) -> str:
        """Do what is not done yet of a job; return its name."""
        from emoq_plugin.recipe.study.run_job import run_job

        logging.basicConfig(level=logging.INFO)
        run_job(self.study, job, device=self.device)
        return job.name

    def checkpoint(self, job: Job) -> "submitit.helpers.DelayedSubmission":
        """Return the same task again: every finished part and pass is on the disk."""
        with needs("submitit"):
            from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


def submit_missing(
    study: Study,
    executor: "submitit.Executor",
    *,
    only: str = "",
    device: str = "cpu",
) -> list["submitit.Job[str]"]:
    """Submit the jobs of a study that are not done, as one array.

    Stages 1 to 3 must be done. Stage 7 aggregates when all jobs have
    ended, and finds nothing else to do.

    Parameters
    ----------
    study : Study
        Such as `Study.of_recipe` gives.
    executor : submitit.Executor
        Its parameters say what a job may use; `slurm_array_parallelism` how many run at
        a time.
    only : str, optional
        Jobs with this in their name, such as `s0/fold1`.
    device : str, default="cpu"
        Or `cuda`, for learning codebooks.

    Returns
    -------
    jobs : list of submitit.Job
        In the order of the study's jobs; `result()` waits for one and gives its name.

    Raises
    ------
    ValueError
        If no job can run, with the reasons.

    Notes
    -----
    Jobs of two calls at once are not done twice: the second waits for the first. Call
    it under the environment of `local/path.sh`, which jobs inherit; docs/cluster.md has
    an example.
    """
    study.leave_out_absent()
    missing = [job for job in prepare(study, only) if study.why_undone(job)]
    logging.info("submitting %d jobs", len(missing))
    if not missing:
        return []
    return executor.map_array(StudyTask(study, device), missing)
