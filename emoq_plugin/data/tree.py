"""Directories as people keep them: links are followed, what is left out is listed."""

import heapq
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HIDDEN = "hidden"
REPEATED = "links to a folder that is read already"
NOWHERE = "links that lead nowhere, or no files"
UNREADABLE = "folders that may not be read"
OTHER = "with another suffix"
# Folders that archives of macOS have beside the contents.
_NO_CONTENT = "__MACOSX"


@dataclass
class Tree:
    """What is below a directory.

    Attributes
    ----------
    directory : Path
    files, folders : list of Path
        Sorted, by the names that they have below `directory`.
    left_out : dict of str to list of Path
        By reason: `HIDDEN` (folders are not entered), `REPEATED`, `NOWHERE`,
        `UNREADABLE`, `OTHER`.
    """

    directory: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave_out(self, reason: str, path: Path) -> None:
        """Note a path that is not among the files."""
        self.left_out.setdefault(reason, []).append(path)

    def listed(self) -> str:
        """Say what was left out, why, and the first of each; empty for nothing."""
        return listed(
            {
                reason: [path.relative_to(self.directory) for path in sorted(paths)]
                for reason, paths in self.left_out.items()
            }
        )


def walk(directory: str | Path, suffixes: Collection[str] = ()) -> Tree:
    """List all files below a directory, through linked folders, each folder once.

    A folder that is in the tree itself is listed there and not by a link to it,
    and a link to a folder above it is not followed, so that no loop is endless.

    Parameters
    ----------
    directory : str or Path
    suffixes : collection of str
        Of the files that are wanted, in lower case, as ``.wav``; empty: all files.

    Raises
    ------
    OSError
        If `directory` itself cannot be read.
    """
    tree = Tree(Path(directory))
    seen: set[tuple[int, int]] = set()
    # Linked folders wait until all others are read.
    waiting = [(False, tree.directory)]
    while waiting:
        linked, folder = heapq.heappop(waiting)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen or (linked and _is_loop(folder)):
            tree.leave_out(REPEATED, folder)
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            entries = list(os.scandir(folder))
        except PermissionError:
            if folder == tree.directory:
                raise
            tree.leave_out(UNREADABLE, folder)
            continue
        if folder != tree.directory:
            tree.folders.append(folder)
        for entry in entries:
            path = folder / entry.name
            wanted = not suffixes or path.suffix.lower() in suffixes
            if entry.name.startswith(".") or entry.name == _NO_CONTENT:
                if wanted or entry.is_dir():
                    tree.leave_out(HIDDEN, path)
            elif entry.is_dir():
                heapq.heappush(waiting, (entry.is_symlink(), path))
            elif not wanted:
                tree.leave_out(OTHER, path)
            elif entry.is_file():
                tree.files.append(path)
            else:
                tree.leave_out(NOWHERE, path)
    tree.files.sort()
    tree.folders.sort()
    return tree


def listed(left_out: Mapping[str, Sequence[object]]) -> str:
    """Say how many were left out, why, and the first of each reason.

    Examples
    --------
    >>> listed({"hidden": ["._a.wav", "._b.wav"], "empty": [], "songs": ["c.wav"]})
    '2 hidden (._a.wav, ...), 1 songs (c.wav)'
    """
    return ", ".join(
        f"{len(names)} {reason} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for reason, names in left_out.items()
        if names
    )


def _is_loop(link: Path) -> bool:
    """Return whether a linked folder holds the link itself."""
    return link.parent.resolve().is_relative_to(link.resolve())
