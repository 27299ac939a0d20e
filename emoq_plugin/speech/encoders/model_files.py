"""Model files as they come from others: what is wrong with those that do not load."""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import shorten

from emoq_plugin.devices import is_out_of_memory

HEAD = 512  # bytes that show what a file is
# Files with pickles in a zip archive, or (before torch 1.6) pickles alone.
TORCH = (".bin", ".pt", ".pth", ".ckpt", ".th")
REASON = 200  # characters of an error beside the fault that it comes from
WHOLE = "bring the whole file again"


@contextlib.contextmanager
def naming_faults(
    model: str, root: Path, *, files: str, patterns: Sequence[str], about: str = ""
) -> Iterator[None]:
    """Turn what a library raises while it loads a model into one line.

    Parameters
    ----------
    model : str
        Local directory, file or hub name.
    root : Path
        Where its files are.
    files : str
        What it must have, for the message.
    patterns : sequence of str
        Names of the files that the library reads.
    about : str, default=""
        Begins the reason if no file is seen to be damaged.

    Raises
    ------
    ValueError
        For whatever the block raises: file and fault where one is seen, and the first
        line of the error.
    """
    try:
        yield
    except Exception as error:  # of safetensors, pickle, YAML, torch, the model's code
        if is_out_of_memory(error):
            raise
        found = [root] if root.is_file() else _search(root, patterns)
        faults = [f"{path}: {why}" for path in found if (why := fault_of(path))]
        reason = in_one_line(error)
        if faults:
            reason = f"{'; '.join(faults)} ({shorten(reason, REASON)})"
        else:
            reason = about + reason
        raise ValueError(how_to_bring(model, reason, files=files)) from error


def _search(root: Path, patterns: Sequence[str]) -> list[Path]:
    paths = {path for pattern in patterns for path in root.rglob(pattern)}
    return sorted(path for path in paths if path.is_file())


def fault_of(path: Path) -> str | None:
    """Say what is wrong with a model's file, from its first bytes and its size.

    Returns
    -------
    fault : str or None
        With what to do; None if nothing is seen.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    if size == 0:
        return f"is empty: {WHOLE}"
    if head.startswith(b"version https://git-lfs"):
        return f"is a pointer of Git LFS ({size} bytes), not the file: 'git lfs pull'"
    if head.lstrip().startswith(b"<"):
        start = head.split()[0].decode(errors="replace")[:20]
        return f"is a web page (begins with '{start}'), not the file: download it again"
    if not head.strip(b"\0"):
        return f"begins with {len(head)} zero bytes: {WHOLE}"
    match path.suffix:
        case ".json":
            return _fault_of_json(path)
        case ".yaml":
            return _fault_of_yaml(path)
        case ".safetensors":
            return _fault_of_safetensors(path, size)
        case suffix if suffix in TORCH:
            return _fault_of_torch(path, head, size)
    return None


def _fault_of_json(path: Path) -> str | None:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        return f"is not JSON ({error}): {WHOLE}"
    return None if isinstance(values, dict) else "is no JSON object"


def _fault_of_yaml(path: Path) -> str | None:
    import yaml

    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        return f"is not YAML ({' '.join(str(error).split())}): {WHOLE}"
    return None if isinstance(values, dict) else "is YAML, but no '<option>: <value>'"


def _fault_of_safetensors(path: Path, size: int) -> str | None:
    """Compare the size with what the header announces."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= size - 8:
            return (
                f"is no safetensors file, or its beginning only: the header has "
                f"{length} bytes, the file {size}: {WHOLE}"
            )
        header = stream.read(length)
    try:
        tensors = json.loads(header)
        tensors.pop("__metadata__", None)
        ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"is no safetensors file, its header is garbled: {WHOLE}"
    expected = 8 + length + max(ends, default=0)
    if size == expected:
        return None
    return f"has {size} bytes, its header announces {expected}: {WHOLE}"


def _fault_of_torch(path: Path, head: bytes, size: int) -> str | None:
    if head.startswith(b"PK"):
        if zipfile.is_zipfile(path):
            return None
        return f"is cut ({size} bytes, the end of the archive is missing): {WHOLE}"
    if head.startswith(b"\x80"):
        return None
    return f"is no checkpoint of torch (begins with {head[:20]!r}): {WHOLE}"


def how_to_bring(model: str, error: object, *, files: str) -> str:
    """Say why a model is not there, and which files bring it to a machine offline."""
    reason = in_one_line(error)
    if Path(model).is_dir():
        found = sorted(path.name for path in Path(model).iterdir())
        return (
            f"cannot load a model from the directory '{model}': {reason}. "
            f"Expected {files}, found {found}"
        )
    if Path(model).exists():
        return (
            f"cannot load a model from the file '{model}': {reason}. Expected {files}"
        )
    return (
        f"cannot load model '{model}': {reason}. It is neither a local directory nor a "
        f"model that the hub gave. Without network: bring {files} of '{model}' in one "
        f"directory, for example with 'hf download {model} --local-dir DIR' elsewhere, "
        "and pass --model_dir DIR or set conf: model: DIR"
    )


def in_one_line(error: object) -> str:
    """Return the first line of an error that says something, after its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return repr(error).rstrip(".")
    # A heading says nothing without the first line below it.
    reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(".")
    kind = "" if isinstance(error, str | OSError | ValueError) else type(error).__name__
    return f"{kind}: {reason}" if kind else reason


def check_complete(model: str, missing: Sequence[str]) -> None:
    """Refuse a model whose checkpoint lacks weights: they would be random."""
    if missing:
        raise ValueError(
            f"model '{model}' lacks {len(missing)} weights, '{sorted(missing)[0]}' "
            "first: its configuration does not fit its weights, features would be "
            "random"
        )


def check_shapes(
    model: str, shapes: Sequence[tuple[str, Sequence[int], Sequence[int]]]
) -> None:
    """Refuse a model whose weights have other shapes than its configuration says.

    Parameters
    ----------
    model : str
    shapes : sequence of (name, shape in the checkpoint, shape by the configuration)
        Of the weights that differ.

    Raises
    ------
    ValueError
        With the first one in order of name.
    """
    if shapes:
        name, found, expected = min(shapes)
        raise ValueError(
            f"model '{model}': {len(shapes)} weights have other shapes than its "
            f"configuration says, '{name}' first: {tuple(found)}, expected "
            f"{tuple(expected)}: bring both from the same model"
        )
