"""Downloading open corpora: resumed, and checked before anything is used."""

import hashlib
import http.client
import logging
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from emoq_plugin.data.corpora.tables import first_of
from emoq_plugin.data.tree import walk
from emoq_plugin.progress import progress

TIMEOUT_SECONDS = 60
CONNECTIONS = 8
# What Git LFS leaves in place of a file: its checksum and size.
POINTER_BYTES = 1024
POINTER = re.compile(
    r"version https://git-lfs\.github\.com/spec/v1\n"
    r"oid sha256:(?P<sha256>[0-9a-f]{64})\nsize \d+\n"
)


@dataclass(frozen=True)
class Archive:
    """A file that anybody may download.

    Attributes
    ----------
    url : str
    name : str
        File name.
    checksum : str
        `md5:` or `sha256:` and hexadecimal digits, as the publisher gives them. Empty
        where none is published: then only the checks within the archive and the
        totals of the corpus remain.
    """

    url: str
    name: str
    checksum: str = ""


@dataclass(frozen=True)
class Download:
    """All that a recipe fetches of an open corpus.

    Attributes
    ----------
    archives : sequence of Archive
        Archives are unpacked, other files stay beside them.
    media_url : str
        Where the files are whose place is taken by Git LFS pointers; their path
        within the repository is appended. Empty where there are none.
    media_folder : str
        Folder of the repository whose pointers are replaced.
    """

    archives: Sequence[Archive]
    media_url: str = ""
    media_folder: str = ""


def fetch(archive: Archive, into: Path) -> Path:
    """Download a file unless it is there, going on where a call was interrupted.

    Parameters
    ----------
    archive : Archive
    into : Path
        Directory.

    Returns
    -------
    Path
        Of the file, whose checksum is right if one is published.

    Raises
    ------
    OSError
        If it cannot be reached, with where to put the file by hand.
    ValueError
        If the checksum is wrong; the file is removed.
    """
    target = into / archive.name
    if target.is_file():
        _check(target, archive)
        return target
    into.mkdir(parents=True, exist_ok=True)
    part = into / f"{archive.name}.part"
    try:
        _append(archive.url, part)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"{archive.url}: {error}: call it again to go on from "
            f"{part.stat().st_size if part.exists() else 0} bytes, or bring the file "
            f"from another machine and put it at {target}"
        ) from error
    _check(part, archive)
    part.rename(target)
    return target


def fetch_media(repository: Path, download: Download) -> int:
    """Replace Git LFS pointers by the files they point to, each checked.

    Parameters
    ----------
    repository : Path
        What was unpacked; the folder of the media is searched at any depth.
    download : Download

    Returns
    -------
    int
        How many files were fetched; those of an earlier call are not fetched again.

    Raises
    ------
    FileNotFoundError
        If the folder of the media is not there.
    OSError, ValueError
        As `fetch`.
    """
    folder = first_of(repository, download.media_folder)
    pointers = []
    for path in walk(folder).files:
        if checksum := pointed(path):
            name = path.relative_to(folder.parent).as_posix()
            part = Archive(
                f"{download.media_url}/{name}", f".{path.name}.media", checksum
            )
            pointers.append((path, part))

    def replace(pair: tuple[Path, Archive]) -> None:
        path, part = pair
        fetch(part, path.parent).replace(path)

    # After an error, map cancels what has not begun.
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        done = progress(pool.map(replace, pointers), len(pointers), "media")
        return sum(1 for _ in done)


def pointed(path: Path) -> str:
    """Return the checksum in a Git LFS pointer, empty for every other file."""
    if path.stat().st_size >= POINTER_BYTES:
        return ""
    match = POINTER.fullmatch(path.read_bytes().decode("utf-8", "replace"))
    return f"sha256:{match['sha256']}" if match else ""


def _append(url: str, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    logging.debug("downloading %s from byte %d", url, start)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            # A server that does not know ranges sends everything again.
            start = start if answer.status == 206 else 0
            expected = start + int(answer.headers.get("Content-Length") or 0)
            with open(part, "ab" if start else "wb") as stream:
                shutil.copyfileobj(answer, stream)
        if part.stat().st_size < expected:
            raise ConnectionError(f"{part.stat().st_size} of {expected} bytes came")
    except urllib.error.HTTPError as error:
        if not (start and error.code == 416):  # nothing is missing any more
            raise


def _check(path: Path, archive: Archive) -> None:
    if not archive.checksum:
        return
    kind, _, expected = archive.checksum.partition(":")
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, kind).hexdigest()
    if found != expected:
        size = path.stat().st_size
        path.unlink()
        raise ValueError(
            f"{path}: {kind} {found} of {size} bytes, expected {expected}: removed, "
            "call it again"
        )
