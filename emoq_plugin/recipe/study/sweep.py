"""The jobs of a study that are not done yet, as one array that is followed to its end.

The array may outlive the process that submitted it. So its tasks find their jobs in a
file that nobody changes, they hold a lock that the next call waits for, and the number
that Slurm gave the array is looked up before another one is submitted.
"""

import contextlib
import fcntl
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from emoq_plugin.files import atomic_write, read_text
from emoq_plugin.progress import progress
from emoq_plugin.recipe.stage import NO_LOCKS
from emoq_plugin.recipe.study.config import Job
from emoq_plugin.recipe.study.joined import join_corpora
from emoq_plugin.recipe.study.plan import Study

LOCK = ".sweep.lock"
# Files of an array: the names of its jobs, one a line; that it has left the queue.
JOBS, ENDED = "jobs", "ended"
SECONDS = 1.0  # between two looks at what is done
QUEUE_SECONDS = 10.0  # between two questions to a scheduler


def prepare(study: Study, only: str = "") -> list[Job]:
    """Join the corpora of a study and write study.json; return the jobs that can run.

    Parameters
    ----------
    study : Study
    only : str, optional
        Jobs with this in their name, such as `s0/fold1`.

    Raises
    ------
    ValueError
        If no job can run, with the reasons.
    """
    join_corpora(study)
    jobs = study.runnable(only)
    study.write_card(study.jobs())
    return jobs


def run_missing(
    study: Study,
    jobs: Sequence[Job],
    *,
    launcher: Sequence[str],
    task: Sequence[str],
) -> None:
    """Run the jobs that are not done, as one array; wait for them.

    Jobs that an earlier call has started are waited for, not started again.

    Parameters
    ----------
    study : Study
    jobs : sequence of Job
    launcher : sequence of str
        One of ESPnet's scripts with its options, such as `slurm.pl --max-jobs-run 8`.
    task : sequence of str
        Command to which `--jobs <file> --job <number>` are added.

    Raises
    ------
    ValueError
        If jobs are not done at the end, after an error line for each.
    InterruptedError
        On SIGINT or SIGTERM, after the array was stopped.
    """
    study.output.mkdir(parents=True, exist_ok=True)
    try:
        with interruptible(), _alone(study, jobs) as lock:
            if not any(study.why_undone(job) for job in jobs):
                logging.info("all %d jobs are done already", len(jobs))
                return
            for array in _queued_arrays(study.output):
                logging.warning(
                    "an earlier call has submitted array %s: waiting", array
                )
                _follow(study, jobs, lambda: _leaves_the_queue(array))  # noqa: B023
            missing = [job for job in jobs if study.why_undone(job)]
            n_done = len(jobs) - len(missing)
            logging.info("%d of %d jobs are done already", n_done, len(jobs))
            if not missing:
                return
            log = _run_array(study, missing, launcher, task, lock)
    except KeyboardInterrupt as error:
        raise InterruptedError(
            "stopped; the same command goes on with the jobs that are not done"
        ) from error
    failed = 0
    for number, job in enumerate(missing, 1):
        if why := study.why_undone(job):
            failed += 1
            path = Path(log.replace("JOB", str(number)))
            logging.error("%s %s; %s says:%s", job.name, why, path, _complaints(path))
    if failed:
        raise ValueError(
            f"{failed} of {len(missing)} jobs are not done: mend what they say above "
            "and give the same command again"
        )


def stop(process: subprocess.Popen) -> None:
    """End a process group: jobs end their pass, arrays leave the queue."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    while True:
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            process.terminate()  # slurm.pl does not hear it while it submits


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise what SIGINT does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ------------------------------------------------------------------- one at a time


@contextlib.contextmanager
def _alone(study: Study, jobs: Sequence[Job]) -> Iterator[int]:
    """Wait for earlier calls and the jobs they started here; give the lock.

    Other than the locks of stages this one is inherited: it is held until the last
    process that an earlier call started has ended, whoever killed the call itself.
    """
    lock = os.open(study.output / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _try(lock):
            holder = os.pread(lock, 500, 0).decode(errors="replace")
            logging.warning("jobs of an earlier call (%s) run: waiting", holder)
            _follow(study, jobs, lambda: _try(lock, SECONDS))
        with contextlib.suppress(OSError):  # only a note
            os.ftruncate(lock, 0)
            note = f"process {os.getpid()} on {socket.gethostname()}"
            os.pwrite(lock, note.encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _try(lock: int, seconds: float = 0.0) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(seconds)
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logging.warning("no locks here (%s)", error.strerror)
    return True


def _queued_arrays(output: Path) -> list[str]:
    """Return the Slurm arrays of earlier calls that have not come to their end."""
    found = []
    for place in sorted(output.glob("log/array*")):
        logs = [] if (place / ENDED).exists() else sorted(place.glob("q/*.log"))
        said = "".join(path.read_text(errors="replace") for path in logs)
        numbers = re.findall(r"Submitted batch job (\d+)", said)
        queued = [number for number in numbers if _is_queued(number)]
        if not queued:
            (place / ENDED).touch()
        found += queued
    return found


def _leaves_the_queue(array: str) -> bool:
    if not _is_queued(array):
        return True
    time.sleep(QUEUE_SECONDS)
    return False


def _is_queued(array: str) -> bool:
    command = ["squeue", "--noheader", "--jobs", array]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ValueError(
            f"array {array} of an earlier call may still run, but there is no squeue "
            "to ask: give the command where Slurm is"
        ) from error
    if answer.returncode and "Invalid job id" not in answer.stderr:
        logging.warning("%s: %s", shlex.join(command), answer.stderr.strip())
        return True
    return bool(answer.stdout.strip())


# ---------------------------------------------------------------------- one array


def _run_array(
    study: Study,
    jobs: Sequence[Job],
    launcher: Sequence[str],
    task: Sequence[str],
    lock: int,
) -> str:
    """Run jobs to their end; give the name of their logs, with JOB for the number."""
    folders = (study.output / "log").glob("array[0-9]*")
    number = 1 + max((int(path.name[len("array") :]) for path in folders), default=0)
    place = study.output / "log" / f"array{number}"
    # Where it has to make this directory, slurm.pl sleeps for NFS.
    (place / "q").mkdir(parents=True)
    with atomic_write(place / JOBS) as stream:
        stream.writelines(f"{job.name}\n" for job in jobs)
    log = str(place / "study.JOB.log")
    array = [f"JOB=1:{len(jobs)}", log]
    numbered = ["--jobs", str(place / JOBS), "--job", "JOB"]
    process = subprocess.Popen(
        [*launcher, *array, *task, *numbered],
        stdin=subprocess.DEVNULL,
        process_group=0,
        pass_fds=[lock],
    )
    try:
        _follow(study, jobs, lambda: _ends(process))
    except KeyboardInterrupt:
        logging.warning("stopping the jobs")
        stop(process)
        raise
    if process.returncode >= 0:  # a launcher that was killed has not seen the end
        (place / ENDED).touch()
    return log


def read_job_name(path: Path, number: int) -> str:
    """Return the name of a job by its number in an array.

    Raises
    ------
    ValueError
        If the array has no such number.
    """
    names = read_text(path).splitlines()
    if not 1 <= number <= len(names):
        raise ValueError(f"{path}: --job {number}, expected 1 to {len(names)}")
    return names[number - 1]


def _ends(process: subprocess.Popen) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS)
    return process.returncode is not None


def _follow(study: Study, jobs: Sequence[Job], ended: Callable[[], bool]) -> None:
    """Show progress until the end; `ended` waits a little before it says no."""
    undone = [job for job in jobs if study.why_undone(job)]
    for _ in progress(_as_they_finish(study, undone, ended), len(undone), "jobs"):
        pass


def _as_they_finish(
    study: Study, undone: list[Job], ended: Callable[[], bool]
) -> Iterator[Job]:
    while True:
        last = ended()  # before the look, which then sees everything
        for job in [job for job in undone if not study.why_undone(job)]:
            undone.remove(job)
            yield job
        if last:
            return


def _complaints(path: Path) -> str:
    """Return the last lines of a log that sound like an error."""
    if not path.exists():
        return " (no such file: it has not begun)"
    lines = path.read_text(errors="replace").splitlines()
    return "".join(
        f"\n{line}" for line in lines if re.search("[Ee]rror|ERROR|[Kk]illed", line)
    )[-2000:]
