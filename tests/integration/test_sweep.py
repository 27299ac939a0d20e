"""Stage 7 on this machine: killed in the middle and called again."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import recipe_environment
from tests.integration.toy_sweep import ToySweep


@pytest.fixture(scope="module")
def toy(tree, warm_python):
    return ToySweep(tree, warm_python, recipe_environment(), seeds=[0, 1])


def once(toy):
    return dict.fromkeys(toy.jobs, 1)


@pytest.fixture(scope="module")
def undisturbed(toy):
    said = toy.finish("--nj", "2")
    assert "0 of 4 jobs are done already" in said and "jobs: 4 of 4 (100 %)" in said
    assert toy.begun() == once(toy)
    assert "all 4 jobs are done already" in toy.finish()
    assert toy.begun() == once(toy)
    found = toy.bits()
    toy.forget()
    return found


def kill_the_sweep(toy, process):
    os.killpg(process.pid, signal.SIGKILL)


def kill_all(toy, process):
    """Kill the sweep, the recipe, run.pl and the jobs."""
    kill_the_sweep(toy, process)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").readlink() == toy.here:
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue  # ended meanwhile, or another user's


def terminate(toy, process):
    os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.parametrize("end", [kill_the_sweep, kill_all, terminate])
def test_a_sweep_that_ends_in_the_middle_goes_on(toy, undisturbed, end):
    process = toy.begin("--nj", "1")
    finished = toy.wait_for_a_job(process)
    end(toy, process)
    process.wait(60)
    toy.finish("--nj", "2")
    assert toy.bits() == undisturbed
    begun, submitted = toy.begun(), toy.submitted()
    assert begun.keys() == toy.jobs
    assert all(begun[name] == submitted[name] == 1 for name in finished)
    # What nobody stopped is waited for: no job is submitted twice.
    assert end is not kill_the_sweep or begun == submitted == once(toy)
    assert end is kill_the_sweep or submitted != once(toy)
    toy.forget()


def test_two_processes_do_a_job_once(toy, undisturbed):
    toy.begin("--nj", "1", "--study_only", "s0/fold1").wait(300)
    log = toy.output / "log/array1"
    task = (log / "study.1.log").read_text().splitlines()[0].removeprefix("# ")
    toy.forget()
    log.mkdir(parents=True)
    (log / "jobs").write_text("toy-fbank-tiny-s0/fold1\n")
    both = [
        subprocess.Popen(
            ["bash", "-c", f". ./path.sh; {task}"],
            cwd=toy.here,
            env=toy.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    waited = [text for text in said if "fold1 is up to date: nothing to do" in text]
    assert len(waited) == 1 and "experts" not in waited[0]
    toy.finish("--nj", "2")
    assert toy.bits() == undisturbed
    toy.forget()
