"""Which GPU a job takes (run.pl hands out none), memory, precision of products."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator

_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|bad_alloc|ALLOC_FAILED|"
    r"(can't|cannot|could not|failed to|unable to) allocate|"
    r"could not create a (memory|primitive)",  # oneDNN
    re.IGNORECASE,
)


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Compute in plain float32, whatever autocast and TF32 are set to outside.

    Units are exchanged between machines and stored: a training script that saves time
    by short numbers must not move them. The settings belong to the whole process and
    come back at the end.
    """
    import torch

    backends = torch.backends
    kinds = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    kinds += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        for kind, precision in zip(kinds, before):
            kind.fp32_precision = precision


def has_bfloat16() -> bool:
    """Return whether products of bfloat16 are fast on this processor."""
    import torch

    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # With AVX512 alone they are emulated, and no faster than float32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return native or not torch.cpu._is_avx512_supported()


def check_precision(precision: str, device: str) -> None:
    """Refuse a half precision that the device has no products of.

    Raises
    ------
    ValueError
        With what to choose instead.
    """
    if precision == "float32" or not device.startswith("cpu"):
        return
    if precision == "float16":
        raise ValueError(
            "precision 'float16' on the CPU: it is for GPUs, expected 'float32' or "
            "'bfloat16'"
        )
    if not has_bfloat16():
        raise ValueError(
            "precision 'bfloat16': this processor has no fast products of it "
            "(AVX512-BF16 or AMX on x86), expected 'float32', or --device cuda where "
            "there is a GPU"
        )


def use_threads(n_threads: int) -> None:
    """Compute with so many threads on the CPU, here and in processes started here."""
    os.environ["OMP_NUM_THREADS"] = str(n_threads)  # read when torch is loaded
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)


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


def processes_together() -> int:
    """Count the processes that torchrun or srun started for one job, this one too."""
    known = os.environ
    return int(known.get("WORLD_SIZE") or known.get("SLURM_STEP_NUM_TASKS") or 1)


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
    """Return whether memory of the CPU or the GPU did not suffice."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch raises a RuntimeError for the CPU, a subclass of it for a GPU.
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))
