"""Rates of units: `64x2`, K codewords and L levels, in options and directories."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """Codebook size and number of levels; rates are ordered by their bits.

    Attributes
    ----------
    size : int
        Codewords of each level.
    n_levels : int
        0 in `NO_FRAMES`.

    Examples
    --------
    >>> rate = Rate.parse("64x2")
    >>> str(rate), rate.sizes, rate.bits
    ('64x2', [64, 64], 12.0)
    >>> min(rate, Rate(16, 2), Rate(64, 4))
    Rate(size=16, n_levels=2)
    """

    size: int
    n_levels: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``<K>x<L>``.

        Raises
        ------
        ValueError
            For another form, K below 2 or L below 1.
        """
        match = re.fullmatch(r"(\d+)x(\d+)", text)
        if not match or int(match[1]) < 2 or int(match[2]) < 1:
            raise ValueError(
                f"rate '{text}' is not <K>x<L> with K >= 2 codewords and L >= 1 "
                "levels, such as 64x1"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.size}x{self.n_levels}" if self.n_levels else "none"

    def __lt__(self, other: "Rate") -> bool:
        return (self.bits, self.n_levels) < (other.bits, other.n_levels)

    @property
    def sizes(self) -> list[int]:
        """Codebook size of each level."""
        return [self.size] * self.n_levels

    @property
    def bits(self) -> float:
        """Bits of a frame in one stream."""
        return self.n_levels * math.log2(self.size)

    def serves(self, other: "Rate") -> bool:
        """Return whether codebooks of this rate hold those of another.

        Residual levels are nested: the first levels of 64x4 are 64x1 and 64x2.
        """
        fits = self.size == other.size or other == NO_FRAMES
        return fits and self.n_levels >= other.n_levels


# Of systems that send no frame codes: a clip code or a label alone.
NO_FRAMES = Rate(1, 0)


def deepest(rates: Iterable[Rate]) -> list[Rate]:
    """Return the rates that serve all: by codebook size the one with most levels.

    Examples
    --------
    >>> [str(rate) for rate in deepest(map(Rate.parse, ["2x4", "64x1", "64x4"]))]
    ['2x4', '64x4']
    """
    found: dict[int, Rate] = {}
    for rate in rates:
        if rate.size not in found or rate.serves(found[rate.size]):
            found[rate.size] = rate
    return list(found.values())
