"""Stage 7 on a real Slurm: stopped, killed, called again."""

import contextlib
import os
import re
import signal
import subprocess
import time

import psutil
import pytest

from tests.integration.toy_sweep import ToySweep


@pytest.fixture(scope="module")
def toy(tree, bare, slurm):
    environment = bare | {"SLURM_CONF": str(slurm.conf), "OMP_NUM_THREADS": "1"}
    # Small chunks make passes slow enough to be interrupted.
    slow = "chunk_frames: 1, learning: {max_iterations: 5}"
    return ToySweep(tree, "python3", environment, seeds=[0], learning=slow)


@pytest.fixture(scope="module")
def undisturbed(toy):
    toy.finish("--cmd_backend", "local", "--nj", "2")
    found = toy.bits()
    toy.forget()
    return found


def arrays(toy):
    logs = sorted(toy.output.glob("log/array*/q/study.log"))
    said = "".join(path.read_text() for path in logs)
    return re.findall(r"Submitted batch job (\d+)", said)


def wait_until(found, seconds=300):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.1)


@contextlib.contextmanager
def held_back(slurm):
    """Let jobs into the queue and no further."""
    change = ["scontrol", "update", "PartitionName=cpu"]
    slurm.ask(*change, "State=DOWN")
    try:
        yield
    finally:
        slurm.ask(*change, "State=UP")


OPTIONS = ["--cmd_backend", "slurm", "--nj"]


def test_a_job_warned_of_its_time_limit_stops_after_a_pass_and_is_resumed(
    toy, undisturbed, slurm
):
    process = toy.begin(*OPTIONS, "2")
    log = toy.output / "log/array1/study.1.log"
    learning = re.compile("learning .* level 0, iteration 0", re.DOTALL)
    wait_until(lambda: log.exists() and learning.search(log.read_text()))
    # What sbatch's --signal does: to the steps alone.
    slurm.ask("scancel", "--signal=TERM", f"{arrays(toy)[0]}_1")
    assert process.wait(300) != 0
    stopped = "stopped by SIGTERM, same command resumes at (level 0, iteration [1-4])"
    (place,) = set(re.findall(stopped, log.read_text()))
    assert f"same command resumes at {place}" in toy.said.read_text()
    toy.finish(*OPTIONS, "2")
    assert f"resuming at {place}" in (toy.output / "log/array2/study.1.log").read_text()
    assert toy.bits() == undisturbed
    toy.forget()


def test_a_sweep_that_is_stopped_and_then_killed_runs_nothing_twice(
    toy, undisturbed, slurm
):
    def is_queued(array):
        return slurm.ask("squeue", "-h", "-j", array, check=False)

    process = toy.begin(*OPTIONS, "1")
    finished = toy.wait_for_a_job(process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) != 0
    [first] = arrays(toy)
    wait_until(lambda: not is_queued(first))
    with held_back(slurm):
        process = toy.begin(*OPTIONS, "1")
        wait_until(lambda: len(arrays(toy)) == 2)
        # The sweep, the recipe and slurm.pl: nobody is left to cancel the second array.
        family = psutil.Process(process.pid).children(recursive=True)
        for member in (psutil.Process(process.pid), *family):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(60)
        second = arrays(toy)[1]
        assert is_queued(second)
        process = toy.begin(*OPTIONS, "1")
        news = f"an earlier call has submitted array {second}: waiting"
        wait_until(lambda: news in toy.said.read_text(errors="replace"))
    assert process.wait(300) == 0, toy.said.read_text()[-4000:]
    assert arrays(toy) == [first, second]
    assert toy.bits() == undisturbed
    assert all(toy.submitted()[name] == 1 for name in finished)
    assert toy.submitted().keys() == toy.jobs
    toy.forget()


def test_submitit_runs_the_jobs_of_a_sweep(toy, undisturbed, slurm):
    program = (
        "import submitit\n"
        "from emoq_plugin.recipe.study.plan import Study\n"
        "from emoq_plugin.recipe.study.submit import submit_missing\n"
        "executor = submitit.AutoExecutor('logs/%j', cluster='slurm')\n"
        "executor.update_parameters(timeout_min=10, slurm_array_parallelism=2)\n"
        f"study = Study.of_recipe({str(toy.config)!r}, '.')\n"
        "print(*(job.result() for job in submit_missing(study, executor)))\n"
    )
    done = subprocess.run(
        [toy.python, "-c", program],
        cwd=toy.here,
        env=toy.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # submitit writes there too, where Slurm keeps no accounts that it could ask.
    assert set(done.stdout.splitlines()[-1].split()) == toy.jobs
    assert "all 2 jobs are done already" in toy.finish("--cmd_backend", "local")
    assert toy.bits() == undisturbed
