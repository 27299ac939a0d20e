"""Reading what corpora are distributed as: trees, tables, old encodings."""

import codecs
import csv
import filecmp
import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from emoq_plugin.data.tree import listed, walk

# Excel writes tables divided by these with quotes; tabs and | have no quoting.
QUOTED = (",", ";")
DELIMITERS = {"\t": "tabs", "|": "|", ",": "commas", ";": "semicolons"}
# The longer marks first: one begins as a shorter one does.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WORKBOOKS = (b"PK\3\4", b"\xd0\xcf\x11\xe0")  # xlsx and ods, xls
# How people and programs write that there is no value.
NOTHING = {"", "-", "--", "?", "na", "n/a", "nan", "none", "null"}


def given(value: str) -> str:
    """Return a value without blanks around it, empty where it means none.

    Examples
    --------
    >>> given(" sad "), given("-"), given("NaN")
    ('sad', '', '')
    """
    value = value.strip()
    return "" if value.lower() in NOTHING else value


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
        As `walk` lists them: linked folders too, no hidden files.
    """
    expression = re.compile(pattern, re.IGNORECASE)
    found = ((path, expression.fullmatch(path.name)) for path in walk(directory).files)
    return [(path, match) for path, match in found if match]


def first_of(directory: Path, *names: str) -> Path:
    """Return the first of several names that exists, at any depth.

    Parameters
    ----------
    directory : Path
    *names : str
        Of files or folders, in the order in which they are preferred.

    Returns
    -------
    Path
        The one nearest to `directory` where there are several of one name.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If two are equally near and not the same.
    """
    for name in names:
        if (directory / name).exists():
            return directory / name
    tree = walk(directory)
    there = sorted([*tree.files, *tree.folders], key=lambda p: (len(p.parts), p))
    for name in names:
        first, *others = [path for path in there if path.name == name] or [None]
        if first is None:
            continue
        for other in others:
            if len(other.parts) == len(first.parts) and not _same(first, other):
                raise ValueError(
                    f"two are called {name}, expected one: {first} and {other}"
                )
        if name != names[0]:
            logging.info("%s is read: found no %s", first, names[0])
        if others:
            logging.info("%s is read, not %s", first, ", ".join(map(str, others)))
        return first
    raise FileNotFoundError(f"{directory}: found no {' or '.join(names)}")


def only(found: Iterable[str], path: Path, what: str) -> str:
    """Return the one value that the folders of a file name, empty where there is none.

    Raises
    ------
    ValueError
        If there are several.
    """
    values = list(dict.fromkeys(found))
    if len(values) > 1:
        raise ValueError(
            f"{path}: its folders name several {what}, {', '.join(values)}, expected "
            "one"
        )
    return values[0] if values else ""


class UnknownEncoding(ValueError):
    """A file is not in the encodings that it was read as."""


def read_text(path: Path, encoding: str = "") -> str:
    """Read a text file: UTF-8, or UTF-16 and UTF-32 with a byte order mark.

    Parameters
    ----------
    path : Path
    encoding : str, optional
        That of a file which is not UTF-8, for example `cp1252`. Without it such a file
        is refused: bytes alone do not show their encoding.

    Raises
    ------
    ValueError
        If it is none of these, with file and line.
    """
    raw = path.read_bytes()
    if raw.startswith(WORKBOOKS):
        raise ValueError(
            f"{path}: a zip archive or an Excel file, expected text: save it as CSV"
        )
    marked = next((name for mark, name in MARKS if raw.startswith(mark)), "")
    tried = [marked] if marked else ["utf-8-sig", *filter(None, [encoding])]
    for name in tried:
        try:
            text = raw.decode(name)
            break
        except UnicodeDecodeError as error:
            line, reason = raw.count(b"\n", 0, error.start) + 1, error.reason
    else:
        names = " and not ".join(tried).replace("utf-8-sig", "UTF-8")
        raise UnknownEncoding(
            f"{path}:{line}: not {names} ({reason}): save it as UTF-8"
        )
    if name != tried[0]:
        logging.info("%s is not UTF-8, read as %s", path, encoding)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(
            f"{path}:{line}: a NUL, expected text: UTF-16 without a byte order mark? "
            "Save it as UTF-8"
        )
    return text


def read_texts(paths: Mapping[str, Path], encoding: str = "") -> dict[str, str]:
    """Read text files of one clip each, where they exist; report those that are broken.

    Parameters
    ----------
    paths : mapping of str to Path
        By clip.
    encoding : str, optional
        As of `read_text`.
    """
    texts: dict[str, str] = {}
    broken = []
    for name, path in paths.items():
        if path.is_file():
            try:
                texts[name] = read_text(path, encoding)
            except (ValueError, OSError) as error:
                broken.append(str(error))
    if broken:
        logging.warning("no words are read of %s", listed({"files": broken}))
    return texts


def optional_table[T](read: Callable[[], T], nothing: T, what: str) -> T:
    """Call a reader of what a corpus can do without; say why it is lacking.

    Parameters
    ----------
    read : function without arguments
    nothing : anything
        Given where the reader raises ValueError or OSError.
    what : str
        For the message, in the plural.
    """
    try:
        return read()
    except (ValueError, OSError) as error:
        logging.warning("no %s are read: %s", what, error)
        return nothing


def columns_of(path: Path, *, delimiter: str = ",", encoding: str = "") -> list[str]:
    """Return the names in the header line of a table; see `rows`."""
    return next(_records(path, delimiter, encoding), (1, []))[1]


def rows(
    path: Path,
    columns: Sequence[str],
    *,
    optional: Sequence[str] = (),
    delimiter: str = ",",
    encoding: str = "",
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a table with a header line, each row on a line of its own.

    Parameters
    ----------
    path : Path
    columns, optional : sequence of str
        Columns that must and that may be there; another case is accepted and said.
    delimiter : str, default=","
        Values are in quotes where it is a comma or a semicolon; in tables divided by
        tabs or | a quote is a character as all others.
    encoding : str, optional
        That of a table which is not UTF-8, see `read_text`.

    Yields
    ------
    line : int
    row : dict of str to str
        Values without surrounding blanks, by the names in `columns` and `optional`
        or in the header.

    Raises
    ------
    ValueError
        With file and line: for a column that is missing or occurs twice, a row of
        another length than the header, a value that goes over several lines.
    """
    records = _records(path, delimiter, encoding)
    line, header = next(records, (1, []))
    names = _names(f"{path}:{line}", header, [*columns, *optional])
    if missing := [c for c in columns if c not in names]:
        raise ValueError(
            f"{path}:{line}: no column {', '.join(missing)}, found: "
            f"{', '.join(header)}{_advice(header, delimiter)}"
        )
    in_quotes: list[int] = []
    for line, values in records:
        if not any(values):
            continue
        if len(values) != len(names):
            raise ValueError(
                f"{path}:{line}: {len(values)} values, but {len(names)} columns in the "
                f"header: a line break or {DELIMITERS.get(delimiter, delimiter)} "
                "within a value?"
            )
        if delimiter not in QUOTED and any(re.fullmatch('".*"', v) for v in values):
            in_quotes.append(line)
        yield line, dict(zip(names, values))
    if in_quotes:
        logging.warning(
            "%s: %d rows have a value in quotes, which are kept, the first in line %d",
            *(path, len(in_quotes), in_quotes[0]),
        )


def _records(
    path: Path, delimiter: str, encoding: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and values, without blanks, of every line with any."""
    quoting = csv.QUOTE_MINIMAL if delimiter in QUOTED else csv.QUOTE_NONE
    reader = csv.reader(
        io.StringIO(read_text(path, encoding), newline=""),
        delimiter=delimiter,
        quoting=quoting,
        strict=True,
    )
    start = 1
    try:
        for values in reader:
            if broken := [v for v in values if "\n" in v or "\r" in v]:
                raise ValueError(
                    f"{path}:{start}: a value goes on to line {reader.line_num}, "
                    f"expected a row a line: a quote that is not closed? "
                    f"It begins: {broken[0][:40]!r}"
                )
            if values:
                yield reader.line_num, [value.strip() for value in values]
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}:{start}: {error} (up to line {reader.line_num}): a quote that is "
            "not closed, or not doubled within a value in quotes?"
        ) from error


def _names(where: str, header: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names of the columns, the known ones as they are known."""
    by_case = {name.lower(): name for name in known}
    names = [
        name if name in known else by_case.get(name.lower(), name) for name in header
    ]
    for name, written in zip(names, header):
        if name and names.count(name) > 1:
            both = [w for n, w in zip(names, header) if n == name]
            raise ValueError(f"{where}: column '{name}' occurs twice: {both}")
        if name != written:
            logging.info("%s: column '%s' is read as '%s'", where, written, name)
    return names


def _advice(header: Sequence[str], delimiter: str) -> str:
    """Say what may be wrong with a header that lacks columns."""
    other = [d for d in DELIMITERS if d != delimiter and any(d in n for n in header)]
    if other:
        return f" (divided by {DELIMITERS[other[0]]}, not {DELIMITERS[delimiter]}?)"
    if any(re.fullmatch('".*"', name) for name in header):
        return " (save it without quotes)"
    return ""


def _same(one: Path, other: Path) -> bool:
    """Return whether two files hold the same."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
