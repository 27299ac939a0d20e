"""Files that are never half-written, tables that name their faults, fingerprints."""

import codecs
import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import reprlib
import secrets
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from emoq_plugin.devices import is_out_of_memory

# Ends the name of a file that is being written; its name begins with a dot.
PART = ".part"
# Bytes in the name of a file that `atomic_write` writes: file systems allow 255, and
# the name that it has meanwhile is longer.
MAX_NAME = 255 - len(f"..{'0' * 8}{PART}")
MAX_DEPTH = 50  # of options


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file beside `path` and rename it into place when the block succeeds.

    Parameters
    ----------
    path : str or Path
        Final name; its directory is made when missing.
    mode : {"w", "wb"}, default="w"
        Text is UTF-8.

    Raises
    ------
    OSError
        Naming `path`, for example when the disk is full; what was there stays.
    """
    path = Path(path)
    if path.is_dir():  # reported before the work, not after it
        raise IsADirectoryError(
            errno.EISDIR, "is a directory, expected a file", str(path)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process number: two machines may have the same.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with open(aside, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
        logging.debug("wrote %s", path)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(path: str | Path, remedy: str) -> Iterator[None]:
    """Name the file where a library raises whatever it likes on what is in it.

    Parameters
    ----------
    path : str or Path
    remedy : str
        What to do; ends the message.

    Raises
    ------
    ValueError
        With the kind of error; files that the system cannot open, and memory that does
        not suffice, raise what they did.
    """
    try:
        yield
    except Exception as error:
        opening = isinstance(error, OSError) and error.filename is not None
        if opening or is_out_of_memory(error):
            raise
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path}: {type(error).__name__} {first}: {remedy}") from error


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path) as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def read_text(path: str | Path) -> str:
    """Read a text file; a byte order mark at its beginning is no part of the text.

    Raises
    ------
    ValueError
        If it is not UTF-8, with file and line.
    """
    raw = unmarked(Path(path).read_bytes(), path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8: {error}") from error


def unmarked(raw: bytes, path: str | Path) -> bytes:
    """Take the byte order mark off the first bytes of a file.

    Raises
    ------
    ValueError
        If it is the mark of UTF-16.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(
            f"{path}:1: UTF-16, expected UTF-8: save it so, or iconv -f utf-16 -t utf-8"
        )
    return raw.removeprefix(codecs.BOM_UTF8)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ValueError
        If the file is not JSON; the message names file and line.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, where: str | Path, *, line: int = 1) -> Any:
    """Parse JSON that begins in a line of a file; see `read_json`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        raise ValueError(f"{where}:{line}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # numbers too long, nested too deep
        raise ValueError(f"{where}:{line}: not JSON: {error}") from error


def missing_config(path: str | Path) -> str:
    """Say that a configuration does not exist, and which do.

    Those beside it and those in the directory of `conf` with the same name.
    """
    path = Path(path)
    own = Path(__file__).parents[1] / "conf"
    places = {path.parent.resolve(), *(p for p in own.glob("*") if p.is_dir())}
    found = [
        f"{place} has {' '.join(names)}"
        for place in sorted(places)
        if place.name == path.parent.name or path.parent.resolve() == place
        if (names := sorted(p.name for p in place.glob("*.yaml")))
    ]
    return f"{path} is missing: no such config; " + (
        "; ".join(found) or f"examples are in {own}"
    )


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file of plain values: no tags, no aliases.

    Raises
    ------
    ValueError
        If it is not YAML or holds more than plain values.
    FileNotFoundError
        With those that exist.
    """
    import yaml

    if not Path(path).exists():
        raise FileNotFoundError(missing_config(path))
    text = read_text(path)
    try:
        depth = 0
        for event in yaml.parse(text):
            # A few lines of aliases can mean more values than memory holds.
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("an alias ('*name'): write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:  # PyYAML's time grows with its square
                raise ValueError(f"nested more than {MAX_DEPTH} deep")
        return yaml.safe_load(text)
    except Exception as error:  # constructors of PyYAML raise whatever they meet
        raise ValueError(
            f"{path}: not YAML of plain values: {type(error).__name__} {error}"
        ) from error


def read_options(path: str | Path, known: Collection[str]) -> dict[str, Any]:
    """Read a YAML file of options.

    Parameters
    ----------
    path : str or Path
    known : collection of str
        Options that exist.

    Raises
    ------
    ValueError
        If the file is not YAML or no mapping, or for an unknown option, with those
        that exist.
    """
    values = read_yaml(path)
    check_options({} if values is None else values, known, path)
    return values or {}


def check_options(values: Any, known: Collection[str], where: str | Path) -> None:
    """Refuse what is not a mapping of known options; see `read_options`."""
    if not isinstance(values, dict):
        found = reprlib.repr(values)
        raise ValueError(f"{where}: found {found}, expected '<option>: <value>'")
    if unknown := sorted(set(map(str, values)) - set(known)):
        raise ValueError(
            f"{where}: unknown option '{unknown[0]}', expected one of {sorted(known)}"
        )


@contextlib.contextmanager
def errors_of(where: str | Path) -> Iterator[None]:
    """Let each ValueError of a block begin with what it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def check_ranges(values: Any, rules: Sequence[tuple[str, bool, str]]) -> None:
    """Refuse attributes out of range.

    Parameters
    ----------
    values : object
    rules : sequence of (name of an attribute, whether it is right, what is expected)

    Raises
    ------
    ValueError
        With the first name that is not right, its value and what is expected.
    """
    for name, right, expected in rules:
        if not right:
            raise ValueError(
                f"{name} is {getattr(values, name)!r}, expected {expected}"
            )


def check_types(
    values: Mapping[str, Any], hints: Mapping[str, Any], where: str | Path
) -> None:
    """Refuse values of other types than the type hints of their names.

    Parameters
    ----------
    values : mapping of str to anything
        For example read from JSON or YAML; whole numbers pass for float.
    hints : mapping of str to type
        As `typing.get_type_hints` gives them; names without a hint are passed over.
    where : str or Path
        For the message.

    Raises
    ------
    ValueError
        Naming the value and its type.
    """
    for name, value in values.items():
        if name in hints and not _has_type(value, hints[name]):
            expected = getattr(hints[name], "__name__", str(hints[name]))
            if typing.get_args(hints[name]):
                expected = str(hints[name])
            raise ValueError(
                f"{where}: {name} is {reprlib.repr(value)}, expected {expected}"
            )


def _has_type(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(_has_type(value, choice) for choice in inner)
    if origin in (list, Sequence):
        return isinstance(value, list) and all(_has_type(v, inner[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _has_type(k, inner[0]) and _has_type(v, inner[1]) for k, v in value.items()
        )
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def read_table(path: str | Path, *, unique: bool = True) -> dict[str, str]:
    """Read a Kaldi table: one `<key> <value>` a line, the value may hold spaces.

    Parameters
    ----------
    path : str or Path
        For example `wav.scp`, `utt2spk`, `text`.
    unique : bool, default=True
        Refuse a key that occurs twice.

    Returns
    -------
    dict of str to str
        In file order; the value is empty where the line holds only a key.

    Raises
    ------
    ValueError
        For an empty line, a repeated key or text that is not UTF-8, with file and line.
    """
    table: dict[str, str] = {}
    with open(path, "rb") as stream:
        for number, raw in enumerate(stream, 1):
            if number == 1:
                raw = unmarked(raw, path)
            try:
                line = raw.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: not UTF-8: {error}") from error
            if not line:
                raise ValueError(
                    f"{path}:{number}: empty line, expected '<key> <value>'"
                )
            key, *value = line.split(maxsplit=1)  # some corpora have tabs
            if unique and key in table:
                raise ValueError(f"{path}:{number}: duplicate key '{key}'")
            table[key] = (value or [""])[0]
    return table


def read_places(path: str | Path) -> dict[str, tuple[Path, int]]:
    """Read an scp file whose arks are beside it; nothing else is ever opened.

    Returns
    -------
    dict of str to (Path, int)
        Ark and byte offset of each key, wherever the directory is now.

    Raises
    ------
    ValueError
        For anything but `<ark>:<byte offset>`, a command for example.
    """
    path, places = Path(path), {}
    for number, (key, place) in enumerate(read_table(path).items(), 1):
        match = re.fullmatch(r"([^\0]+):([0-9]{1,18})", place)
        name = Path(match[1]).name if match else ""
        if not match or name in ("", ".."):
            raise ValueError(
                f"{path}:{number}: '{place}', expected <ark>:<byte offset>"
            )
        places[key] = (path.parent / name, int(match[2]))
    return places


def write_table(path: str | Path, table: dict[str, Any]) -> None:
    """Write a Kaldi table sorted by key (C locale), atomically."""
    with atomic_write(path) as stream:
        for key in sorted(table):
            stream.write(f"{key} {table[key]}\n")


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
