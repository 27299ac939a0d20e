"""Progress of long loops: a tqdm bar on a terminal, in a log a line per 10 %.

A log gets no more than a line a second, and always the last.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Iterator

from tqdm import tqdm

SECONDS = 1.0  # between two lines


class Progress:
    """Shows how much of a total is done, unless `--quiet` is set.

    Parameters
    ----------
    total : int
    what : str
        Begins the line.
    unit : str, default=""
        Of the total; items where empty.
    """

    def __init__(self, total: int, what: str, unit: str = ""):
        self._total, self._what, self._unit = total, what, unit
        self._done, self._tenth = 0, 0
        self._start = self._said = time.monotonic()
        self._bar = None
        is_quiet = not logging.getLogger().isEnabledFor(logging.INFO)
        if sys.stderr.isatty() and not is_quiet:
            many = {"unit": unit, "unit_scale": True} if unit else {}
            self._bar = tqdm(total=total, desc=what, **many)

    def add(self, amount: int) -> None:
        """Count what is done."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(amount)
            return
        tenth = 10 * self._done // max(self._total, 1)
        now = time.monotonic()
        due = now - self._said >= SECONDS or self._done >= self._total
        if tenth > self._tenth and due:
            self._tenth, self._said = tenth, now
            unit = f" {self._unit}" if self._unit else ""
            logging.info(
                "%s: %d of %d%s (%d %%), %.1f s",
                *(self._what, self._done, self._total, unit),
                *(10 * tenth, now - self._start),
            )

    def reach(self, amount: int) -> None:
        """Say how much is done in all; less than was counted changes nothing."""
        self.add(max(0, amount - self._done))

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def progress[Item](items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield `items` and show how many of `total` are done, unless `--quiet` is set."""
    shown = Progress(total, what)
    with contextlib.closing(shown):
        for item in items:
            yield item
            shown.add(1)
