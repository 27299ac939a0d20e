"""Joining the statistics of processes that each read a shard of the stream."""

import contextlib
import datetime
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from emoq_plugin.devices import take_gpus
from emoq_plugin.learning.lloyd import PassStatistics
from emoq_plugin.learning.sampling import WeightedReservoir

_alone = False


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Work as if there were no other process: nothing is shared, nobody is waited for.

    For what one process of a group does for all, in whatever memory: a group joins only
    tensors of its own device.
    """
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def world() -> tuple[int, int]:
    """Return ``(rank, number of processes)``; ``(0, 1)`` outside torch.distributed."""
    if not _alone and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def of_first(value: Any, device: torch.device | str) -> Any:
    """Return every process the value of the first one: it decides what is to be done.

    What each finds on a shared disk may differ for a moment, and processes that do not
    do the same wait for each other for ever.

    Parameters
    ----------
    value : Any
        What JSON can hold.
    device : torch.device or str
        Of the group.
    """
    if world()[1] == 1:
        return value
    text = json.dumps(value).encode()
    size = torch.tensor(len(text), device=device)
    with _naming_the_missing():
        dist.broadcast(size, src=0)
        sent = torch.zeros(int(size), dtype=torch.uint8, device=device)
        if world()[0] == 0:
            sent.copy_(torch.tensor(list(text), dtype=torch.uint8))
        dist.broadcast(sent, src=0)
    return json.loads(bytes(sent.tolist()))


def largest(value: int, device: torch.device) -> int:
    """Return the largest `value` of all processes."""
    if world()[1] == 1:
        return value
    found = torch.tensor(value, device=device)
    with _naming_the_missing():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)


def same(value: int, device: torch.device) -> bool:
    """Return whether all processes have the same `value`."""
    return largest(value, device) == -largest(-value, device)


class _RollCall:
    """Beats in a store that all processes see, so that one that ended has a name."""

    BEAT_SECONDS = 1.0

    def __init__(self, store: dist.Store, rank: int, size: int):
        self.store, self.rank = store, rank
        self.silence = threading.Event()
        store.set(f"beat/{rank}", "0")
        name = f"rank {rank} on {socket.gethostname()} (process {os.getpid()})"
        store.set(f"name/{rank}", name)
        # Waits for all of them.
        self.names = [store.get(f"name/{r}").decode() for r in range(size)]
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        count = 0
        with contextlib.suppress(RuntimeError):  # the store may end first
            while not self.silence.wait(self.BEAT_SECONDS):
                count += 1
                self.store.set(f"beat/{self.rank}", str(count))

    def missing(self) -> list[str]:
        """Name the processes that beat no more; the first to ask answers for all."""
        try:
            self.store.set(f"beat/{self.rank}", "asks")
            if not self.store.check(["missing"]):
                before = self._beats()
                time.sleep(3 * self.BEAT_SECONDS)
                pairs = zip(self.names, before, self._beats())
                found = [n for n, old, new in pairs if old == new != b"asks"]
                self.store.set("missing", "\n".join(found))
            missing = self.store.get("missing").decode().splitlines()
            self.store.add("left", 1)
            # The store may live in rank 0, which therefore leaves last.
            end = time.monotonic() + 20 * self.BEAT_SECONDS
            left = len(self.names) - len(missing)
            while self.rank == 0 and time.monotonic() < end:
                if self.store.add("left", 0) >= left:
                    break
                time.sleep(0.1)
            return missing
        except RuntimeError:  # gone with rank 0
            return self.names[:1]

    def _beats(self) -> list[bytes]:
        return [self.store.get(f"beat/{rank}") for rank in range(len(self.names))]


_roll_call: _RollCall | None = None


@contextlib.contextmanager
def _naming_the_missing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        missing = _roll_call.missing() if _roll_call else []
        if not missing:
            raise
        raise ConnectionError(
            f"{', '.join(missing)} ended before the others (killed, or see its error): "
            "same command resumes after the last finished iteration"
        ) from error


@contextlib.contextmanager
def process_group(device: str = "cpu", *, job: int = 1) -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun or srun started; alone, do nothing.

    Reads torchrun's RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, which
    default to what srun gives its tasks (rank 0 is on the node that called srun).

    Parameters
    ----------
    device : str, default="cpu"
        `cpu` uses gloo, `cuda` uses nccl and the device of the local rank.
    job : int, default=1
        Number of the job; jobs on one machine take its GPUs in turn.

    Yields
    ------
    rank, n_processes : int

    Raises
    ------
    ConnectionError
        Inside the block, if another process ends early, with its rank and host.
    """
    global _roll_call
    _read_slurm()
    size = int(os.environ.get("WORLD_SIZE", 1))
    if device.startswith("cuda"):
        take_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", 1)), job)
    if size == 1 or dist.is_initialized():
        yield world()
        return
    rank = int(os.environ["RANK"])
    backend = "gloo"
    if device.startswith("cuda"):
        backend = "nccl"
        local = int(os.environ.get("LOCAL_RANK", 0))
        torch.cuda.set_device(local % torch.cuda.device_count())
    store, *_ = next(dist.rendezvous("env://", rank, size))
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=size,
        # The others wait while rank 0 fits routers; a dead process shows at once.
        timeout=datetime.timedelta(hours=12),
    )
    _roll_call = _RollCall(dist.PrefixStore("roll_call", store), rank, size)
    try:
        yield rank, size
        # Launchers take a process that leaves early for a failure of the others.
        with _naming_the_missing():
            dist.barrier()
    finally:
        _roll_call.silence.set()
        _roll_call = None
        dist.destroy_process_group()


def _read_slurm() -> None:
    """Say in torchrun's variables what srun gives its tasks."""
    known = os.environ
    if "WORLD_SIZE" in known or known.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return
    known["WORLD_SIZE"] = known["SLURM_STEP_NUM_TASKS"]
    known["RANK"] = known["SLURM_PROCID"]
    known["LOCAL_RANK"] = known["SLURM_LOCALID"]
    local_size = int(known["WORLD_SIZE"]) // int(known["SLURM_STEP_NUM_NODES"])
    known["LOCAL_WORLD_SIZE"] = str(local_size)
    if "MASTER_ADDR" not in known:
        known["MASTER_ADDR"] = known["SLURM_LAUNCH_NODE_IPADDR"]
    # Tasks of an array may share a node: a port of their own, below the ephemeral ones.
    port = 15000 + int(known["SLURM_JOB_ID"]) % 15000
    known.setdefault("MASTER_PORT", str(port))


def join_statistics(statistics: PassStatistics) -> None:
    """Sum the statistics of all processes in every one of them."""
    if world()[1] == 1:
        return
    # The next pass of this process changes its own sums.
    statistics.sums = statistics.sums.clone()
    with _naming_the_missing():
        for part in (
            statistics.sums,
            statistics.mass,
            statistics.distortion,
            statistics.moved,
            statistics.length,
        ):
            dist.all_reduce(part)
        dist.all_reduce(statistics.reach, dist.ReduceOp.MAX)


def join_reservoir(
    reservoir: WeightedReservoir, dimension: int, device: torch.device
) -> None:
    """Replace each process's sample by the sample of the whole stream.

    Shards may be uneven or empty: every process sends `size` rows, of which those with
    an infinite key do not count.
    """
    size, (_, n_processes) = reservoir.size, world()
    if n_processes == 1:
        return
    count = len(reservoir.keys)
    rows = torch.zeros((size, dimension + 4), dtype=torch.float32, device=device)
    keys = torch.full((size,), torch.inf, dtype=torch.float64)
    weights = torch.zeros(size, dtype=torch.float64)
    keys[:count], weights[:count] = reservoir.keys, reservoir.weights
    if count:
        rows[:count, :dimension] = reservoir.frames
    # The two float64 columns travel as four float32 columns, bit for bit.
    exact = torch.stack([keys, weights], dim=1).to(device)
    rows[:, dimension:] = exact.view(torch.float32)
    gathered = [torch.empty_like(rows) for _ in range(n_processes)]
    with _naming_the_missing():
        dist.all_gather(gathered, rows)
    joined = torch.cat(gathered)
    exact = joined[:, dimension:].contiguous().view(torch.float64).cpu()
    real = exact[:, 0].isfinite()
    reservoir.keys = torch.empty(0, dtype=torch.float64)
    reservoir.weights = torch.empty(0, dtype=torch.float64)
    reservoir.frames = None
    frames: Tensor = joined[:, :dimension][real.to(device)]
    reservoir.merge(exact[real, 0], frames, exact[real, 1])
