"""Operations behind choices in docs/performance.md: `python -m benchmarks.kernels`."""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from emoq_plugin.core.nearest import half_squared_norms, score_table


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median duration of a call after two warm-up calls."""
    for _ in range(2):
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def operations(n: int, k: int, d: int) -> dict[str, Callable[[], object]]:
    """Return the operations on (n, d) frames and (k, d) codewords."""
    torch.manual_seed(0)
    frames, codebook = torch.randn(n, d), torch.randn(k, d)
    half = half_squared_norms(codebook)
    table = score_table(frames, codebook, half)
    codes = table.argmax(dim=1)
    low, low_codebook, low_table = (
        frames.bfloat16(),
        codebook.bfloat16(),
        table.bfloat16(),
    )
    total = torch.zeros(k, d, dtype=torch.float64)
    zeros = torch.zeros(k, d)

    def blocks() -> None:
        for block, code in zip(frames.split(1024), codes.split(1024)):
            total.index_add_(0, code, block.double())

    def segments() -> torch.Tensor:
        ordered = frames.index_select(0, codes.argsort(stable=True)).double()
        lengths = torch.bincount(codes, minlength=k)
        return torch.segment_reduce(ordered, "sum", lengths=lengths, axis=0)

    return {
        "score table, float32 (ours)": lambda: score_table(frames, codebook, half),
        "score table, float32, torch.addmm": lambda: torch.addmm(
            half, frames, codebook.T, beta=-1.0
        ),
        "product, bfloat16": lambda: low @ low_codebook.T,
        "maximum of a row, float32": lambda: table.max(dim=1),
        "two largest of a row, bfloat16": lambda: low_table.topk(2, dim=1),
        "candidates of a row, float32": lambda: (
            table >= table.amax(dim=1, keepdim=True) - 1
        ).sum(dim=1),
        "codebook[codes]": lambda: codebook[codes],
        "codebook.index_select": lambda: codebook.index_select(0, codes),
        "sums, float32, then converted": lambda: total.add_(
            zeros.zero_().index_add_(0, codes, frames)
        ),
        "sums, float64 in blocks (ours)": blocks,
        "sums, segment_reduce after sorting": segments,
    }


def main() -> None:
    """Print one line for each operation."""
    parser = argparse.ArgumentParser(prog="benchmarks.kernels", description=__doc__)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--codebook_size", type=int, default=512)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = (options.rows, options.codebook_size, options.dimension)
    print(f"{sizes[0]} frames x {sizes[2]}, K = {sizes[1]}, {options.threads} threads")
    for name, work in operations(*sizes).items():
        print(f"{name:38} {milliseconds(work, options.repeats):8.3f} ms")


if __name__ == "__main__":
    main()
