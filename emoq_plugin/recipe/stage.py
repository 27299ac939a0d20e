"""Restartable stages: a completion marker that holds the fingerprint of the inputs."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import socket
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from emoq_plugin.files import (
    PART,
    missing_config,
    read_json,
    sha256_of_file,
    write_json,
)

MARKER = ".done.json"
LOCK = ".lock"
# What file systems without locks answer.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Lock files that this process has open. A process that closes one of several
# descriptors of a file loses all its locks on it, so there is never a second one.
_open_locks: dict[Path, int] = {}


class FinishedMeanwhile(Exception):
    """Another process has finished the work that this one was about to begin."""


def read_marker(path: Path) -> dict[str, Any]:
    """Read a marker; a damaged one is like none."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        logging.warning("%s", error)
        return {}
    return found if isinstance(found, dict) else {}


def _identity(path: Path) -> Any:
    if path.is_dir():
        marker = path / MARKER
        if fingerprint := read_marker(marker).get("fingerprint"):
            return fingerprint
        state = "is damaged" if marker.exists() else "is missing"
        raise FileNotFoundError(
            f"{path} has no finished result ({marker.name} {state}): "
            "run the earlier stage first"
        )
    if not path.exists():
        if path.suffix == ".yaml":
            raise FileNotFoundError(missing_config(path))
        raise FileNotFoundError(f"{path} is missing: run the earlier stage first")
    return sha256_of_file(path)


def _status(path: Path) -> Any:
    """Return what differs after a write; `mtime` can be set, or its clock wrong."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Stage:
    """One restartable piece of work that ends in a directory.

    Parameters
    ----------
    output : str or Path
        Directory of the result; the marker `<name>.json` is written there last.
    inputs : iterable of str or Path
        Files (by content) and directories finished by an earlier `Stage` (by their
        fingerprint).
    settings : mapping
        Options that change the result; anything JSON can hold.
    code : iterable of modules
        Packages whose algorithms the result comes from, each with its `VERSION`: where
        one was corrected (and its version raised), results of before are not up to
        date.
    marker : str, default=".done.json"
        Name of the marker; work that is split into jobs has one for each job.

    Raises
    ------
    FileNotFoundError
        If an input is missing or was not finished.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> stage = Stage(folder, settings={"size": 4})
    >>> stage.is_done()
    False
    >>> stage.finish()
    >>> Stage(folder, settings={"size": 4}).is_done()
    True
    >>> Stage(folder, settings={"size": 8}).is_done()
    False
    """

    def __init__(
        self,
        output: str | Path,
        *,
        inputs: Iterable[str | Path] = (),
        settings: Mapping[str, Any] | None = None,
        code: Iterable[ModuleType] = (),
        marker: str = MARKER,
    ):
        self.output = Path(output)
        self.marker = self.output / marker
        self._stale = False
        self._status: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        for path in map(Path, inputs):
            self._status[str(path)] = _status(path)  # before it is read
            self.inputs[str(path)] = _identity(path)
        self.settings = dict(settings or {})
        if versions := {m.__name__.rpartition(".")[2]: m.VERSION for m in code}:
            self.settings["code"] = versions
        # Of paths only the name counts, so that a moved experiment stays valid.
        named = [[Path(path).name, str(v)] for path, v in self.inputs.items()]
        content = [sorted(named), self.settings]
        text = json.dumps(content, sort_keys=True, default=str)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def is_done(self) -> bool:
        """Return whether the result exists, made from these inputs and settings."""
        self._stale = True
        if not self.marker.exists():
            return False
        found = read_marker(self.marker)
        if found.get("fingerprint") != self.fingerprint:
            logging.info(
                "%s is stale (%s): doing it again", self.output, self._why(found)
            )
            return False
        logging.info("%s is up to date: nothing to do", self.output)
        self._stale = False
        return True

    def _why(self, found: Mapping[str, Any]) -> str:
        inputs, before = (
            found[key] if isinstance(found.get(key), dict) else {}
            for key in ("inputs", "settings")
        )
        old, new = (
            {"/".join(Path(k).parts[-2:]): v for k, v in paths.items()}
            for paths in (inputs, self.inputs)
        )
        changed = [k for k in sorted(old | new) if old.get(k) != new.get(k)]
        after = json.loads(json.dumps(self.settings))
        changed += [
            f"{k}: {before.get(k)} -> {after.get(k)}"
            for k in sorted(before | after)
            if before.get(k) != after.get(k)
        ]
        return "changed: " + ", ".join(changed) if changed else "its marker differs"

    def start(self) -> None:
        """Keep other processes out, make the output directory, withdraw the marker.

        Waits for a process that is at the same work. What the kill of an earlier one
        left half-written is removed.

        Raises
        ------
        FinishedMeanwhile
            If the result was not there when `is_done` was asked, and is now.
        """
        self.hold()
        self.withdraw()
        if self.marker.name == MARKER:
            _remove_parts(self.output)

    def withdraw(self) -> None:
        """Remove an outdated marker; see `start`."""
        found = read_marker(self.marker).get("fingerprint")
        if self._stale and found == self.fingerprint:
            raise FinishedMeanwhile(f"{self.output}: another process has finished it")
        self.marker.unlink(missing_ok=True)

    def hold(self) -> None:
        """Wait for other processes at this work, then keep them out until `finish`.

        The marker of the directory excludes everybody, any other only its like. Locks
        are POSIX record locks: NFS passes them on, and they end with the process, even
        with a killed one.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output.resolve() / LOCK
        if path not in _open_locks:
            _open_locks[path] = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        lock = _open_locks[path]
        whole = self.marker.name == MARKER
        # Bytes of the lock file, which need not exist: (0, 0) are all of them.
        place = (0, 0) if whole else (1, 1 + zlib.crc32(self.marker.name.encode()))
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, *place)
        except OSError as error:
            if error.errno in NO_LOCKS:
                logging.warning("%s: no locks here (%s)", path, error.strerror)
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            holder = os.pread(lock, 500, 0).decode(errors="replace")
            logging.warning("%s: waiting for %s, at work here", self.output, holder)
            fcntl.lockf(lock, fcntl.LOCK_EX, *place)
        with contextlib.suppress(OSError):  # only a note
            os.ftruncate(lock, 0)
            note = f"process {os.getpid()} on {socket.gethostname()}"
            os.pwrite(lock, note.encode(), 0)

    def finish(self, **notes: Any) -> None:
        """Write the marker; `notes` (counts, seconds) are kept in it for the reader.

        Raises
        ------
        ValueError
            If an input has changed since the beginning: nobody knows what was read.
        """
        for path, identity in self.inputs.items():
            if not self._is_same(Path(path), identity):
                raise ValueError(
                    f"{path} has changed while {self.output} was made from it: "
                    "let that come to its end, then run this again"
                )
        write_json(
            self.marker,
            {
                "fingerprint": self.fingerprint,
                "inputs": self.inputs,
                "settings": self.settings,
                **notes,
            },
        )
        lock = _open_locks.pop(self.output.resolve() / LOCK, None)
        if lock is not None:
            os.close(lock)

    def _is_same(self, path: Path, identity: Any) -> bool:
        try:
            unchanged = path.is_file() and _status(path) == self._status[str(path)]
            return unchanged or _identity(path) == identity
        except FileNotFoundError:
            return False


def _remove_parts(directory: Path) -> None:
    """Remove files of writers that were killed, but not those of stages within."""
    for folder, below, names in os.walk(directory):
        if folder != str(directory) and LOCK in names:
            below.clear()
            continue
        for name in names:
            if name.startswith(".") and name.endswith(PART):
                Path(folder, name).unlink(missing_ok=True)
