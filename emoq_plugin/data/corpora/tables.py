"""Reading what corpora are distributed as: trees, CSV tables, old encodings."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path


def files(directory: Path, pattern: str) -> list[tuple[Path, re.Match]]:
    """Find files by name below a directory, sorted, at any depth.

    Parameters
    ----------
    directory : Path
    pattern : str
        Regular expression that the whole file name must match, in any case.

    Returns
    -------
    list of (Path, match)
        Without hidden files and what macOS leaves in archives.
    """
    expression = re.compile(pattern, re.IGNORECASE)
    found = []
    for path in directory.rglob("*"):
        match = expression.fullmatch(path.name)
        inside = path.relative_to(directory).parts
        if match and "__MACOSX" not in inside and path.is_file():
            found.append((path, match))
    return sorted(found, key=lambda pair: pair[0])


def first_of(directory: Path, *names: str) -> Path:
    """Give the first of several names that exists, at any depth.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    for name in names:
        if (directory / name).exists():
            return directory / name
    for name in names:
        if found := sorted(directory.rglob(name)):
            return found[0]
    raise FileNotFoundError(f"{directory}: found no {' or '.join(names)}")


def read_text(path: Path, *encodings: str) -> str:
    """Read a text file in the first encoding that fits, UTF-8 before all others."""
    raw = path.read_bytes()
    for encoding in ("utf-8-sig", *encodings):
        try:
            return raw.decode(encoding)
        except UnicodeError:
            continue
    return raw.decode("iso-8859-1")


def rows(
    path: Path, columns: Sequence[str], *, delimiter: str = ",", encoding: str = ""
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a table with a header line.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        Columns that must be there.
    delimiter : str, default=","
    encoding : str, optional
        Tried where the file is not UTF-8.

    Yields
    ------
    line : int
        Last line of the row.
    row : dict of str to str
        Values without surrounding blanks.

    Raises
    ------
    ValueError
        If a column is missing or a row is too short, with file and line.
    """
    text = read_text(path, *([encoding] if encoding else []))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = header
    if missing := [c for c in columns if c not in header]:
        raise ValueError(
            f"{path}:1: no column {', '.join(missing)}, found: {', '.join(header)}"
        )
    for row in reader:
        if short := [c for c in columns if row.get(c) is None]:
            raise ValueError(f"{path}:{reader.line_num}: no value of {short[0]}")
        yield reader.line_num, {
            key: (value or "").strip() for key, value in row.items() if key is not None
        }
