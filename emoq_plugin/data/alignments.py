"""Phone labels in time: EMO-DB's label files, CTM and tables; labels by frame."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoq_plugin.data.corpora.tables import read_text
from emoq_plugin.data.tree import listed, walk

LABEL_SUFFIX = ".lablaut"
RARE = "rare"
OVERLAP_SECONDS = 1e-3  # of segments, by rounding
SILENCE = ""  # of any kind; it is no phone, so its frames have no label
# Kaldi's names of what is no phone.
SILENCES = {"sil", "SIL", "sp", "spn", "SPN", "<eps>", "<sil>", "pau"}


@dataclass(frozen=True)
class Alignment:
    """Phones of one utterance, in order.

    Attributes
    ----------
    starts, ends : (S,) float64 array
        In seconds; segments do not overlap.
    phones : (S,) array of str
        `SILENCE` where nothing is said.
    """

    starts: np.ndarray
    ends: np.ndarray
    phones: np.ndarray

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """Return the phone at points in time; `SILENCE` where no segment is."""
        segment = np.searchsorted(self.starts, seconds, side="right")
        ends = np.concatenate([[-np.inf], self.ends])  # before the first segment: none
        phones = np.concatenate([[SILENCE], self.phones])
        return np.where(seconds < ends[segment], phones[segment], SILENCE)


def read_lablaut(path: str | Path) -> Alignment:
    """Read one label file of EMO-DB.

    After a line `#` each line is `<time> <colour> <label>[+-diacritics]`, in
    ISO-8859-1; the time is the START of its segment. A line of diacritics alone goes
    on with the phone before it. `!t` is a closure and stays a label of its own; `_t`
    and `.` are silence. The last segment lasts to the end of the clip.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    alignment : Alignment
        Labels without diacritics; no segment if the file has none (EMO-DB has such).

    Raises
    ------
    ValueError
        With file and line, for a line of another form or times that run backwards.
    """
    lines = read_text(Path(path), "iso-8859-1").splitlines()
    if "#" not in lines:
        raise ValueError(
            f"{path}: no line '#', expected an xlabel file: a header, '#', then lines "
            "'<time> <colour> <label>'"
        )
    starts: list[float] = []
    phones: list[str] = []
    for number, line in enumerate(lines[lines.index("#") + 1 :], lines.index("#") + 2):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s+-?\d+(?:\s(.*))?", line)
        if not match or (starts and float(match[1]) < starts[-1]):
            raise ValueError(
                f"{path}:{number}: '{line}', expected '<time> <colour> <label>' with a "
                "time in seconds not before that of the line above"
            )
        # Diacritics follow a tab, a sign, a bracket, or (by slip of the pen) a space.
        base = re.split(r"[\s+\-\[,]", match[2] or "", maxsplit=1)[0]
        silent = base == "." or base.startswith("_")
        starts.append(float(match[1]))
        phones.append(SILENCE if silent else base or (phones or [SILENCE])[-1])
    return Alignment(
        np.array(starts),
        np.array([*starts[1:], np.inf][: len(starts)]),
        np.array(phones),
    )


def read_segments(path: str | Path) -> dict[str, Alignment]:
    """Read a table of segments, one a line, in seconds.

    Parameters
    ----------
    path : str or Path
        Lines ``<utt> <start> <end> <phone>``, or Kaldi's CTM
        ``<utt> <channel> <start> <duration> <phone> [confidence]``.

    Returns
    -------
    alignments : dict of str to Alignment
        By utterance; word-position marks (``a_B``) are taken off.

    Raises
    ------
    ValueError
        With file and line.
    """
    rows: dict[str, list[tuple[float, float, str, int]]] = {}
    for number, line in enumerate(read_text(Path(path)).splitlines(), 1):
        fields = line.split()
        try:
            if len(fields) == 4:
                start, end = map(float, fields[1:3])
                phone = fields[3]
            elif len(fields) in (5, 6):
                start = float(fields[2])
                end = start + float(fields[3])
                phone = fields[4]
            else:
                raise ValueError(f"{len(fields)} fields")
            if not 0 <= start <= end < np.inf:
                raise ValueError(f"from {start:g} to {end:g} s")
        except ValueError as error:
            raise ValueError(
                f"{path}:{number}: '{line}' ({error}), expected '<utt> <start> <end> "
                "<phone>' or CTM '<utt> <channel> <start> <duration> <phone>', seconds"
            ) from error
        phone = SILENCE if phone in SILENCES else re.sub(r"_[BIES]$", "", phone)
        rows.setdefault(fields[0], []).append((start, end, phone, number))
    alignments = {}
    for utterance, segments in rows.items():
        segments.sort()
        for before, (start, _, _, number) in zip(segments, segments[1:]):
            if start < before[1] - OVERLAP_SECONDS:
                raise ValueError(
                    f"{path}:{number}: a segment of '{utterance}' begins at {start:g} "
                    f"s, before the one in line {before[3]} ends ({before[1]:g} s)"
                )
        starts, ends, phones, _ = map(np.array, zip(*segments))
        alignments[utterance] = Alignment(starts, ends, phones)
    return alignments


def read_alignments(
    path: str | Path, utterances: Iterable[str]
) -> dict[str, Alignment]:
    """Read the phones of utterances.

    Parameters
    ----------
    path : str or Path
        Directory of EMO-DB's label files (`03a01Faxx.lablaut` belongs to utterance
        `emodb03-03a01Fa`), or a file as `read_segments` reads it.
    utterances : iterable of str
        Those that are wanted; some may have no alignment.

    Returns
    -------
    alignments : dict of str to Alignment

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ValueError
        For a fault in a file, if a label file belongs to two utterances or two belong
        to one, or if no utterance has an alignment.
    """
    path, utterances = Path(path), list(utterances)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: give a directory of {LABEL_SUFFIX} files, or a table "
            "'<utt> <start> <end> <phone>'"
        )
    if path.is_dir():
        stems = _by_one_name((f.stem, f) for f in alignment_files(path))
        # The corpus has 14b09Ea beside 14b09Eaxx: the name of all others counts.
        older = [s for s in stems if f"{s}xx" in stems]
        files = {s.removesuffix("xx"): f for s, f in stems.items() if s not in older}
        named = ((u.rpartition("-")[2], u) for u in utterances)
        names = _by_one_name((name, u) for name, u in named if name in files)
        table = {u: read_lablaut(files[name]) for name, u in names.items()}
        unused = [file.name for name, file in files.items() if name not in names]
        unused += [stems[s].name for s in older]
    else:
        table = read_segments(path)
        unused = sorted(table.keys() - set(utterances))
    found = {u: table[u] for u in utterances if u in table and len(table[u].starts)}
    if not found:
        raise ValueError(
            f"{path} has phones of none of {len(utterances)} utterances, for example "
            f"'{next(iter(utterances), '')}'"
        )
    without = [u for u in utterances if u not in found]
    logging.info(
        "%s: phones of %d of %d utterances%s",
        *(path, len(found), len(utterances)),
        "; " * bool(without or unused)
        + listed(
            {"utterances without phones": without, "phones not asked for": unused}
        ),
    )
    return found


def _by_one_name[T](pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Make a dictionary; two of one name are refused."""
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(
                f"{found[name]} and {value}: both are called '{name}', expected one "
                "label file for each utterance"
            )
        found[name] = value
    return found


def alignment_files(path: str | Path) -> list[Path]:
    """Return the files that `read_alignments` may read: what a result depends on."""
    path = Path(path)
    return walk(path, (LABEL_SUFFIX,)).files if path.is_dir() else [path]


def inventory(alignments: Iterable[Alignment], min_count: int) -> list[str]:
    """List the phones with at least `min_count` segments, most frequent first.

    Examples
    --------
    >>> one = Alignment(np.arange(3.0), np.arange(1.0, 4.0), np.array(["a", "t", "a"]))
    >>> inventory([one], 2)
    ['a']
    """
    counts = Counter(p for alignment in alignments for p in alignment.phones.tolist())
    kept = sorted(p for p, n in counts.items() if n >= min_count and p != SILENCE)
    return sorted(kept, key=lambda phone: -counts[phone])


def frame_labels(
    alignment: Alignment,
    n_frames: int,
    *,
    frame_rate_hz: float,
    phones: Mapping[str, int],
) -> np.ndarray:
    """Label each frame by the phone at its centre, ``(t + 1/2) / frame rate``.

    Parameters
    ----------
    alignment : Alignment
    n_frames : int
        T.
    frame_rate_hz : float
    phones : mapping of str to int
        Index by phone; `RARE` is that of every other phone.

    Returns
    -------
    labels : (T,) int64 array
        -1 in silence.
    """
    found = alignment.at((np.arange(n_frames) + 0.5) / frame_rate_hz)
    names, inverse = np.unique(found, return_inverse=True)
    index = [-1 if n == SILENCE else phones.get(n, phones[RARE]) for n in names]
    return np.array(index, dtype=np.int64)[inverse]


def label_clips(
    alignments: Mapping[str, Alignment],
    lengths: Mapping[str, int],
    *,
    frame_rate_hz: float,
    min_count: int,
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Label the frames of all aligned clips with one inventory.

    Parameters
    ----------
    alignments : mapping of str to Alignment
    lengths : mapping of str to int
        Frames by utterance.
    frame_rate_hz : float
    min_count : int
        Phones with fewer segments than this in `alignments` are merged to `RARE`.

    Returns
    -------
    phones : list of P str
    labels : dict of str to (T,) int64 array
        See `frame_labels`.
    """
    phones: Sequence[str] = [*inventory(alignments.values(), min_count), RARE]
    index = {phone: i for i, phone in enumerate(phones)}

    def labelled() -> Iterator[tuple[str, np.ndarray]]:
        for utterance, alignment in alignments.items():
            yield utterance, frame_labels(
                alignment,
                lengths[utterance],
                frame_rate_hz=frame_rate_hz,
                phones=index,
            )

    return list(phones), dict(labelled())
