"""Speaker-disjoint folds: making, reading, writing and checking them."""

import logging
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emoq_plugin.files import atomic_write, read_text

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory

PARTS = ("train", "valid", "test")
# The name of a fold without a directory: every clip of every fold is learned from.
ALL = "all"


@dataclass(frozen=True)
class Fold:
    """One split of a corpus.

    Attributes
    ----------
    name : str
        The directory's name, counted from `1` like the jobs of an array.
    train, valid, test : tuple of str
        Utterance ids; `valid` may be empty.
    """

    name: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]

    def restricted_to(self, utterances: Collection[str]) -> "Fold":
        """Leave out what is not in `utterances` (stage 2 may have dropped some)."""
        known = set(utterances)
        parts = [tuple(u for u in getattr(self, p) if u in known) for p in PARTS]
        return Fold(self.name, *parts)


def read_folds(path: str | Path) -> list[Fold]:
    """Read `<path>/<n>/{train,valid,test}`, ordered by n.

    Raises
    ------
    FileNotFoundError
        If there is no fold or one of its lists is missing.
    ValueError
        For an empty line, an utterance listed twice in a part, or an empty train or
        test list.
    """
    path = Path(path)
    there = [p.name for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
    names = sorted(filter(_is_number, there), key=int)
    if not names:
        raise FileNotFoundError(
            f"{path}: no folds, expected {path}/1/{{train,valid,test}} and so on"
            + (f", found: {', '.join(sorted(there))}" if there else "")
        )
    if others := sorted(n for n in there if n not in names and n[0] != "."):
        logging.warning(
            "%s: %d folders passed over that are no folds, expected numbers: %s",
            *(path, len(others), ", ".join(others)),
        )
    return [Fold(n, *(_read_part(path / n / part) for part in PARTS)) for n in names]


def read_fold(path: str | Path, name: str, data: "DataDirectory") -> Fold:
    """Read one fold, without utterances that stage 2 dropped, checked for leaks.

    Parameters
    ----------
    path : str or Path
        Of all folds.
    name : str
        Of one, or `all`: the clips of all folds as training clips.
    data : DataDirectory
        Formatted by stage 2.

    Raises
    ------
    ValueError
        If there is no such fold or a speaker is in two parts of it.
    """
    folds = {fold.name: fold for fold in read_folds(path)}
    if name == ALL:
        clips = {u for f in folds.values() for part in PARTS for u in getattr(f, part)}
        folds[ALL] = Fold(ALL, tuple(sorted(clips)), (), ())
    if name not in folds:
        raise ValueError(f"{path} has no fold '{name}', but: {' '.join(folds)}")
    fold = folds[name].restricted_to(data.utterances)
    for part in ("train",) if name == ALL else ("train", "test"):
        if not getattr(fold, part):
            raise ValueError(
                f"{Path(path) / name / part}: none of its utterances is in {data.path}"
            )
    check_speaker_disjoint(fold, data.speaker)
    return fold


def write_folds(path: str | Path, folds: Iterable[Fold]) -> None:
    """Write folds as `read_folds` reads them; other folds there are removed."""
    path, folds = Path(path), list(folds)
    for fold in folds:
        for part in PARTS:
            with atomic_write(path / fold.name / part) as stream:
                stream.writelines(f"{u}\n" for u in getattr(fold, part))
    names = {fold.name for fold in folds}
    for old in path.iterdir():
        if old.is_dir() and _is_number(old.name) and old.name not in names:
            shutil.rmtree(old)


def speaker_folds(
    speaker: Mapping[str, str],
    *,
    n_folds: int,
    n_valid_speakers: int,
    groups: Mapping[str, str] | None = None,
) -> list[Fold]:
    """Split by speakers so that each speaker is tested exactly once.

    Speakers are dealt to the folds from the one with most utterances down, each to the
    fold that has fewest of the speaker's group, then fewest speakers, then fewest
    utterances. The validation speakers of a fold are test speakers of the next one. No
    randomness: the result is a function of the arguments alone.

    Parameters
    ----------
    speaker : mapping of str to str
        Speaker by utterance.
    n_folds : int
        At least 2, at most the number of speakers.
    n_valid_speakers : int
        Speakers held out of training for decisions such as early stopping.
    groups : mapping of str to str, optional
        Group (gender) by speaker, to be mixed in every test part.

    Returns
    -------
    list of Fold

    Raises
    ------
    ValueError
        If there are too few speakers, or a speaker has no group.

    Examples
    --------
    >>> for fold in speaker_folds(
    ...     {"a1": "a", "b1": "b", "c1": "c"}, n_folds=3, n_valid_speakers=1
    ... ):
    ...     print(fold)
    Fold(name='1', train=('c1',), valid=('b1',), test=('a1',))
    Fold(name='2', train=('a1',), valid=('c1',), test=('b1',))
    Fold(name='3', train=('b1',), valid=('a1',), test=('c1',))
    """
    size = Counter(speaker.values())
    _check_sizes(len(size), n_folds, n_valid_speakers)
    missing = sorted(s for s in size if groups is not None and not groups.get(s))
    if missing:
        raise ValueError(f"speakers without a group: {' '.join(missing)}")
    test = _deal(size, n_folds, groups or dict.fromkeys(size, ""))
    folds = []
    for n in range(n_folds):
        # Turning the next fold's speakers by n mixes the groups over the folds.
        following = test[(n + 1) % n_folds]
        turn = n % len(following)
        waiting = [*following[turn:], *following[:turn]]
        for further in range(2, n_folds):
            waiting += test[(n + further) % n_folds]
        valid = set(waiting[:n_valid_speakers])
        side = {s: "train" for s in size}
        side |= dict.fromkeys(valid, "valid") | dict.fromkeys(test[n], "test")
        parts = [
            tuple(u for u in sorted(speaker) if side[speaker[u]] == part)
            for part in PARTS
        ]
        folds.append(Fold(str(n + 1), *parts))
    if any(not fold.train for fold in folds):
        raise ValueError(
            f"{n_valid_speakers} validation speakers leave a fold without training "
            f"speakers ({len(size)} speakers, {n_folds} folds): use fewer"
        )
    return folds


def fold_faults(
    fold: Fold, speaker: Mapping[str, str], *, path: str | Path = ""
) -> list[str]:
    """List unknown utterances and speakers that are in two parts of a fold.

    Parameters
    ----------
    fold : Fold
    speaker : mapping of str to str
        Speaker by utterance.
    path : str or Path, optional
        Directory of the folds, for the messages (`<path>/<fold>/<part>:<line>`).
    """
    faults, home = [], {}
    for part in PARTS:
        for number, utterance in enumerate(getattr(fold, part), 1):
            where = f"{Path(path) / fold.name / part}:{number}"
            if utterance not in speaker:
                faults.append(f"{where}: utterance '{utterance}' is not in utt2spk")
                continue
            name = speaker[utterance]
            first = home.setdefault(name, (part, where))
            if first[0] != part:
                faults.append(
                    f"{where}: speaker '{name}' ({utterance}) is in {part} and in "
                    f"{first[0]} ({first[1]}), expected one side only"
                )
                # One line for each speaker and side is enough.
                home[name] = (part, where)
    return faults


def check_speaker_disjoint(fold: Fold, speaker: Mapping[str, str]) -> None:
    """Refuse a fold that has a speaker in two of train, valid and test.

    Raises
    ------
    ValueError
        Naming every such speaker with the utterances and their places.
    """
    faults = fold_faults(fold, speaker)
    if faults:
        raise ValueError("\n".join([f"fold {fold.name}:", *faults]))


def _is_number(name: str) -> bool:
    """Return whether a folder is a fold; `01` would be a second fold 1."""
    return re.fullmatch("0|[1-9][0-9]*", name) is not None


def _read_part(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, expected one utterance id a line")
    lines = [line.strip() for line in read_text(path).splitlines()]
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if len(line.split()) != 1:
            raise ValueError(f"{path}:{number}: '{line}', expected one utterance id")
        if line in seen:
            raise ValueError(
                f"{path}:{number}: utterance '{line}' is in line {seen[line]} too"
            )
        seen[line] = number
    if not lines and path.name != "valid":
        raise ValueError(f"{path}: empty, expected at least one utterance id")
    return tuple(lines)


def _check_sizes(n_speakers: int, n_folds: int, n_valid_speakers: int) -> None:
    if n_speakers < 2:
        raise ValueError(
            f"{n_speakers} speaker(s), expected at least 2: the parts of a fold have "
            "no speaker in common, so that scores are of unknown voices"
        )
    if not 2 <= n_folds <= n_speakers:
        raise ValueError(
            f"n_folds={n_folds} should be >= 2 and <= the number of speakers, "
            f"{n_speakers}"
        )
    if n_valid_speakers < 0:
        raise ValueError(f"n_valid_speakers={n_valid_speakers} should be >= 0")


def _deal(
    size: Mapping[str, int], n_folds: int, groups: Mapping[str, str]
) -> list[Sequence[str]]:
    """Return the test speakers of every fold."""
    test: list[list[str]] = [[] for _ in range(n_folds)]
    for name in sorted(size, key=lambda s: (groups[s], -size[s], s)):

        def burden(members: list[str], group: str = groups[name]) -> tuple[int, ...]:
            same = sum(groups[s] == group for s in members)
            return same, len(members), sum(size[s] for s in members)

        min(test, key=burden).append(name)
    return test
