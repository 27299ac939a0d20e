"""Residual encoding beside faiss and vector-quantize-pytorch: time, codes, memory.

``python -m benchmarks.encoding`` (full sizes: 50k x 768, K = 512, 8 levels),
``--quick`` for a test. All lines use the same codebooks, learned beforehand.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np

from benchmarks import common
from benchmarks.common import CLIP_FRAMES, EMOTIONS, Contender, Task, ratio
from emoq_plugin.batches import in_batches

FULL = {"frames": 50_000, "dimension": 768, "codebook_size": 512, "levels": 8}
QUICK = {"frames": 4_000, "dimension": 64, "codebook_size": 32, "levels": 4}
# The codebooks are those of a short learning: their quality is not the subject. It
# needs all frames, or the last levels of a specific expert learn residuals of nothing.
MAX_ITERATIONS = 3
CODEBOOKS = "codebooks.npy"
EXPERTS = ("balanced", *(f"specific/{e}" for e in EMOTIONS))
# Two candidates tie when their exact squared distances differ by a smaller share.
TIE = 1e-6

# What a contender gives: (N, L) codes and the (N,) row of the expert that made them.
Encoded = tuple[np.ndarray, np.ndarray]


def codebooks(task: Task) -> np.ndarray:
    """Return the (L, E, K, D) codebooks; expert 0 is the balanced one."""
    return np.load(task.folder / CODEBOOKS)


def by_balanced(codes: np.ndarray) -> Encoded:
    """Say that the balanced codebook made the codes."""
    return codes, np.zeros(len(codes), dtype=np.int64)


# --- ours ---------------------------------------------------------------------------


def ours(task: Task) -> Callable[[], Encoded]:
    """Encode all frames in one call."""
    import torch

    from emoq_plugin.core.encoding import encode_frames

    frames = torch.from_numpy(task.frames).to(task.device)
    tables = list(torch.from_numpy(codebooks(task)[:, 0]).to(task.device))
    return lambda: by_balanced(encode_frames(frames, tables).cpu().numpy())


def clip_by_clip(task: Task, system_name: str) -> Callable[[], Encoded]:
    """Encode clips as stage 5 does: in batches, routed, then by one expert each."""
    import torch

    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.core.batch_encoding import batch_encoding
    from emoq_plugin.core.normalization import Normalization
    from emoq_plugin.routing.base import RoutingInputs
    from emoq_plugin.routing.systems import System

    zeros = torch.zeros(task.dimension)
    bank = CodebookBank(
        EXPERTS,
        [torch.from_numpy(level) for level in codebooks(task)],
        Normalization("corpus", zeros, zeros + 1),
        emotions=EMOTIONS,
    ).to(task.device)
    system = System.parse(system_name)
    frames = torch.from_numpy(task.frames).to(task.device)
    clips = frames.split(CLIP_FRAMES)

    def run() -> Encoded:
        codes, rows = [], []
        for batch in in_batches((clip, len(clip)) for clip in clips):
            x = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            lengths = torch.tensor([len(clip) for clip in batch])
            encoding = batch_encoding(bank, x, lengths)
            route, _ = system.route(RoutingInputs(encoding))
            found = encoding.codes(route, task.levels)[encoding.mask]
            codes.append(found.cpu().numpy())
            rows.append(route[:, 0].cpu().repeat_interleave(lengths).numpy())
        return np.concatenate(codes), np.concatenate(rows)

    return run


def plain_clips(task: Task) -> Callable[[], Encoded]:
    """One codebook, clip by clip."""
    return clip_by_clip(task, "balanced")


def routed_clips(task: Task) -> Callable[[], Encoded]:
    """Four experts, routed by the distortion of the first level."""
    return clip_by_clip(task, "specific-distortion")


# --- peers --------------------------------------------------------------------------


def plain_torch(task: Task) -> Callable[[], Encoded]:
    """Encode in a dozen lines of float32 torch: the reference of the codes."""
    import torch

    frames = torch.from_numpy(task.frames).to(task.device)
    tables = torch.from_numpy(codebooks(task)[:, 0]).to(task.device)

    def run() -> Encoded:
        parts = [reference(part, tables) for part in frames.split(2048)]
        return by_balanced(torch.cat(parts).cpu().numpy())

    return run


def reference(residual, tables):
    """Encode (N, D) float32 frames by (L, K, D) codebooks: (N, L) codes."""
    import torch

    codes = []
    for table in tables:
        half = 0.5 * table.square().sum(dim=1)
        codes.append(torch.addmm(half, residual, table.T, beta=-1.0).argmax(dim=1))
        residual = residual - table[codes[-1]]
    return torch.stack(codes, dim=1)


def faiss_quantizer(task: Task, *, tables: bool) -> Callable[[], Encoded]:
    """Encode with faiss.ResidualQuantizer and a beam of one."""
    import faiss

    faiss.omp_set_num_threads(task.threads)
    bits = int(math.log2(task.codebook_size))
    quantizer = faiss.ResidualQuantizer(task.dimension, task.levels, bits)
    quantizer.max_beam_size = 1
    flat = np.ascontiguousarray(codebooks(task)[:, 0]).ravel()
    faiss.copy_array_to_vector(flat, quantizer.codebooks)
    quantizer.is_trained = True
    quantizer.use_beam_LUT = int(tables)
    if tables:
        quantizer.compute_codebook_tables()
    frames = task.frames

    def run() -> Encoded:
        packed = quantizer.compute_codes(frames)
        return by_balanced(faiss.unpack_bitstrings(packed, task.levels, bits))

    return run


def faiss_direct(task: Task) -> Callable[[], Encoded]:
    """Without tables."""
    return faiss_quantizer(task, tables=False)


def faiss_tables(task: Task) -> Callable[[], Encoded]:
    """With faiss's tables of products between codebooks."""
    return faiss_quantizer(task, tables=True)


def residual_vq(task: Task) -> Callable[[], Encoded]:
    """Encode with vector-quantize-pytorch's ResidualVQ."""
    import torch
    from vector_quantize_pytorch import ResidualVQ

    model = ResidualVQ(
        dim=task.dimension,
        num_quantizers=task.levels,
        codebook_size=task.codebook_size,
    )
    for layer, table in zip(model.layers, codebooks(task)[:, 0]):
        layer._codebook.embed.data.copy_(torch.from_numpy(table)[None])
    model = model.eval().to(task.device)
    frames = torch.from_numpy(task.frames).to(task.device)

    @torch.no_grad()
    def run() -> Encoded:
        # In parts: of all frames at once it keeps copies of every level.
        parts = [model(part[None])[1][0] for part in frames.split(8192)]
        return by_balanced(torch.cat(parts).cpu().numpy())

    return run


# --- figures ------------------------------------------------------------------------


def evaluate(task: Task, result: Encoded) -> dict:
    """Evaluate codes: squared error, and the differences from plain float32.

    A frame's codes are followed to the first level that differs; there the exact
    distances of the two candidates show whether it is a tie.
    """
    import torch

    codes, experts = (np.asarray(part, dtype=np.int64) for part in result)
    frames, tables = task.frames, codebooks(task)
    levels = np.arange(task.levels)
    gaps = []
    for expert in np.unique(experts):
        own = torch.from_numpy(tables[:, expert])
        for rows in np.array_split(np.flatnonzero(experts == expert), 64):
            right = reference(torch.from_numpy(frames[rows]), own).numpy()
            differ = np.flatnonzero((right != codes[rows]).any(axis=1))
            for row, expected in zip(rows[differ], right[differ]):
                gaps.append(gap(frames[row], tables[:, expert], codes[row], expected))

    def decoded(rows: slice) -> np.ndarray:
        return sum(tables[level, experts[rows], codes[rows, level]] for level in levels)

    others = sum(g >= TIE for g in gaps)
    return {
        "objective": common.mean_squared_error(frames, decoded),
        "ties": len(gaps) - others,
        "other_codes": others,
        "largest_gap": max(gaps, default=0.0),
        "routes": np.bincount(experts, minlength=len(EXPERTS)).tolist(),
        "note": f"{len(gaps) - others} ties, {others} other codes",
    }


def gap(
    frame: np.ndarray, tables: np.ndarray, codes: np.ndarray, expected: np.ndarray
) -> float:
    """Compare two codes of a frame at the first level where they differ, in float64.

    Returns
    -------
    gap : float
        Difference of the squared distances as a share of the smaller one.
    """
    level = int((codes != expected).argmax())
    residual = frame.astype(np.float64)
    for lower in range(level):
        residual = residual - tables[lower, codes[lower]]
    candidates = tables[level, [codes[level], expected[level]]]
    near, far = sorted(np.square(residual - candidates).sum(axis=1))
    return float((far - near) / max(near, np.finfo(float).tiny))


def figures(report: dict) -> list[tuple]:
    """Return (what, value) of the comparisons."""
    lines, floors = report["lines"], report["floor_seconds"]
    ours_line = lines.get("ours", {})
    seconds = ours_line.get("seconds")
    return [
        ("time / fp32 GEMM floor", seconds and seconds / floors["float32"]),
        ("codes unlike plain fp32, ties aside", ours_line.get("other_codes")),
        ("time / plain torch fp32", ratio(lines, "ours", "plain_torch")),
        (
            "time / faiss ResidualQuantizer, beam 1",
            ratio(lines, "ours", "faiss"),
        ),
        (
            "time / vector-quantize-pytorch ResidualVQ",
            ratio(lines, "ours", "residual_vq"),
        ),
        (
            "routed, 4 experts / plain, both clip by clip",
            ratio(lines, "routed_clips", "plain_clips"),
        ),
        (
            "plain clip by clip / all frames in one call",
            ratio(lines, "plain_clips", "ours"),
        ),
    ]


def contenders(options: argparse.Namespace) -> dict[str, Contender]:
    """Return the lines in their order."""
    both = {"evaluate": evaluate, "cpu_only": False}
    lines = {
        "ours": Contender("ours", ours, **both),
        "plain_torch": Contender("plain torch fp32", plain_torch, **both),
        "plain_clips": Contender("ours, clip by clip", plain_clips, **both),
        "routed_clips": Contender("ours, routed, 4 experts", routed_clips, **both),
    }
    peers = {
        "faiss": ("faiss ResidualQuantizer, beam 1", faiss_direct),
        "faiss_tables": ("faiss ResidualQuantizer, beam 1, tables", faiss_tables),
    }
    # faiss stores whole bits: it has no codebooks of other sizes.
    if options.codebook_size & (options.codebook_size - 1) == 0:
        for name, (title, prepare) in peers.items():
            lines[name] = Contender(title, prepare, evaluate, needs=("faiss",))
    lines["residual_vq"] = Contender(
        "vector-quantize-pytorch ResidualVQ",
        residual_vq,
        evaluate,
        needs=("vector_quantize_pytorch",),
        cpu_only=False,
    )
    return lines


def write_data(task: Task) -> None:
    """Write the frames and the codebooks: one balanced, four specific experts."""
    import torch

    from emoq_plugin.learning.learner import LearningSettings, learn_residual_codebooks
    from emoq_plugin.learning.sources import ArraySource

    clips = common.clips_of(task, task.n_frames)
    with open(task.folder / common.FRAMES, "wb") as out:
        for _, frames in clips:
            frames.tofile(out)
    specific = common.expert_weights(task.n_frames)
    weights = np.concatenate([np.ones_like(specific[:, :1]), specific], axis=1)
    learned = learn_residual_codebooks(
        ArraySource(task.frames, weights),
        [task.codebook_size] * task.levels,
        experts=EXPERTS,
        settings=LearningSettings(
            max_iterations=MAX_ITERATIONS, init="random", seed=task.seed
        ),
    )
    np.save(task.folder / CODEBOOKS, torch.stack(learned).numpy())


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    return common.get_parser(__doc__, FULL, QUICK)


def main(arguments: list[str] | None = None) -> dict:
    """Run the command."""
    return common.main(
        "benchmarks.encoding",
        get_parser(),
        contenders,
        write_data,
        figures,
        arguments,
    )


if __name__ == "__main__":
    main()
