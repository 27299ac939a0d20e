"""Progress of long loops: a tqdm bar on a terminal, a line per 10 % in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator

from tqdm import tqdm


def progress[Item](items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield `items` and show how many of `total` are done, unless `--quiet` is set."""
    if not logging.getLogger().isEnabledFor(logging.INFO):  # --quiet
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what)
        return
    start, shown = time.monotonic(), 0
    for count, item in enumerate(items, 1):
        yield item
        tenth = 10 * count // max(total, 1)
        if tenth > shown:
            shown = tenth
            seconds = time.monotonic() - start
            logging.info(
                "%s: %d of %d (%d %%), %.1f s", what, count, total, 10 * tenth, seconds
            )
