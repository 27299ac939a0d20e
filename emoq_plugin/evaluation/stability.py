"""How many units stay when a recording is changed in what does not matter."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from emoq_plugin.units.clip_units import Units


@dataclass
class Shares:
    """Shares of units that stay, over recordings.

    Examples
    --------
    >>> one = Units(np.array([[1], [2]]), {"a": 1.0}, 1, [4], 0.04, 4.0, 50.0)
    >>> two = Units(np.array([[1], [3]]), {"a": 1.0}, 1, [4], 0.04, 4.0, 50.0)
    >>> shares = Shares()
    >>> shares.add(one, two)
    >>> shares.means()["frame codes"], shares.means()["routes"]
    (0.5, 1.0)
    """

    _counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, before: Units, after: Units, *, speed: float = 1.0) -> None:
        """Compare the units of a recording.

        Parameters
        ----------
        before, after : Units
            Of one quantizer.
        speed : float, default=1.0
            How much faster time passes in `after`.
        """
        same_route = before.route.keys() == after.route.keys()
        self._count("routes", [same_route])
        moments = (np.arange(len(after.codes)) + 0.5) * speed
        frames = np.minimum(moments.astype(int), len(before.codes) - 1)
        # Codes of different experts mean different things, whatever their numbers.
        same = (before.codes[frames] == after.codes) & same_route
        for level in range(before.n_levels):
            name = f"frame codes, level {level + 1}" if level else "frame codes"
            self._count(name, same[:, level :: before.n_levels].ravel())
        if before.clip_codes is not None and after.clip_codes is not None:
            n = min(len(before.clip_codes), len(after.clip_codes))
            kept = before.clip_codes[:n] == after.clip_codes[:n]
            self._count("symbols of clip codes", kept.ravel())
            self._count("clip codes", kept.all(axis=1))

    def _count(self, name: str, kept: Sequence[bool] | np.ndarray) -> None:
        total, all_ = self._counts.get(name, (0, 0))
        self._counts[name] = (total + int(np.sum(kept)), all_ + len(kept))

    def means(self) -> dict[str, float]:
        """Return the share of each kind of unit, over all recordings."""
        return {name: kept / all_ for name, (kept, all_) in self._counts.items()}


def table_of_shares(rows: Iterable[tuple[str, dict[str, float]]]) -> str:
    """Return a Markdown table: a line a disturbance, a column a kind of unit."""
    rows = list(rows)
    kinds = list(rows[0][1])
    lines = [f"| % that stay | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for name, shares in rows:
        cells = " | ".join(f"{100 * shares[kind]:.1f}" for kind in kinds)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)
