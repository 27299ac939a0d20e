"""A Slurm of one node for the tests: own daemons, keys, ports and state."""

import contextlib
import ctypes
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SBIN = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])

CONFIGURATION = """\
ClusterName=emoq
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={state}/munge.socket
CredType=cred/munge
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/node
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
ReturnToService=2
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES State=UP
PartitionName=gpu Nodes={host} State=UP
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _end_with_the_tests() -> None:
    """Ask for SIGTERM when the test process dies (prctl, PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class SingleNodeSlurm:
    """Daemons in the foreground, ended by their ids in the reverse order."""

    def __init__(self, state: Path):
        self.state = state
        self.running: list[subprocess.Popen] = []
        self.conf = state / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": SBIN}

    def __enter__(self) -> "SingleNodeSlurm":
        for name in ("controller", "node"):
            (self.state / name).mkdir()
        key = self.state / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        self.conf.write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                ports=free_ports(2),
                user=getpass.getuser(),
                state=self.state,
            )
        )
        try:
            self._start("munged", "--foreground", "--force", *self._munge_files())
            self._wait("munge.socket", (self.state / "munge.socket").exists)
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D")
            self._wait("an idle node", self._is_idle)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _munge_files(self) -> list[str]:
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid"}
        names |= {"log-file": "log", "seed-file": "seed"}
        return [f"--{o}={self.state}/munge.{n}" for o, n in names.items()]

    def _start(self, *command: str) -> None:
        with open(self.state / f"{command[0]}.out", "w") as output:
            self.running.append(
                subprocess.Popen(
                    [shutil.which(command[0], path=SBIN), *command[1:]],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    preexec_fn=_end_with_the_tests,
                )
            )

    def _wait(self, what, found, seconds=60) -> None:
        end = time.monotonic() + seconds
        while not found():
            dead = [p.args[0] for p in self.running if p.poll() is not None]
            if dead or time.monotonic() > end:
                said = "".join(
                    f"\n{p.name}: {p.read_text(errors='replace')[-2000:]}"
                    for p in (*self.state.glob("*.log"), *self.state.glob("*.out"))
                )
                raise RuntimeError(f"Slurm: no {what}, ended: {dead}{said}")
            time.sleep(0.1)

    def _is_idle(self) -> bool:
        return "idle" in self.ask("sinfo", "-h", check=False)

    def ask(self, *command: str, check: bool = True) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def __exit__(self, *_) -> None:
        if len(self.running) == 3:
            self.ask("scancel", "--user", getpass.getuser(), check=False)
            end = time.monotonic() + 60
            while self.ask("squeue", "-h", check=False) and time.monotonic() < end:
                time.sleep(0.2)
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def tree_name():
    return "recipes"  # ESPnet's slurm.pl, queue.pl and pbs.pl cannot work with spaces


@pytest.fixture(scope="session")
def bare():
    """Return an environment in which no variable but PATH can help a job."""
    trees = ROOT.glob(".venv/espnet-*")
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), SBIN]),
        "HOME": os.environ["HOME"],
        "EMOQ_SETUP": "skip",
        "ESPNET_ROOT": os.environ.get("ESPNET_ROOT") or str(next(trees, "")),
    }


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SBIN)]
    if missing:
        pytest.skip(
            f"NOT TESTED ON SLURM: {', '.join(missing)} not found, "
            "apt-get install slurm-wlm munge"
        )
    with SingleNodeSlurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
