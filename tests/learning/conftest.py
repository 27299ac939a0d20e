"""Processes that learn together: a port that is theirs, and what each said."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def master_port(monkeypatch):
    """Keep a port for rank 0: no other process is given it, and rank 0 may share it."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(kept.getsockname()[1]))
        yield


@pytest.fixture(scope="session")
def run_ranks():
    """Return a function that runs a script in two ranks and gives what each said."""
    return _run_ranks


def _run_ranks(script, *arguments, cwd, seconds=300):
    """Run both to their end; when one fails, the other is ended, too."""
    common = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common["MASTER_ADDR"] = "127.0.0.1"
    command = [sys.executable, script, *map(str, arguments)]
    logs = [cwd / f"stderr.{rank}" for rank in (0, 1)]
    running = []
    end = time.monotonic() + seconds
    try:
        for rank, log in enumerate(logs):
            environment = {**os.environ, **common, "RANK": str(rank)}
            with log.open("w") as stderr:
                running.append(
                    subprocess.Popen(command, env=environment, cwd=cwd, stderr=stderr)
                )
        while None in (codes := [p.poll() for p in running]) and not any(codes):
            if time.monotonic() > end:
                break
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            process.wait()
    said = [log.read_text() for log in logs]
    how = [
        f"rank {rank} {'was still running' if code is None else f'ended with {code}'}:"
        f"\n{text}"
        for rank, (code, text) in enumerate(zip(codes, said))
    ]
    assert codes == [0, 0], "\n".join(how)
    return said
