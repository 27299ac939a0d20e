"""Files that are never half-written, tables that name their faults, fingerprints."""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file beside `path` and rename it into place when the block succeeds.

    Parameters
    ----------
    path : str or Path
        Final name; its directory is made when missing.
    mode : {"w", "wb"}, default="w"
        Text is UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(aside, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path) as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ValueError
        If the file is not JSON; the message names file and line.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error


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
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    check_options({} if values is None else values, known, path)
    return values or {}


def check_options(values: Any, known: Collection[str], where: str | Path) -> None:
    """Refuse what is not a mapping of known options; see `read_options`."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: found {values!r}, expected '<option>: <value>'")
    if unknown := sorted(set(map(str, values)) - set(known)):
        raise ValueError(
            f"{where}: unknown option '{unknown[0]}', expected one of {sorted(known)}"
        )


def read_table(path: str | Path, *, unique: bool = True) -> dict[str, str]:
    """Read a Kaldi table: one `<key> <value>` a line, the value may hold spaces.

    Parameters
    ----------
    path : str or Path
        For example `wav.scp`, `utt2spk`, `text`.
    unique : bool, default=True
        Refuse a key that stands twice.

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
            try:
                line = raw.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: not UTF-8: {error}") from error
            if not line:
                raise ValueError(
                    f"{path}:{number}: empty line, expected '<key> <value>'"
                )
            key, _, value = line.partition(" ")
            if unique and key in table:
                raise ValueError(f"{path}:{number}: duplicate key '{key}'")
            table[key] = value.strip()
    return table


def write_table(path: str | Path, table: dict[str, Any]) -> None:
    """Write a Kaldi table sorted by key (C locale), atomically."""
    with atomic_write(path) as stream:
        for key in sorted(table):
            stream.write(f"{key} {table[key]}\n")


def sha256_of_file(path: str | Path) -> str:
    """Give the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
