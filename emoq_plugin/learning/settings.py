"""How codebooks are learned: every setting with its default and its bounds."""

import math
from dataclasses import dataclass

from emoq_plugin.files import check_ranges

ALGORITHMS = ("lloyd", "ema")
INITS = ("k-means++", "random")
LAST_SEED = 2**32  # torch and NumPy take these, also when epochs are added


@dataclass(frozen=True)
class LearningSettings:
    """How codebooks are learned.

    Attributes
    ----------
    algorithm : {"lloyd", "ema"}, default="lloyd"
        `lloyd` is exact weighted k-means, level after level; `ema` moves all levels by
        exponential averages of chunks, as arXiv 2603.21224 does.
    init : {"k-means++", "random"}, default="k-means++"
    max_iterations : int, default=20
        Passes over the data for a level (`lloyd`) or for all levels (`ema`).
    tolerance : float, default=1e-4
        An expert stops when a pass improves its objective by a smaller share.
    sample_per_code : int, default=8
        Frames for each codeword in the sample that the first codebook is made from.
    seed : int, default=0
    decay : float, default=0.99
        Of the exponential averages (`ema`).
    dead_threshold : float, default=2.0
        A codeword whose average count of frames in a chunk falls below it is re-seeded
        (`ema`).
    patience : int, default=5
        Passes without a better objective before an expert stops (`ema`).
    """

    algorithm: str = "lloyd"
    init: str = "k-means++"
    max_iterations: int = 20
    tolerance: float = 1e-4
    sample_per_code: int = 8
    seed: int = 0
    decay: float = 0.99
    dead_threshold: float = 2.0
    patience: int = 5

    def __post_init__(self) -> None:
        finite = math.inf
        check_ranges(
            self,
            [
                ("algorithm", self.algorithm in ALGORITHMS, f"one of {ALGORITHMS}"),
                ("init", self.init in INITS, f"one of {INITS}"),
                ("max_iterations", self.max_iterations >= 1, "at least 1"),
                ("tolerance", 0 <= self.tolerance < finite, "a number from 0"),
                ("sample_per_code", self.sample_per_code >= 1, "at least 1"),
                ("seed", 0 <= self.seed < LAST_SEED, f"0 to {LAST_SEED - 1}"),
                ("decay", 0 <= self.decay < 1, "a number from 0 to below 1"),
                ("dead_threshold", 0 <= self.dead_threshold < finite, "0 or more"),
                ("patience", self.patience >= 1, "at least 1"),
            ],
        )
