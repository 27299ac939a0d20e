"""Joining the statistics of processes that each read a shard of the stream."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor
from torch import distributed as dist

from emoq_plugin.learning.kmeans import PassStatistics
from emoq_plugin.learning.sampling import WeightedReservoir


def world() -> tuple[int, int]:
    """Give ``(rank, number of processes)``; ``(0, 1)`` outside torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def largest(value: int, device: torch.device) -> int:
    """Give the largest `value` of all processes."""
    if world()[1] == 1:
        return value
    found = torch.tensor(value, device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)


@contextlib.contextmanager
def process_group(device: str = "cpu") -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun or srun started; alone, do nothing.

    Reads torchrun's RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or Slurm's
    SLURM_PROCID and SLURM_NTASKS with the two MASTER variables.

    Parameters
    ----------
    device : str, default="cpu"
        `cpu` uses gloo, `cuda` uses nccl and the device of the local rank.

    Yields
    ------
    rank, n_processes : int
    """
    size = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    if size == 1 or "MASTER_ADDR" not in os.environ or dist.is_initialized():
        yield world()
        return
    rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)
    if device.startswith("cuda"):
        local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0
        torch.cuda.set_device(int(local))
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=size)
    try:
        yield rank, size
    finally:
        dist.destroy_process_group()


def join_statistics(statistics: PassStatistics) -> None:
    """Sum the statistics of all processes, in place, in every one of them."""
    if world()[1] == 1:
        return
    for part in (
        statistics.sums,
        statistics.mass,
        statistics.distortion,
        statistics.moved,
    ):
        dist.all_reduce(part)
    join_reservoir(statistics.far, statistics.sums.shape[1], statistics.sums.device)


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
    dist.all_gather(gathered, rows)
    joined = torch.cat(gathered)
    exact = joined[:, dimension:].contiguous().view(torch.float64).cpu()
    real = exact[:, 0].isfinite()
    reservoir.keys = torch.empty(0, dtype=torch.float64)
    reservoir.weights = torch.empty(0, dtype=torch.float64)
    reservoir.frames = None
    frames: Tensor = joined[:, :dimension][real.to(device)]
    reservoir.merge(exact[real, 0], frames, exact[real, 1])
