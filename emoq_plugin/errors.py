"""Which errors the user can mend, and their messages."""

import dis
import os
import re
from pathlib import Path

import emoq_plugin
from emoq_plugin.devices import is_out_of_memory

PACKAGE = Path(emoq_plugin.__file__).parent
DEBUG = "EMOQ_DEBUG"
# Modules whose errors are about the bytes of a file.
READERS = ("_pickle", "json", "pickle", "safetensors", "safetensors_rust", "soundfile")
READERS += ("tarfile", "yaml", "zipfile", "zlib")
_WORKER_FRAME = re.compile(r'^ *File "(.+)", line \d+, in .+\n +(.+)$', re.MULTILINE)


def debugging() -> bool:
    """Return whether messages come with their tracebacks."""
    return bool(os.environ.get(DEBUG))


def explain(error: BaseException, own: Path = PACKAGE) -> str | None:
    """Return the message of an error that the user can mend.

    Parameters
    ----------
    error : BaseException
    own : Path
        Directory whose code is ours, besides that of the package.

    Returns
    -------
    message : str or None
        For what the system says of files (`OSError`), for memory that does not suffice,
        for packages that are absent, for damaged files, and for a `ValueError` of one
        of our own `raise` statements. None for anything else, such as a `ValueError` of
        NumPy or of ``float(...)``: a fault of Emo-Q, whose traceback is needed.
    """
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        return (
            f"memory does not suffice ({text.splitlines()[0]}): use a machine or GPU "
            "with more, fewer jobs at a time, or shorter recordings"
        )
    if isinstance(error, ImportError):
        if (error.name or "").startswith("emoq_plugin"):
            return None
        return f"{text}: install it in this environment, see README.md (set-up)"
    if isinstance(error, OSError):
        return str(error)
    if isinstance(error, ValueError) and _is_deliberate(error, own):
        return str(error)
    module = type(error).__module__.partition(".")[0]
    if module in READERS or isinstance(error, UnicodeError):
        return f"a file is damaged or of another kind: {text}; --debug shows which"
    return None


def _is_deliberate(error: BaseException, own: Path) -> bool:
    """Return whether a `raise` statement of ours made error, here or in a worker."""
    worker = getattr(error.__cause__, "tb", None)
    if isinstance(worker, str):  # the traceback that concurrent.futures has kept
        file, line = (_WORKER_FRAME.findall(worker) or [("", "")])[-1]
        raised = line.startswith("raise")
    else:
        place = error.__traceback__
        if place is None:
            return False
        while place.tb_next:
            place = place.tb_next
        code = place.tb_frame.f_code
        file = code.co_filename
        raised = dis.opname[code.co_code[place.tb_lasti]] == "RAISE_VARARGS"
    return raised and any(Path(file).is_relative_to(at) for at in (PACKAGE, own))
