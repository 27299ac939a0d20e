"""Units of one recording in memory: codes, route, times, bits."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emoq_plugin.routing.base import Route
from emoq_plugin.units.clip_tokens import ClipVocabulary
from emoq_plugin.units.text import deduplicate, to_cjk


@dataclass(frozen=True)
class Units:
    """Units of one recording.

    Attributes
    ----------
    codes : (T, M * L) int64 array
        A block of L levels for each of the M experts of the route.
    route : dict of str to float
        Mixing weight by expert; one expert with weight 1 unless the router is `soft`.
    n_levels : int
        L.
    sizes : list of L int
        Codewords of each level.
    seconds : float
        Duration of the recording.
    bits : float
        Nominal, codes, route and clip codes.
    frame_rate_hz : float
    clip_codes : (N, C) int64 array, optional
        Of N windows, or of the whole recording; None without a clip code.
    clip_sizes : list of C int
        Alphabet of each symbol of a clip code.
    """

    codes: np.ndarray
    route: Route
    n_levels: int
    sizes: list[int]
    seconds: float
    bits: float
    frame_rate_hz: float
    clip_codes: np.ndarray | None = None
    clip_sizes: list[int] = field(default_factory=list)

    @property
    def times(self) -> np.ndarray:
        """Return the start of each frame, (T,) seconds."""
        return np.arange(len(self.codes)) / self.frame_rate_hz

    @property
    def bits_per_second(self) -> float:
        """Nominal rate of this recording, route and clip codes included."""
        return self.bits / self.seconds

    def stream(self, level: int = 0, *, repeat: bool = True) -> np.ndarray:
        """Return the ids of one level, behind the tokens of the clip codes if any.

        Clip tokens are counted from the codebook size on, see `ClipVocabulary`.

        Parameters
        ----------
        level : int, default=0
        repeat : bool, default=True
            False drops units that repeat the one before.

        Returns
        -------
        ids : (T',) int64 array
        """
        codes = self.codes[:, level]
        codes = codes if repeat else deduplicate(codes)
        if self.clip_codes is None:
            return codes
        vocabulary = ClipVocabulary(self.sizes[level], self.clip_sizes)
        return vocabulary.join(self.clip_codes, codes)

    def cjk(self, level: int = 0, *, repeat: bool = True) -> str:
        """Write `stream` as ESPnet's asr2 does, one CJK character a unit.

        Parameters
        ----------
        level : int, default=0
        repeat : bool, default=True
            False drops units that repeat the one before.

        Raises
        ------
        ValueError
            For more codewords than characters.
        """
        return to_cjk(self.stream(level, repeat=repeat))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as numbers, lists and text, for JSON."""
        values: dict[str, Any] = {
            "codes": self.codes.tolist(),
            "route": self.route,
            "n_levels": self.n_levels,
            "sizes": self.sizes,
            "frame_rate_hz": self.frame_rate_hz,
            "seconds": round(self.seconds, 6),
            "bits_per_second": round(self.bits_per_second, 6),
        }
        if self.clip_codes is not None:
            values["clip_codes"] = self.clip_codes.tolist()
            values["clip_sizes"] = self.clip_sizes
        return values
