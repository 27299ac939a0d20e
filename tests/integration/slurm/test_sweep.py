"""`emoq sweep --backend slurm` on a real Slurm: stopped, killed, called again."""

import contextlib
import re
import time

import psutil
import pytest

from tests.integration.toy_sweep import ToySweep


@pytest.fixture(scope="module")
def toy(tree, bare, slurm):
    environment = bare | {"SLURM_CONF": str(slurm.conf), "OMP_NUM_THREADS": "1"}
    return ToySweep(tree, "python3", environment, seeds=[0])


def arrays(toy):
    logs = sorted(toy.output.glob("log/array*/q/study.log"))
    said = "".join(path.read_text() for path in logs)
    return re.findall(r"Submitted batch job (\d+)", said)


def wait_until(found, seconds=120):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_sweep_that_is_stopped_and_then_killed_runs_nothing_twice(toy, slurm):
    toy.finish("--backend", "local", "--nj", "2")
    undisturbed = toy.bits()
    toy.forget()

    def is_queued(array):
        return slurm.ask("squeue", "-h", "-j", array, check=False)

    options = ["--backend", "slurm", "--nj", "1"]
    process = toy.begin(*options)
    finished = toy.wait_for_a_job(process)
    process.terminate()
    assert process.wait(60) == 1
    [first] = arrays(toy)
    wait_until(lambda: not is_queued(first))
    process = toy.begin(*options)
    wait_until(lambda: len(arrays(toy)) == 2)
    # The sweep, the recipe and slurm.pl: nobody is left to cancel the second array.
    family = psutil.Process(process.pid).children(recursive=True)
    for member in (psutil.Process(process.pid), *family):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(60)
    second = arrays(toy)[1]
    assert is_queued(second)
    said = toy.finish(*options)
    assert f"an earlier call has submitted array {second}: waiting" in said
    assert arrays(toy) == [first, second]
    assert toy.bits() == undisturbed
    assert all(toy.submitted()[name] == 1 for name in finished)
    assert toy.submitted().keys() == toy.jobs
