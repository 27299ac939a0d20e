"""Joining the statistics of processes that each read a shard of the stream."""

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
