"""Which GPU a job takes (run.pl counts GPUs but hands out none), and their memory."""

import errno
import os
import re

_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|bad_alloc|ALLOC_FAILED|"
    r"(can't|cannot|could not|failed to|unable to) allocate|"
    r"could not create a (memory|primitive)",  # oneDNN
    re.IGNORECASE,
)


def pick_device(device: str, job: int) -> str:
    """Choose a torch device; jobs on one machine take its visible GPUs in turn.

    Parameters
    ----------
    device : {"cpu", "cuda", "auto"}
    job : int
        Number of the job, from 1.

    Raises
    ------
    ValueError
        If `cuda` is asked for where there is none.
    """
    import torch

    count = torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and count == 0):
        return "cpu"
    if count == 0:
        raise ValueError("--device cuda: no GPU is visible, use --device cpu or auto")
    return f"cuda:{(job - 1) % count}"


def take_gpus(n_gpus: int, job: int) -> None:
    """Leave this process and its children only the GPUs whose turn it is.

    For trainers that take the first visible GPUs; to be called before CUDA is used. A
    scheduler that hands out GPUs leaves nothing to choose.

    Parameters
    ----------
    n_gpus : int
        GPUs of one job; more than are visible means all of them.
    job : int
        Number of the job, from 1.

    Raises
    ------
    ValueError
        If GPUs are asked for where there is none.
    """
    import torch

    if n_gpus == 0:
        return
    count = torch.cuda.device_count()
    if count == 0:
        raise ValueError(f"--ngpu {n_gpus}: no GPU is visible, use --ngpu 0")
    named = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    visible = named.split(",")[:count]
    first = (job - 1) * n_gpus
    mine = [visible[(first + i) % count] for i in range(min(n_gpus, count))]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory of the CPU or the GPU did not suffice."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch raises a RuntimeError for the CPU, a subclass of it for a GPU.
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))
