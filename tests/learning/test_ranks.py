"""Processes that learn together: one dies, or one hears SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from emoq_plugin.files import read_json, write_json
from emoq_plugin.learning.distributed import process_group
from emoq_plugin.learning.learner import learn_residual_codebooks
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import UtteranceSource

ROOT = Path(__file__).parents[2]
N_PROCESSES = 3
pytestmark = pytest.mark.usefixtures("master_port")
SETTINGS = LearningSettings(max_iterations=6, tolerance=0.0)


def learn(checkpoint=None, log_file=None, seconds=0.0):
    """Learn from clips that take `seconds` each to read."""
    random = np.random.default_rng(0)
    clips = {f"u{i}": random.normal(size=(30, 3)).astype("f4") for i in range(6)}

    def read(names):
        for name in names:
            time.sleep(seconds)
            yield name, clips[name]

    source = UtteranceSource(
        read, {name: 30 for name in clips}, weights=np.ones((6, 1)), chunk_frames=16
    )
    return learn_residual_codebooks(
        source, [6, 4], settings=SETTINGS, checkpoint=checkpoint, log_file=log_file
    )


def work(folder: Path, seconds: float) -> None:
    with process_group() as (rank, size):
        assert size == N_PROCESSES
        found = learn(folder / "checkpoint", folder / "log", seconds)
    torch.save(found, folder / f"{rank}.pt")


def fork(folder: Path, seconds: float, launcher: str) -> None:
    """Be torchrun or srun: set variables, start the ranks, note how they end."""
    if launcher == "torchrun":
        names = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    else:
        names = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
        os.environ["SLURM_LAUNCH_NODE_IPADDR"] = "127.0.0.1"
        os.environ |= {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_NODES": "1"}
    pids = []
    for rank in range(N_PROCESSES):
        pid = os.fork()
        if pid == 0:
            values = (str(N_PROCESSES), str(rank), str(rank))
            os.environ |= dict(zip(names, values))
            status = 0
            try:
                work(folder, seconds)
            except Exception as error:
                (folder / f"{rank}.error").write_text(f"{error}")
                status = 1
            os._exit(status)
        pids.append(pid)
    write_json(folder / "pids", pids)
    ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    write_json(folder / "codes", ended)


def run(folder, *, seconds=0.0, launcher="torchrun", signal_to=None):
    """Run the ranks; after two passes one may get a signal. Give codes and errors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, folder, str(seconds), launcher]
    process = subprocess.Popen(command, env=environment)
    try:
        if signal_to:
            until_pass(folder, 2)
            rank, number = signal_to
            os.kill(read_json(folder / "pids")[rank], number)
        assert process.wait(60) == 0
    finally:
        process.kill()
    errors = {
        rank: path.read_text()
        for rank in range(N_PROCESSES)
        if (path := folder / f"{rank}.error").exists()
    }
    return read_json(folder / "codes"), errors


def until_pass(folder: Path, count: int) -> None:
    end = time.monotonic() + 60
    log = folder / "log"
    while not log.exists() or len(log.read_text().splitlines()) < count:
        assert time.monotonic() < end, "the processes do not learn"
        time.sleep(0.02)


def assert_resumes(folder: Path) -> None:
    """Run the same command again and compare with one undisturbed process."""
    assert run(folder)[0] == [0] * N_PROCESSES
    expected = learn()
    for rank in range(N_PROCESSES):
        for left, right in zip(torch.load(folder / f"{rank}.pt"), expected):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_is_named_and_the_same_command_resumes(tmp_path, victim):
    codes, errors = run(tmp_path, seconds=0.05, signal_to=(victim, signal.SIGKILL))
    assert codes == [-9 if rank == victim else 1 for rank in range(N_PROCESSES)]
    process = read_json(tmp_path / "pids")[victim]
    name = f"rank {victim} on {socket.gethostname()} (process {process})"
    for error in errors.values():
        assert f"{name} ended before the others" in error
        assert "same command resumes after the last finished iteration" in error
    assert_resumes(tmp_path)


def test_sigterm_to_one_rank_stops_all_after_the_same_pass(tmp_path):
    signal_to = (1, signal.SIGTERM)
    codes, errors = run(tmp_path, seconds=0.05, launcher="srun", signal_to=signal_to)
    assert codes == [1] * N_PROCESSES
    assert len(set(errors.values())) == 1
    assert "stopped by SIGTERM, same command resumes at level" in errors[1]
    assert_resumes(tmp_path)


if __name__ == "__main__":
    fork(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
