"""Restartable stages: a completion marker that holds the fingerprint of the inputs."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emoq_plugin.files import read_json, sha256_of_file, write_json

# Larger files are identified by size and modification time, not by content.
HASH_LIMIT_BYTES = 64 << 20


def _identity(path: Path) -> Any:
    if path.is_dir():
        marker = path / ".done.json"
        if not marker.exists():
            raise FileNotFoundError(
                f"{path} has no finished result ({marker.name} is missing): "
                "run the earlier stage first"
            )
        return read_json(marker)["fingerprint"]
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run the earlier stage first")
    status = path.stat()
    if status.st_size > HASH_LIMIT_BYTES:
        return [status.st_size, status.st_mtime_ns]
    return sha256_of_file(path)


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
        marker: str = ".done.json",
    ):
        self.output = Path(output)
        self.marker = self.output / marker
        self.inputs = {str(path): _identity(Path(path)) for path in inputs}
        self.settings = dict(settings or {})
        # Of paths only the name counts, so that a moved experiment stays valid.
        named = [[Path(path).name, str(v)] for path, v in self.inputs.items()]
        facts = [sorted(named), self.settings]
        text = json.dumps(facts, sort_keys=True, default=str)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def is_done(self) -> bool:
        """Tell whether the result stands, made from these inputs and settings."""
        if not self.marker.exists():
            return False
        found = read_json(self.marker)
        if found.get("fingerprint") != self.fingerprint:
            logging.info(
                "%s is stale (%s): doing it again", self.output, self._why(found)
            )
            return False
        logging.info("%s is up to date: nothing to do", self.output)
        return True

    def _why(self, found: Mapping[str, Any]) -> str:
        old, new = (
            {"/".join(Path(k).parts[-2:]): v for k, v in inputs.items()}
            for inputs in (found.get("inputs", {}), self.inputs)
        )
        changed = [k for k in sorted(old | new) if old.get(k) != new.get(k)]
        before, after = found.get("settings", {}), json.loads(json.dumps(self.settings))
        changed += [
            f"{k}: {before.get(k)} -> {after.get(k)}"
            for k in sorted(before | after)
            if before.get(k) != after.get(k)
        ]
        return "changed: " + ", ".join(changed) if changed else "its marker differs"

    def start(self) -> None:
        """Make the output directory and withdraw an outdated marker."""
        self.output.mkdir(parents=True, exist_ok=True)
        self.marker.unlink(missing_ok=True)

    def finish(self, **facts: Any) -> None:
        """Write the marker; `facts` (counts, seconds) are kept in it for the reader."""
        write_json(
            self.marker,
            {
                "fingerprint": self.fingerprint,
                "inputs": self.inputs,
                "settings": self.settings,
                **facts,
            },
        )
