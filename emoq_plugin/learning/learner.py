"""Learning the residual codebooks of all experts, restartable between passes."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from emoq_plugin.core.encoding import decode_frames, encode_frames
from emoq_plugin.files import atomic_write
from emoq_plugin.learning.checkpoint import Progress, resume
from emoq_plugin.learning.distributed import (
    join_reservoir,
    join_statistics,
    largest,
    same,
    world,
)
from emoq_plugin.learning.ema import ema_epoch
from emoq_plugin.learning.initialization import k_means_plus_plus, random_codebook
from emoq_plugin.learning.lloyd import (
    PassStatistics,
    draw_distant,
    lloyd_pass,
    unit_of_sums,
    update,
)
from emoq_plugin.learning.portions import LevelCache
from emoq_plugin.learning.sampling import WeightedReservoir, exponential_of_index
from emoq_plugin.learning.settings import LearningSettings
from emoq_plugin.learning.sources import FrameSource
from emoq_plugin.learning.stopping import HeldSigterm

# Seconds of passes for a second of writing checkpoints.
WORK_PER_SAVING = 50


def learn_residual_codebooks(
    source: FrameSource,
    sizes: Sequence[int],
    *,
    experts: Sequence[str] | None = None,
    settings: LearningSettings | None = None,
    initial: Sequence[Tensor] | None = None,
    checkpoint: str | Path | None = None,
    log_file: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> list[Tensor]:
    """Learn the residual codebooks of all experts of a source.

    Each pass over the data serves every expert; level l is learned on the residual of
    levels before l, which is computed on the fly. Inside torch.distributed every
    process calls this with the whole source, reads its shard of it, and returns the
    same codebooks.

    Parameters
    ----------
    source : FrameSource
    sizes : sequence of int
        Codebook size K of each level.
    experts : sequence of str, optional
        Names for the log and for errors.
    settings : LearningSettings, optional
    initial : sequence of L (E, K_l, D) Tensors, optional
        Codebooks to start from, instead of those that `settings.init` makes.
    checkpoint : str or Path, optional
        File written after passes, every one that takes longer than some fifty such
        writings. If it exists, made by the same call, the work goes on from it and ends
        in the same codebooks, bit for bit. With it, SIGTERM waits for the end of the
        pass, which is saved.
    log_file : str or Path, optional
        JSON lines: level, iteration, expert, objective (weighted mean squared
        distance), used (codewords), perplexity, moved (share of mass that changed its
        codeword), dead (codewords re-seeded), seconds (of the pass, all experts).
    device : str or torch.device, default="cpu"

    Returns
    -------
    codebooks : list of L (E, K_l, D) float32 Tensors

    Raises
    ------
    ValueError
        If an expert has fewer (distinct) frames than codewords, with both numbers; if
        `initial` has other shapes than `sizes` asks for; if processes read different
        checkpoints.
    InterruptedError
        After SIGTERM, in every process, with the checkpoint written.
    ConnectionError
        If another process ended, with its rank and host.

    Notes
    -----
    Time is about ``2 N K D`` operations for a pass and a level; memory is a chunk, the
    codebooks and 2 bytes for each frame, level and expert.
    """
    settings = settings or LearningSettings()
    device = torch.device(device)
    experts = list(experts or map(str, range(source.n_experts)))
    _check_frames(source, experts, max(sizes))
    if settings.algorithm == "ema" and world()[1] > 1:
        raise ValueError(
            f"algorithm 'ema' runs in one process, found {world()[1]}: use 'lloyd'"
        )
    notes = [dataclasses.asdict(settings), list(sizes), experts]
    if initial is not None:
        shapes = [tuple(table.shape[:2]) for table in initial]
        expected = [(len(experts), size) for size in sizes]
        if shapes != expected:
            raise ValueError(
                f"initial codebooks have shapes {shapes}, expected {expected} "
                "(experts, codewords) for the levels"
            )
        notes += [
            hashlib.sha256(t.cpu().numpy().tobytes()).hexdigest() for t in initial
        ]
    identity = _identity(source, notes)
    part = source.shard(*world()) if world()[1] > 1 else source

    checkpoint = Path(checkpoint) if checkpoint else None
    progress = resume(checkpoint, identity, len(experts), device)
    # A node may see an older file than the one that wrote it.
    passes = settings.max_iterations + 1
    if not same(len(progress.codebooks) * passes + progress.iteration, device):
        raise ValueError(
            f"{checkpoint} differs between processes: give all the same file, or wait "
            "until their nodes see what was written last, then run it again"
        )

    with HeldSigterm(hold=checkpoint is not None) as held:
        learner = _Learner(
            source=part,
            sizes=list(sizes),
            experts=experts,
            settings=settings,
            progress=progress,
            initial=initial,
            checkpoint=checkpoint if world()[0] == 0 else None,
            log_file=Path(log_file) if log_file and world()[0] == 0 else None,
            device=device,
            held=held,
        )
        return learner.lloyd() if settings.algorithm == "lloyd" else learner.ema()


def _identity(source: FrameSource, notes: list) -> str:
    """Fingerprint a call: settings, weights, counts and the first frames."""
    notes = [*notes, source.expert_frames().tolist()]
    digest = hashlib.sha256(json.dumps(notes).encode())
    digest.update(source.weights.tobytes())
    # Frames of another normalisation or encoder differ from the first one on.
    first = next(iter(source.chunks()))
    digest.update(first.frames.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_frames(source: FrameSource, experts: list[str], size: int) -> None:
    for name, count in zip(experts, source.expert_frames()):
        if count < size:
            raise ValueError(
                f"expert '{name}' has {count} training frames, fewer than the codebook "
                f"size K = {size}: lower K, add data, or leave this expert out"
            )


@dataclass
class _Learner:
    """The loop; the mathematics is in lloyd.py and ema.py."""

    source: FrameSource
    sizes: list[int]
    experts: list[str]
    settings: LearningSettings
    progress: Progress
    initial: Sequence[Tensor] | None
    checkpoint: Path | None
    log_file: Path | None
    device: torch.device
    held: HeldSigterm
    samples: list[WeightedReservoir] | None = None
    next_save: float = 0.0  # by the monotonic clock

    def lloyd(self) -> list[Tensor]:
        state, cache = self.progress, LevelCache()
        for level in range(len(state.codebooks), len(self.sizes)):
            if state.current is None:
                state.current = self._first(level, state.codebooks)
            while state.iteration < self.settings.max_iterations and self._active():
                self._lloyd_iteration(level, cache)
                self._save_or_stop()
            # The update that ended the level made its codes out of date.
            cache.end_level()
            state.codebooks.append(state.current)
            state.current, state.iteration = None, 0
            state.objective = [float("inf")] * len(self.experts)
            state.waited = [0] * len(self.experts)
            state.units = [0.0] * len(self.experts)
            self._save_or_stop()
        return state.codebooks

    def _lloyd_iteration(self, level: int, cache: LevelCache) -> None:
        state, start = self.progress, time.monotonic()
        found = lloyd_pass(
            self.source,
            state.codebooks,
            state.current,
            active=self._active(),
            cache=cache,
            units=state.units,
        )
        for e, statistics in found.items():
            join_statistics(statistics)
            if not state.iteration:
                count = int(self.source.expert_frames()[e])
                state.units[e] = unit_of_sums(statistics, count)
        distant = self._distant(level, found, cache)
        state.current = state.current.clone()
        lines = []
        for e, statistics in found.items():
            state.current[e] = update(state.current[e], statistics, distant.get(e))
            dead = statistics.n_dead
            before, state.objective[e] = state.objective[e], statistics.objective
            enough = statistics.objective < (1 - self.settings.tolerance) * before
            if not enough and not dead:
                state.waited[e] = -1
            lines.append(
                {
                    "level": level,
                    "iteration": state.iteration,
                    "expert": self.experts[e],
                    "objective": statistics.objective,
                    "used": statistics.used,
                    "perplexity": statistics.perplexity,
                    "moved": float(statistics.moved / statistics.mass.sum()),
                    "dead": dead,
                }
            )
        self._log(lines, start)

    def _distant(
        self, level: int, found: dict[int, PassStatistics], cache: LevelCache
    ) -> dict[int, Tensor | None]:
        """Draw frames for the dead codewords of a pass, where there are any."""
        experts = [e for e, statistics in found.items() if statistics.n_dead]
        if not experts:
            return {}
        state = self.progress
        seed = self.settings.seed + 7919 * (level * 1000 + state.iteration + 1)
        drawn = draw_distant(
            self.source, state.current, experts=experts, cache=cache, seed=seed
        )
        for reservoir in drawn.values():
            join_reservoir(reservoir, state.current.shape[2], self.device)
        return {e: reservoir.frames for e, reservoir in drawn.items()}

    def ema(self) -> list[Tensor]:
        state = self.progress
        if not state.codebooks:
            for level in range(len(self.sizes)):
                state.codebooks.append(self._first(level, state.codebooks))
            for codebook in state.codebooks:
                # A new codeword begins as alive as a re-seeded one.
                begin = max(1.0, self.settings.dead_threshold)
                counts = codebook.new_full(codebook.shape[:2], begin)
                state.averages += [counts, codebook * begin]
            state.best = [codebook.clone() for codebook in state.codebooks]
        while state.iteration < self.settings.max_iterations and self._active():
            start = time.monotonic()
            active = self._active()
            lines = ema_epoch(
                self.source,
                state.codebooks,
                state.averages,
                active=active,
                settings=self.settings,
                epoch=state.iteration,
            )
            for e, line in zip(active, lines):
                objective = line[-1]["objective"]
                if objective < state.objective[e]:
                    state.objective[e], state.waited[e] = objective, 0
                    for kept, codebook in zip(state.best, state.codebooks):
                        kept[e] = codebook[e]
                elif state.waited[e] + 1 >= self.settings.patience:
                    state.waited[e] = -1
                else:
                    state.waited[e] += 1
            named = [
                {"level": level, "iteration": state.iteration}
                | {"expert": self.experts[e]}
                | notes
                for e, line in zip(active, lines)
                for level, notes in enumerate(line)
            ]
            self._log(named, start)
            self._save_or_stop()
        return state.best

    def _active(self) -> list[int]:
        return [e for e, waited in enumerate(self.progress.waited) if waited >= 0]

    def _first(self, level: int, previous: list[Tensor]) -> Tensor:
        """Make the first codebooks (E, K, D) of a level from each expert's sample."""
        if self.initial is not None:
            return self.initial[level].to(self.device, torch.float32, copy=True)
        if self.samples is None:
            self.samples = self._sample()
        tables = []
        for e, sample in enumerate(self.samples):
            lower = [codebook[e] for codebook in previous]
            frames = sample.frames
            if lower:
                frames = frames - decode_frames(encode_frames(frames, lower), lower)
            # A sample that holds every frame has not used the weights yet.
            weights = sample.weights if len(frames) < sample.size else None
            try:
                tables.append(self._choose(frames, weights, level))
            except ValueError as error:
                raise ValueError(
                    f"expert '{self.experts[e]}', level {level}: {error}"
                ) from error
        return torch.stack(tables)

    def _choose(self, frames: Tensor, weights: Tensor | None, level: int) -> Tensor:
        size = self.sizes[level]
        if self.settings.init == "random":
            return random_codebook(frames, size)
        seed = self.settings.seed + level
        return k_means_plus_plus(frames, size, seed=seed, weights=weights)

    def _sample(self) -> list[WeightedReservoir]:
        size = self.settings.sample_per_code * max(self.sizes)
        samples = [WeightedReservoir(size) for _ in self.experts]
        dimension = 0
        for chunk in self.source.chunks():
            dimension = chunk.frames.shape[1]
            frames = chunk.frames.to(self.device)
            waits = exponential_of_index(chunk.index, self.settings.seed)
            for e, sample in enumerate(samples):
                sample.add(frames, chunk.weights[:, e], waits)
        dimension = largest(dimension, self.device)  # 0 where a shard is empty
        for sample in samples:
            join_reservoir(sample, dimension, self.device)
        return samples

    def _log(self, lines: list[dict], start: float) -> None:
        seconds = round(time.monotonic() - start, 3)
        self.progress.log += [line | {"seconds": seconds} for line in lines]
        self.progress.iteration += 1
        first = lines[0]
        logging.info(
            "level %d, iteration %d: %d experts, mean objective %.5g, %.2f s",
            first["level"],
            first["iteration"],
            len({line["expert"] for line in lines}),
            sum(line["objective"] for line in lines) / len(lines),
            seconds,
        )

    def _save_or_stop(self) -> None:
        """Save, if it is time; where SIGTERM has come to any process, end all."""
        stop = largest(int(self.held.came), self.device)
        finished = len(self.progress.codebooks) == len(self.sizes)
        start = time.monotonic()
        if stop or finished or start >= self.next_save:
            if self.checkpoint:
                self.progress.save(self.checkpoint)
            if self.log_file:
                with atomic_write(self.log_file) as stream:
                    stream.writelines(json.dumps(r) + "\n" for r in self.progress.log)
            now = time.monotonic()
            self.next_save = now + WORK_PER_SAVING * (now - start)
        if stop:
            raise InterruptedError(
                "stopped by SIGTERM, same command resumes at level "
                f"{len(self.progress.codebooks)}, iteration {self.progress.iteration}"
            )
