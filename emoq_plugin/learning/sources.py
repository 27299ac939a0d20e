"""Where frames come from: chunks of frames with a weight for every expert."""

import contextlib
import copy
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Chunk:
    """A piece of the stream.

    Attributes
    ----------
    frames : (N, D) float32 Tensor
    weights : (N, E) float32 Tensor
        Weight of every frame for every expert; zero means that the frame does not
        exist for that expert.
    index : (N,) int64 array
        Position of each frame in the whole stream, equal for any chunking or sharding.
    """

    frames: Tensor
    weights: Tensor
    index: np.ndarray


class FrameSource(ABC):
    """Stream of frames in a fixed order, read once for every pass over the data.

    Parameters
    ----------
    weights : (R, E) array
        Weight of every row (frame or utterance) for every expert, not negative.
    chunk_frames : int
    prefetch : int
        Chunks prepared in the background; 0 reads in the caller's thread.

    Raises
    ------
    ValueError
        If a weight is negative or not finite.
    """

    def __init__(self, weights: np.ndarray, *, chunk_frames: int, prefetch: int):
        weights = np.asarray(weights, dtype=np.float32)
        if weights.ndim != 2:
            raise ValueError(
                f"weights have shape {weights.shape}, expected (rows, experts)"
            )
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError("weights must be finite and not negative")
        self.weights = weights
        self.chunk_frames = chunk_frames
        self.prefetch = prefetch

    @property
    def n_experts(self) -> int:
        """Number of columns of the weights."""
        return self.weights.shape[1]

    @abstractmethod
    def expert_frames(self) -> np.ndarray:
        """Return the number of frames of non-zero weight, (E,) int64."""

    @abstractmethod
    def shard(self, rank: int, n_shards: int) -> "FrameSource":
        """Return the part of the stream that process `rank` of `n_shards` reads.

        Positions (and so every random draw) stay those of the whole stream.
        """

    @abstractmethod
    def _cut(self, order_seed: int | None) -> Iterator[Chunk]:
        """Read the stream once, in the caller's thread."""

    def chunks(self, order_seed: int | None = None) -> Iterator[Chunk]:
        """Read the stream once.

        Parameters
        ----------
        order_seed : int, optional
            Shuffle (for stochastic learning); positions stay.

        Yields
        ------
        chunk : Chunk
        """
        chunks = self._cut(order_seed)
        return _in_background(chunks, self.prefetch) if self.prefetch else chunks


class ArraySource(FrameSource):
    """Stream of an array in memory.

    Parameters
    ----------
    frames : (N, D) float32 array
    weights : (N, E) array, optional
        One expert that weighs every frame equally when absent.
    chunk_frames : int, default=8192

    Raises
    ------
    ValueError
        For frames that are NaN or infinite (with the first position) and for weights
        that do not fit.
    """

    def __init__(
        self,
        frames: np.ndarray,
        weights: np.ndarray | None = None,
        *,
        chunk_frames: int = 8192,
    ):
        self.frames = np.ascontiguousarray(frames, dtype=np.float32)
        if weights is None:
            weights = np.ones((len(frames), 1), dtype=np.float32)
        super().__init__(weights, chunk_frames=chunk_frames, prefetch=0)
        if len(self.weights) != len(self.frames):
            raise ValueError(
                f"{len(self.weights)} rows of weights for {len(self.frames)} frames"
            )
        bad = ~np.isfinite(self.frames.sum(axis=1))
        if bad.any():
            raise ValueError(f"frame {bad.argmax()} is NaN or infinite")
        self.rows = np.flatnonzero(self.weights.any(axis=1))

    def expert_frames(self) -> np.ndarray:
        """Return the number of frames of non-zero weight, (E,) int64."""
        return (self.weights > 0).sum(axis=0)

    def shard(self, rank: int, n_shards: int) -> "ArraySource":
        """Return one of `n_shards` equal stretches, which are read without a copy."""
        part = copy.copy(self)
        part.rows = np.array_split(self.rows, n_shards)[rank]
        return part

    def _cut(self, order_seed: int | None) -> Iterator[Chunk]:
        rows = self.rows
        if order_seed is not None:
            rows = np.random.default_rng(order_seed).permutation(rows)
        for start in range(0, len(rows), self.chunk_frames):
            part = rows[start : start + self.chunk_frames]
            if part[-1] - part[0] == len(part) - 1 and order_seed is None:
                where = slice(part[0], part[-1] + 1)  # a view: no copy of the frames
            else:
                where = part
            yield Chunk(
                torch.from_numpy(self.frames[where]),
                torch.from_numpy(self.weights[where]),
                part,
            )


class UtteranceSource(FrameSource):
    """Stream of utterances cut into chunks of equal size, in a fixed order.

    Padding cannot occur: only frames of utterances enter, and chunks cross utterance
    borders. Memory is set by `chunk_frames` and the longest utterance.

    Parameters
    ----------
    read : callable
        ``read(names) -> iterable of (name, (T, D) float32 array)`` in the order of
        `names`: an ark reader, an encoder on the fly, a dictionary of arrays.
    lengths : dict of str to int
        Frames of each utterance; its order is the order of the stream.
    weights : (U, E) array
        Weight of every utterance (that is, of each of its frames) for every expert.
    chunk_frames : int, default=4096
    prefetch : int, default=2
        Chunks prepared in the background; 0 reads in the caller's thread.
    keep : bool, default=False
        Hold all chunks in memory, so that utterances are read and checked once and not
        in every pass.

    Raises
    ------
    ValueError
        While reading: NaN or infinite frames, or a length that differs from `lengths`,
        with the name of the utterance.
    """

    def __init__(
        self,
        read: Callable[[list[str]], Iterable[tuple[str, np.ndarray]]],
        lengths: dict[str, int],
        *,
        weights: np.ndarray,
        chunk_frames: int = 4096,
        prefetch: int = 2,
        keep: bool = False,
    ):
        super().__init__(weights, chunk_frames=chunk_frames, prefetch=prefetch)
        if len(self.weights) != len(lengths):
            raise ValueError(
                f"{len(self.weights)} rows of weights for {len(lengths)} utterances"
            )
        self.read = read
        self.keep = keep
        self._kept: list[Chunk] | None = None
        self.lengths = dict(lengths)
        # Utterances without weight for any expert are not even read.
        self.names = [n for n, w in zip(self.lengths, self.weights) if w.any()]
        starts = np.cumsum([0, *self.lengths.values()])
        self._row = {name: row for row, name in enumerate(self.lengths)}
        self._start = dict(zip(self.lengths, starts))

    def expert_frames(self) -> np.ndarray:
        """Return the number of frames of non-zero weight, (E,) int64."""
        lengths = np.fromiter(self.lengths.values(), dtype=np.int64)
        return ((self.weights > 0) * lengths[:, None]).sum(axis=0)

    def shard(self, rank: int, n_shards: int) -> "UtteranceSource":
        """Return every `n_shards`-th utterance, starting at `rank`."""
        part = copy.copy(self)
        part.names = self.names[rank::n_shards]
        part._kept = None
        return part

    def chunks(self, order_seed: int | None = None) -> Iterator[Chunk]:
        """Read the stream once; see `FrameSource.chunks`."""
        if not self.keep or order_seed is not None:
            return super().chunks(order_seed)
        return self._keeping() if self._kept is None else iter(self._kept)

    def _keeping(self) -> Iterator[Chunk]:
        """Read on as chunks are asked for; who wants the first reads no more."""
        kept = []
        for chunk in super().chunks():
            kept.append(chunk)
            yield chunk
        self._kept = kept

    def _cut(self, order_seed: int | None) -> Iterator[Chunk]:
        names = list(self.names)
        if order_seed is not None:
            np.random.default_rng(order_seed).shuffle(names)
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        waiting = 0
        for name, frames in self.read(names):
            self._check(name, frames)
            row, start = self._row[name], self._start[name]
            weight = np.broadcast_to(self.weights[row], (len(frames), self.n_experts))
            parts.append((frames, weight, np.arange(start, start + len(frames))))
            waiting += len(frames)
            if waiting >= self.chunk_frames:
                joined = _join(parts)
                full = waiting - waiting % self.chunk_frames
                for begin in range(0, full, self.chunk_frames):
                    end = begin + self.chunk_frames
                    yield _as_chunk([column[begin:end] for column in joined])
                parts = [tuple(column[full:] for column in joined)]
                waiting -= full
        if waiting:
            yield _as_chunk(_join(parts))

    def _check(self, name: str, frames: np.ndarray) -> None:
        if len(frames) != self.lengths[name]:
            raise ValueError(
                f"utterance '{name}' has {len(frames)} frames, "
                f"expected {self.lengths[name]}"
            )
        # A sum is NaN or infinite if any element is: one pass, no temporary array.
        if not np.isfinite(frames.sum(dtype=np.float64)):
            bad = int((~np.isfinite(frames)).any(axis=1).argmax())
            raise ValueError(
                f"utterance '{name}': frame {bad} is NaN or infinite: "
                "dump its features again"
            )


def _join(parts: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    return [np.concatenate(column) for column in zip(*parts)]


def _as_chunk(arrays: list[np.ndarray]) -> Chunk:
    frames, weights, index = (np.ascontiguousarray(a) for a in arrays)
    return Chunk(torch.from_numpy(frames), torch.from_numpy(weights), index)


def _in_background(chunks: Iterator[Chunk], depth: int) -> Iterator[Chunk]:
    """Prepare chunks in a thread, `depth` ahead; its errors reach the caller."""
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stop = threading.Event()
    end = object()

    def put(item: object) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                break

    def work() -> None:
        try:
            for chunk in chunks:
                put(chunk)
                if stop.is_set():
                    return
            put(end)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
