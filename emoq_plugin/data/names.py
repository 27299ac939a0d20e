"""Names that every stage takes: of emotions, utterances and tables."""

import logging
import re
from pathlib import Path

from emoq_plugin.files import MAX_NAME

# Of the files that stage 2 names after utterances.
AUDIO_SUFFIX = ".flac"
MAX_ID = MAX_NAME - len(AUDIO_SUFFIX)
# How the names of copies end that people and programs keep beside a table; further
# ones have a dot, a tilde or a blank.
COPIES = ("_old", "_bak", "_backup", "_orig", "_copy")


def emotion_fault(name: str) -> str:
    """Say why a word cannot be the name of an emotion; empty where it can."""
    if not re.fullmatch(r"[^\s=/]+", name):
        return "expected one emotion name without spaces, '=' and '/'"
    if name.startswith("-"):
        return "expected an emotion name that does not begin as options do, with '-'"
    return ""


def id_fault(utterance: str) -> str:
    """Say why a word cannot be an utterance id; empty where it can."""
    for bad in {"/", "\0"} & set(utterance):
        return f"{bad!r} in {utterance!r}: ids become file names"
    if (size := len(utterance.encode())) > MAX_ID:
        return (
            f"id '{utterance[:40]}...' has {size} bytes, expected at most {MAX_ID}: "
            "ids become file names"
        )
    return ""


def further_tables(path: Path, prefix: str) -> list[str]:
    """Name the tables `<prefix>*` of a data directory; copies are not among them.

    Parameters
    ----------
    path : Path
    prefix : {"utt2", "spk2"}

    Returns
    -------
    list of str
        Sorted.
    """
    names = sorted(p.name for p in path.glob(f"{prefix}*") if p.is_file())
    tables = [n for n in names if re.fullmatch(r"\w+", n) and not n.endswith(COPIES)]
    if copies := sorted({*names} - {*tables}):
        logging.warning(
            "%s: %d files passed over that are no tables by their names: %s",
            *(path, len(copies), ", ".join(copies)),
        )
    return tables
