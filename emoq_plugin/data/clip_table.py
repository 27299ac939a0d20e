"""Any table of clips: its dialect and columns, labels and votes, parts and names."""

import csv
import logging
import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from emoq_plugin.data.corpora.corpus import Clip
from emoq_plugin.data.corpora.finding import GENDERS
from emoq_plugin.data.corpora.tables import DELIMITERS, given, read_text, rows
from emoq_plugin.data.ratings import DIMENSIONS, Scale, mean_ratings, read_ratings
from emoq_plugin.data.votes import majority
from emoq_plugin.files import errors_of

VOTES = "votes_"
NEEDED = ("file", "speaker")
OPTIONAL = ("emotion", *DIMENSIONS, "text", "gender", "group", "part", "id")
PARTS = {
    "train": ("train", "training", "trn"),
    "valid": ("valid", "val", "validation", "dev", "development"),
}
TEST_PART = r"(test|tst|eval)[\w.-]*"


@dataclass
class ClipTable:
    """What a table says.

    Attributes
    ----------
    path : Path
    delimiter : str
    used, passed_over : list of str
        Columns.
    one_row_per : {"clip", "rater"}
    folds : {"speakers", "groups", "parts"}
        What the columns allow.
    rating_scale : (float, float), optional
    clips : list of Clip
        In the order of their first rows. Audio is not looked at.
    lines : list of int
        The first row of each clip.
    n_rows : int
    """

    path: Path
    delimiter: str
    used: list[str]
    passed_over: list[str]
    one_row_per: str = "clip"
    folds: str = "speakers"
    rating_scale: Scale | None = None
    clips: list[Clip] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    n_rows: int = 0

    def found(self) -> str:
        """Say what was found, used and passed over."""
        text = (
            f"{self.path}: {self.n_rows} rows divided by {DELIMITERS[self.delimiter]}, "
            f"{len(self.clips)} clips, folds by {self.folds}; columns used: "
            f"{', '.join(self.used)}"
        )
        if self.passed_over:
            text += f"; passed over: {', '.join(self.passed_over)}"
        return text


def read_clips(
    path: Path,
    renamed: Mapping[str, str],
    *,
    one_row_per: str = "clip",
    encoding: str = "",
    audio_dir: Path | None = None,
    needed: Sequence[str] = NEEDED,
    rating_scale: Scale | None = None,
) -> ClipTable:
    """Read a table of clips.

    Parameters
    ----------
    path : Path
        Divided by commas, semicolons, tabs or `|`, whatever its suffix.
    renamed : mapping of str to str
        Class by label; other labels are classes themselves.
    one_row_per : {"clip", "rater"}, default="clip"
        With `rater` the rows of a file are counted as votes.
    encoding : str, optional
        That of a table which is not UTF-8, see `tables.read_text`.
    audio_dir : Path, optional
        Where files are; beside the table when None.
    needed : sequence of str, default=("file", "speaker")
        Columns without which the table is refused.
    rating_scale : (float, float), optional
        Of the columns arousal, valence and dominance, which are passed over without.

    Raises
    ------
    ValueError
        For a missing, repeated or contradictory column, row or value, with the line;
        for a renamed label that does not occur.
    """
    table, columns = _open(path, one_row_per, encoding)
    found = list(
        rows(
            path,
            needed,
            optional=(*columns, *(c for c in NEEDED if c not in needed)),
            delimiter=table.delimiter,
            encoding=encoding,
        )
    )
    table.n_rows = len(found)
    if not found:
        raise ValueError(f"{path}: no row below the header")
    table.rating_scale = rating_scale
    _pass_over(table, () if rating_scale else DIMENSIONS)
    _choose_folds(table, [row for _, row in found])
    first: dict[str, int] = {}  # row of `table.clips` by file
    labels: set[str] = set()
    rated: list[list[Mapping[str, float]]] = []  # of each clip, a row a rater
    for line, row in found:
        where = f"{path}:{line}"
        votes = _votes(row, where)
        labels |= {given(row.get("emotion", "")), *votes} - {""}
        if empty := [column for column in needed if not row[column]]:
            raise ValueError(f"{where}: {empty[0]} must not be empty")
        clip = _clip(row, votes, where, table, renamed)
        if audio_dir:
            clip = replace(clip, audio=audio_dir / row["file"])
        file = os.path.abspath(clip.audio)
        if file in first:
            _add_rater(table, first[file], clip, where)
            rated[first[file]].append(clip.ratings)
            continue
        first[file] = len(table.clips)
        table.clips.append(clip)
        table.lines.append(line)
        rated.append([clip.ratings])
    table.clips = [
        replace(c, label=c.label or _leader(c.votes), ratings=mean_ratings(r))
        for c, r in zip(table.clips, rated)
    ]
    if wrong := sorted(set(renamed) - labels):
        known = " ".join(sorted(labels))
        raise ValueError(f"--map {wrong[0]}: no such label, found: {known}")
    _check_speakers(table, found)
    return table


def case_twins(names: Iterable[str]) -> list[list[str]]:
    """Return names that differ in nothing but case or in how letters are composed.

    Examples
    --------
    >>> case_twins(["Angry", "sad", "angry", "angry"])
    [['Angry', 'angry']]
    """
    alike: dict[str, set[str]] = {}
    for name in names:
        key = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault(key, set()).add(name)
    return [sorted(group) for group in alike.values() if len(group) > 1]


def check_labels(table: ClipTable) -> None:
    """Refuse labels that differ only in case.

    Raises
    ------
    ValueError
        With the option that merges them.
    """
    counts = Counter(x for c in table.clips for x in {c.label, *c.votes} - {""})
    for twins in case_twins(counts):
        kept = max(twins, key=lambda name: (name.islower(), counts[name]))
        pairs = " ".join(shlex.quote(f"{t}={kept}") for t in twins if t != kept)
        listed = ", ".join(f"'{name}' ({counts[name]} clips)" for name in twins)
        raise ValueError(
            f"{table.path}: labels {listed} differ only in case: merge them with "
            f"--map {pairs}"
        )


def _open(
    path: Path, one_row_per: str, encoding: str
) -> tuple[ClipTable, tuple[str, ...]]:
    """Find the dialect and the columns that are known."""
    lines = (line.strip("\r\n") for line in read_text(path, encoding).splitlines())
    first_line = next(filter(None, lines), "")
    if first_line.lower().startswith("sep="):
        raise ValueError(
            f"{path}:1: '{first_line}', a note for Excel: remove this line, the "
            "delimiter is found without it"
        )

    def header(delimiter: str) -> list[str]:
        try:
            fields = next(csv.reader([first_line], delimiter=delimiter), [])
        except csv.Error as error:
            raise ValueError(f"{path}:1: {error}, expected a header line") from error
        return [name.strip() for name in fields]

    def worth(delimiter: str) -> tuple[int, int, bool]:
        names = header(delimiter)
        return sum(map(bool, map(_known, names))), len(names), delimiter == ","

    delimiter = max(DELIMITERS, key=worth)
    names = header(delimiter)
    used = [known for known in map(_known, names) if known]
    votes = [name for name in used if name.startswith(VOTES)]
    if one_row_per == "rater" and (votes or "emotion" not in used):
        raise ValueError(
            f"{path}:1: --one_row_per rater counts the column emotion, and no column "
            f"'{VOTES}<emotion>' may be beside it; found: {', '.join(names)}"
        )
    if "emotion" not in used and not votes:
        raise ValueError(
            f"{path}:1: no column emotion and none '{VOTES}<emotion>', found: "
            f"{', '.join(names)}"
        )
    passed_over = [name for name in names if name and not _known(name)]
    table = ClipTable(path, delimiter, used, passed_over, one_row_per)
    return table, (*OPTIONAL, *votes)


def _choose_folds(table: ClipTable, found: Sequence[Mapping[str, str]]) -> None:
    """Take the parts, else the groups, else speakers; the others are passed over."""
    columns = [name for name in ("part", "group") if name in table.used]
    filled = [c for c in columns if any(given(row[c]) for row in found)]
    for column in columns:
        if column in filled[:1]:
            table.folds = f"{column}s"
        else:
            _pass_over(table, [column])


def _pass_over(table: ClipTable, columns: Iterable[str]) -> None:
    for column in [name for name in columns if name in table.used]:
        table.used.remove(column)
        table.passed_over.append(column)


def _known(name: str) -> str:
    """Return the name of a column as it is known here, else nothing."""
    if name.lower().startswith(VOTES):
        return VOTES + name[len(VOTES) :]
    return name.lower() if name.lower() in NEEDED + OPTIONAL else ""


def _clip(
    row: Mapping[str, str],
    votes: Mapping[str, float],
    where: str,
    table: ClipTable,
    renamed: Mapping[str, str],
) -> Clip:
    """Make the clip of one row; the votes of a rater's row are its label."""
    label = given(row.get("emotion", ""))
    if not label and not votes:
        raise ValueError(f"{where}: neither an emotion nor votes")
    label = renamed.get(label, label)
    counted: Counter[str] = Counter()
    for name, count in votes.items():
        counted[renamed.get(name, name)] += count
    if table.one_row_per == "rater":
        label, counted = "", Counter({label: 1.0})
    ratings: dict[str, float] = {}
    if table.rating_scale:
        texts = {name: given(row.get(name, "")) for name in DIMENSIONS}
        with errors_of(where):
            ratings = read_ratings(texts, table.rating_scale)
    name = given(row.get("id", ""))
    if name != _as_name(name):
        raise ValueError(
            f"{where}: id '{name}', expected letters, digits and _ . + - only"
        )
    return Clip(
        name or _as_name(os.path.splitext(os.path.normpath(row["file"]))[0]),
        table.path.parent / row["file"],
        _as_name(row.get("speaker", "")),
        label,
        votes=dict(counted),
        ratings=ratings,
        text=row.get("text", ""),
        gender=given(row.get("gender", "")),
        group=_group(row, where, table.folds),
    )


def _as_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", text)


def _group(row: Mapping[str, str], where: str, folds: str) -> str:
    """Return the group or the part, whichever makes the folds."""
    if folds == "speakers":
        return ""
    column = folds.removesuffix("s")
    value = given(row[column])
    if not value:
        raise ValueError(
            f"{where}: column {column} is empty here and not in other rows: fill it in "
            "every row, or remove it"
        )
    if folds == "groups":
        return value
    for part, names in PARTS.items():
        if value.lower() in names:
            return part
    if re.fullmatch(TEST_PART, value.lower()):
        return value.lower()
    known = ", ".join(name for names in PARTS.values() for name in names)
    raise ValueError(
        f"{where}: part '{value}', expected one of {known}, or a name that begins with "
        "test or eval for each test part; what is tested in turns, such as numbered "
        "folds or sessions, belongs into a column 'group' instead"
    )


def _votes(row: Mapping[str, str], where: str) -> dict[str, float]:
    votes = {}
    for name, text in row.items():
        if not name.startswith(VOTES) or not given(text):
            continue
        try:
            votes[name.removeprefix(VOTES)] = float(text)
        except ValueError:
            raise ValueError(
                f"{where}: column '{name}' counts raters, found '{text}', expected a "
                "number such as 2 or 0.5"
            ) from None
    if any(not 0 <= count < float("inf") for count in votes.values()):
        raise ValueError(f"{where}: votes must be finite and >= 0, found {votes}")
    return votes if any(votes.values()) else {}


def _leader(votes: Mapping[str, float]) -> str:
    return majority(np.array(list(votes.values())), list(votes)) or ""


def _add_rater(table: ClipTable, n: int, clip: Clip, where: str) -> None:
    """Add the votes of a further row of a clip."""
    known, line = table.clips[n], table.lines[n]
    if table.one_row_per != "rater":
        raise ValueError(
            f"{where}: file '{clip.audio}' is in line {line} too ('{known.label}' "
            f"there, '{clip.label}' here): if every row is what one rater heard, count "
            "them as votes with --one_row_per rater; else remove one"
        )
    for name in ("name", "speaker", "text", "gender", "group"):
        here, there = getattr(clip, name), getattr(known, name)
        if here != there:
            raise ValueError(
                f"{where}: {name} '{here}' of '{clip.audio}', but '{there}' in line "
                f"{line}: only emotion and ratings may differ between raters"
            )
    votes = Counter(known.votes)
    votes.update(clip.votes)
    table.clips[n] = replace(known, votes=dict(votes))


def _check_speakers(
    table: ClipTable, found: Iterable[tuple[int, Mapping[str, str]]]
) -> None:
    """Refuse speakers that would become one, or have two genders; report twins."""
    spelled: dict[str, tuple[str, int]] = {}
    genders: dict[str, tuple[str, int]] = {}
    for line, row in found:
        speaker, gender = row.get("speaker", ""), given(row.get("gender", "")).lower()
        gender = GENDERS.get(gender, gender)
        other, there = spelled.setdefault(_as_name(speaker), (speaker, line))
        if other != speaker:
            raise ValueError(
                f"{table.path}:{line}: speaker '{speaker}' and '{other}' of line "
                f"{there} would both become '{_as_name(speaker)}': rename one"
            )
        if not gender:
            continue
        other, there = genders.setdefault(speaker, (gender, line))
        if other != gender:
            raise ValueError(
                f"{table.path}:{line}: gender '{gender}' of speaker '{speaker}', but "
                f"'{other}' in line {there}"
            )
    for twins in case_twins(spelled):
        logging.warning(
            "%s: speakers %s differ only in case: they count as %d, who may be on "
            "both sides of a fold",
            *(table.path, ", ".join(twins), len(twins)),
        )
