"""What every command shares: parser habits, logging, errors without a traceback."""

import argparse
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence

from emoq_plugin.recipe.stage import FinishedMeanwhile


def str2bool(text: str) -> bool:
    """Read `true` or `false` as ESPnet's options spell them."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")


def run_command(
    get_parser: Callable[[], argparse.ArgumentParser],
    work: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None = None,
    *,
    passes_on: bool = False,
) -> None:
    """Parse, log the call, do the work, report seconds and peak memory.

    A `ValueError` or `OSError` is the user's to mend: it is shown as one message and
    ends with exit status 1. `EMOQ_DEBUG=1` shows the traceback too. Work that another
    process has finished while this one waited for it is done. A command that
    `passes_on` options finds those that are not its own in `options.others`.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
    )
    parser = get_parser()
    if passes_on:
        options, others = parser.parse_known_args(arguments)
        options.others = others
    else:
        options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        work(options)
    except FinishedMeanwhile as news:
        logging.info("%s: nothing to do", news)
    except (ValueError, OSError) as error:
        if os.environ.get("EMOQ_DEBUG"):
            raise
        logging.error("%s", error)
        sys.exit(1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    logging.info(
        "%s: %.1f s, peak memory %.2f GiB", parser.prog, time.monotonic() - start, peak
    )
