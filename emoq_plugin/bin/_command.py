"""What every command shares: parser habits, logging, errors without a traceback."""

import argparse
import contextlib
import logging
import os
import resource
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from emoq_plugin.devices import use_threads
from emoq_plugin.errors import DEBUG, debugging, explain
from emoq_plugin.options import str2bool as str2bool
from emoq_plugin.options import whole
from emoq_plugin.recipe.stage import FinishedMeanwhile

# How much is logged: an option, of which the second and third sign are its short form.
VERBOSITY = (
    ("--quiet", logging.WARNING, "log only warnings and errors, show no progress"),
    ("--verbose", logging.DEBUG, "log also which files are read and written"),
)
LEVEL = "logging_level"  # where parsed options keep it


def run_command(
    get_parser: Callable[[], argparse.ArgumentParser],
    work: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None = None,
    *,
    passes_on: bool = False,
) -> None:
    """Parse, log the call, do the work, report seconds and peak memory.

    An error that the user can mend (see `explain`) is shown as one message and ends
    with exit status 1; `--debug`, or `EMOQ_DEBUG=1`, shows its traceback too. Any other
    error is a fault of Emo-Q and keeps its traceback. Work that another process has
    finished while this one waited for it is done, and so is work whose reader (`| head
    -1`) wants no more. `--quiet` leaves only warnings and errors on standard error,
    `--verbose` adds what is read and written. A command that `passes_on` options finds
    those that are not its own in `options.others`.
    """
    handler = logging.StreamHandler()
    handler.addFilter(_is_ours)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
        handlers=[handler],
    )
    parser, own = get_parser(), Path(work.__code__.co_filename).parent
    with readers_may_leave(), _same_level_afterwards():
        start = time.monotonic()
        try:
            work(_parse(parser, arguments, passes_on=passes_on))
            _flush()
        except FinishedMeanwhile as news:
            logging.info("%s: nothing to do", news)
        except Exception as error:
            if _reader_has_left(error) or (message := explain(error, own)) is None:
                raise
            _drop_output()
            logging.error("%s", message, exc_info=error if debugging() else None)
            sys.exit(1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        seconds = time.monotonic() - start
        logging.info("%s: %.1f s, peak memory %.2f GiB", parser.prog, seconds, peak)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command."""
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of every error"
    )
    parser.add_argument(
        "--num_threads",
        type=whole(1),
        metavar="N",
        help="threads of one process on the CPU; as OMP_NUM_THREADS says, or one a "
        "core, when left out",
    )
    how_much = parser.add_mutually_exclusive_group()
    for name, level, text in VERBOSITY:
        how_much.add_argument(
            name[1:3], name, dest=LEVEL, action="store_const", const=level, help=text
        )


def _parse(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    *,
    passes_on: bool,
) -> argparse.Namespace:
    add_common(parser)
    if passes_on:
        options, others = parser.parse_known_args(arguments)
        options.others = others
    else:
        options = parser.parse_args(arguments)
    # Not options of the work, which may spell its options for other processes; these
    # have them from the environment.
    if vars(options).pop("debug"):
        os.environ[DEBUG] = "1"
    if n_threads := vars(options).pop("num_threads"):
        use_threads(n_threads)
    if level := vars(options).pop(LEVEL):
        logging.getLogger().setLevel(level)
    return options


def _is_ours(record: logging.LogRecord) -> bool:
    """Keep what other packages say only to their developers out of `--verbose`."""
    return record.levelno > logging.DEBUG or record.name == "root"


@contextlib.contextmanager
def _same_level_afterwards() -> Iterator[None]:
    """Let `--quiet` and `--verbose` end with the command that has them."""
    root = logging.getLogger()
    before = root.level
    try:
        yield
    finally:
        root.setLevel(before)


# ------------------------------------------------------------------- standard output


@contextlib.contextmanager
def readers_may_leave() -> Iterator[None]:
    """End in silence when who reads standard output wants no more (`| head -1`)."""
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError as error:
        if not _reader_has_left(error):  # the pipe of a child, for example
            raise
        _drop_output()
        ended = error.__context__  # before the last words were to be written
        sys.exit(ended.code if isinstance(ended, SystemExit) else 0)


def _flush() -> None:
    if sys.stdout is not None:  # None where a shell has closed it
        sys.stdout.flush()


def _reader_has_left(error: BaseException) -> bool:
    if not isinstance(error, BrokenPipeError):
        return False
    with contextlib.suppress(OSError, ValueError):  # standard output is no file
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


def _drop_output() -> None:
    """Keep Python from trying again, at its exit, what could not be written."""
    with contextlib.suppress(OSError, ValueError):
        _flush()
        return
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
