"""Bits per second of a code stream: nominal, entropy-coded, without repetitions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class StreamCounts:
    """Counts of the codes that a set of clips uses, gathered clip by clip.

    Attributes
    ----------
    sizes : sequence of L int
        Codebook size of each level.
    histograms : dict of (expert, level) to (K_l,) int64 array
    frames : int
    runs : int
        Frames whose codes differ from those of the frame before (in any level).
    clips : int
    """

    sizes: Sequence[int]
    histograms: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    frames: int = 0
    runs: int = 0
    clips: int = 0

    def add(self, codes: np.ndarray, experts: Sequence[str]) -> None:
        """Count one clip.

        Parameters
        ----------
        codes : (T, M * L) integer array
            One block of L levels for each expert.
        experts : sequence of M str
        """
        for m, expert in enumerate(experts):
            for level, size in enumerate(self.sizes):
                column = codes[:, m * len(self.sizes) + level]
                counts = np.bincount(column, minlength=size)
                key = (expert, level)
                self.histograms[key] = self.histograms.get(key, 0) + counts
        self.frames += len(codes)
        self.runs += 1 + int((codes[1:] != codes[:-1]).any(axis=1).sum())
        self.clips += 1


def ideal_bits(test: StreamCounts, train: StreamCounts) -> float:
    """Bits of an ideal entropy coder that learned its model on training clips.

    A static zero-order model for each expert and level, with one added to every count:
    ``-sum_k n_test(k) log2 ((n_train(k) + 1) / (N_train + K))``. So the figure is one
    that a real coder reaches on speech it has not seen.

    Parameters
    ----------
    test : StreamCounts
    train : StreamCounts

    Returns
    -------
    bits : float
        Of all test clips.
    """
    bits = 0.0
    for key, counts in test.histograms.items():
        seen = train.histograms.get(key, np.zeros_like(counts)) + 1.0
        bits -= float(counts @ np.log2(seen / seen.sum()))
    return bits


def bitrates(
    test: StreamCounts,
    train: StreamCounts,
    *,
    frame_rate_hz: float,
    n_streams: int,
    side_bits_per_clip: float,
    clip_test: StreamCounts | None = None,
    clip_train: StreamCounts | None = None,
) -> dict[str, float]:
    """Return the rates of the test clips.

    Parameters
    ----------
    test, train : StreamCounts
    frame_rate_hz : float
    n_streams : int
        Experts whose codes are sent (2 for a soft route).
    side_bits_per_clip : float
        Of the route and of all its clip codes.
    clip_test, clip_train : StreamCounts, optional
        Of clip codes: a window is a frame, a symbol a level.

    Returns
    -------
    rates : dict of str to float
        Bits/s: ``nominal`` = frame rate * streams * sum of log2 K; ``entropy``, see
        `ideal_bits`; ``side_info``, the route and the clip codes; ``deduplicated``,
        nominal bits of the frames that differ from the one before (durations are
        lost). With clip codes ``clip_nominal``, their part of ``side_info``, and
        ``clip_entropy``, see `ideal_bits`.
    """
    seconds = test.frames / frame_rate_hz
    per_frame = n_streams * sum(math.log2(size) for size in test.sizes)
    rates = {
        "nominal": frame_rate_hz * per_frame,
        "entropy": ideal_bits(test, train) / seconds,
        "side_info": side_bits_per_clip * test.clips / seconds,
        "deduplicated": test.runs * per_frame / seconds,
    }
    if clip_test is not None:
        per_window = sum(map(math.log2, clip_test.sizes))
        rates["clip_nominal"] = per_window * clip_test.frames / seconds
        rates["clip_entropy"] = ideal_bits(clip_test, clip_train) / seconds
    return rates


def usage(test: StreamCounts) -> Mapping[str, list[float]]:
    """Give, for each level, the share of codewords in use and entropy / log2 K.

    Averaged over experts, weighted by their frames.
    """
    used, entropy = [], []
    for level, size in enumerate(test.sizes):
        tables = [h for (_, at), h in test.histograms.items() if at == level]
        frames = np.array([table.sum() for table in tables], dtype=float)
        shares = [table / table.sum() for table in tables]
        bits = [-(s[s > 0] * np.log2(s[s > 0])).sum() for s in shares]
        alive = [np.count_nonzero(table) / size for table in tables]
        used.append(float(np.average(alive, weights=frames)))
        entropy.append(float(np.average(bits, weights=frames) / math.log2(size)))
    return {"used_share": used, "relative_entropy": entropy}
