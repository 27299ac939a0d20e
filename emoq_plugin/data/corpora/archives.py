"""Archives as distributed: unpacked once, within bounds."""

import hashlib
import logging
import lzma
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path
from stat import S_ISLNK

from emoq_plugin.data.tree import walk

PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_RATIO = 50
# In an unpacked folder: what it was unpacked from.
MARKER = ".unpacked"
_END = 1 << 20


def unpack(archive: Path, into: Path, *, nested: bool = True) -> Path:
    """Unpack a zip or tar archive once and give the directory, named as `stem` says.

    Parameters
    ----------
    archive : Path
    into : Path
        Parent of the directory.
    nested : bool, default=True
        Unpack the archives in it too, and remove them; not those in these.

    Raises
    ------
    ValueError
        If it is no archive that can be read, or holds far more than its size, or the
        directory is that of another archive.
    """
    target = into / stem(archive)
    marker, identity = target / MARKER, f"{archive.name} {_fingerprint(archive)}\n"
    if marker.is_file():
        if marker.read_text() != identity:
            raise ValueError(
                f"{target} was unpacked from another archive than {archive}: remove it "
                "to unpack this one, or rename the archive"
            )
        return target
    logging.info("unpacking %s into %s", archive, target)
    target.mkdir(parents=True, exist_ok=True)
    room = _Room(archive, target)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as stream:
                _refuse_links(archive, stream)
                # More than the size that a member claims is never read.
                room.take(sum(member.file_size for member in stream.infolist()))
                stream.extractall(target)
        else:
            with tarfile.open(archive) as stream:
                stream.extractall(target, filter=room.filter)
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
        NotImplementedError, RuntimeError, EOFError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{archive}: {error}: expected a directory, or a whole zip or tar archive"
        ) from error
    for inner in walk(target).files if nested else ():
        if is_packed(inner):
            unpack(inner, inner.parent, nested=False)
            inner.unlink()
    marker.write_text(identity)
    return target


def _refuse_links(archive: Path, stream: zipfile.ZipFile) -> None:
    """Refuse links, of which zipfile would make files that hold a path."""
    links = [
        member.filename
        for member in stream.infolist()
        if S_ISLNK(member.external_attr >> 16)
    ]
    if links:
        raise ValueError(
            f"{archive}: {len(links)} links ({links[0]}): unpack it yourself and give "
            "the directory"
        )


def is_packed(path: Path) -> bool:
    """Return whether a file is named as an archive that `unpack` reads."""
    return path.name.lower().endswith(PACKED)


def stem(archive: Path) -> str:
    """Return the name of the folder that an archive is unpacked to.

    Examples
    --------
    >>> stem(Path("corpus.v1.2.tar.gz")), stem(Path("download"))
    ('corpus.v1.2', 'download.unpacked')
    """
    name = archive.name.lower()
    suffix = max((s for s in PACKED if name.endswith(s)), key=len, default="")
    if not suffix:
        return f"{archive.name}.unpacked"
    return archive.name[: -len(suffix)]


def _fingerprint(archive: Path) -> str:
    """Identify archives by their size and end: a zip's table, a stream's checksum."""
    size = archive.stat().st_size
    with open(archive, "rb") as stream:
        stream.seek(max(0, size - _END))
        return f"{size} bytes {hashlib.sha256(stream.read()).hexdigest()}"


class _Room:
    """How much an archive may unpack to; audio shrinks little, a bomb a lot."""

    def __init__(self, archive: Path, target: Path):
        size = archive.stat().st_size
        self.archive = archive
        self.left = min(MAX_RATIO * size, shutil.disk_usage(target).free)

    def take(self, size: int) -> None:
        """Count bytes about to be written."""
        self.left -= size
        if self.left < 0:
            raise ValueError(
                f"{self.archive}: unpacks to more than the disk holds or more than "
                f"{MAX_RATIO} times its size: unpack it yourself if that is right"
            )

    def filter(self, member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        """Count a member and refuse places outside `path`."""
        self.take(member.size)
        return tarfile.data_filter(member, path)
