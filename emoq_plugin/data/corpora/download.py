"""Downloading the archive of an open corpus: resumed, and checked before it is used."""

import hashlib
import logging
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Archive:
    """An archive that anybody may download.

    Attributes
    ----------
    url : str
    name : str
        File name.
    md5 : str
        32 hexadecimal digits, as the publisher gives them.
    """

    url: str
    name: str
    md5: str


def fetch(archive: Archive, into: Path) -> Path:
    """Download an archive unless it is there, going on where a call was interrupted.

    Parameters
    ----------
    archive : Archive
    into : Path
        Directory.

    Returns
    -------
    Path
        Of the file, whose checksum is right.

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
    except OSError as error:
        raise OSError(
            f"{archive.url}: {error}: call it again to go on from "
            f"{part.stat().st_size if part.exists() else 0} bytes, or bring the file "
            f"from another machine and put it at {target}"
        ) from error
    _check(part, archive)
    part.rename(target)
    return target


def _append(url: str, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    logging.info("downloading %s from byte %d", url, start)
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
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != archive.md5:
        size = path.stat().st_size
        path.unlink()
        raise ValueError(
            f"{path}: MD5 {found} of {size} bytes, expected {archive.md5}: removed, "
            "call it again"
        )
