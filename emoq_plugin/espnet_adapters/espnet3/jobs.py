"""Jobs of a stage in processes of their own, each with its own log."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from emoq_plugin.recipe.stage import FinishedMeanwhile

FORM = "%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"


def make_pool(nj: int, *, fresh: bool = False) -> ProcessPoolExecutor:
    """Return processes that the jobs of all stages share.

    Parameters
    ----------
    nj : int
        Jobs at a time.
    fresh : bool, default=False
        A process for each job: once CUDA is used, it keeps to its GPUs.
    """
    # Jobs share the machine: one thread each, as in local/path.sh.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return ProcessPoolExecutor(
        nj,
        # Forked processes would hang in the threads of torch.
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1 if fresh else None,
    )


def run_jobs(
    pool: Executor,
    work: Callable[[Any], None],
    jobs: Sequence[Any],
    *,
    log_dir: str | Path,
    name: str = "",
) -> None:
    """Run a stage function on each of several options.

    All jobs end before the first error is raised, so that a second call has only the
    failed ones to do.

    Parameters
    ----------
    pool : Executor
        See `make_pool`.
    work : callable
        A stage function of `recipe.stages`.
    jobs : sequence
        Its options, a job each.
    log_dir : str or Path
        Gets `<name>.<job>.log`.
    name : str, optional
        Default: that of the function.

    Raises
    ------
    RuntimeError
        Naming the log of the job that failed, with its error as the cause.
    """
    Path(log_dir).mkdir(parents=True, exist_ok=True)
    name = name or work.__name__
    logs = [Path(log_dir) / f"{name}.{n}.log" for n in range(1, len(jobs) + 1)]
    futures = [pool.submit(_run, work, *job) for job in zip(jobs, logs)]
    wait(futures)
    for future, log in zip(futures, logs):
        if error := future.exception():
            raise RuntimeError(f"{error} (log: {log})") from error
    same = sum("nothing to do" in log.read_text("utf-8") for log in logs)
    logging.info("%d of %d jobs found their result up to date", same, len(logs))


def _run(work: Callable[[Any], None], options: Any, log: Path) -> None:
    handler = logging.FileHandler(log, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORM))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers = [handler]  # what an earlier job of this process has left
    try:
        work(options)
    except FinishedMeanwhile as news:
        logging.info("%s: nothing to do", news)
    except Exception:
        logging.exception("failed")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
