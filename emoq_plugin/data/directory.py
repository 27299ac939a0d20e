"""Kaldi data directories with emotion: reading, writing, checking, targets."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from os.path import isfile
from pathlib import Path

import numpy as np

from emoq_plugin.data.names import emotion_fault, further_tables, id_fault
from emoq_plugin.data.ratings import (
    RATINGS,
    SCALE,
    Scale,
    as_row,
    as_scale,
    format_ratings,
    parse_ratings,
    read_scale,
)
from emoq_plugin.data.raw_tables import parse_segment, read_lines, require_tables
from emoq_plugin.data.votes import format_votes, parse_votes
from emoq_plugin.files import atomic_write, read_text, write_table
from emoq_plugin.speech.pipes import is_pipe

# Table name -> attribute; further utt2* tables are kept as they are, in `extra`.
TABLES = {
    "wav.scp": "wav",
    "utt2spk": "speaker",
    "utt2emo": "emotion",
    "utt2votes": "votes",
    RATINGS: "ratings",
    "segments": "segments",
    "text": "text",
}
MAX_FAULTS_SHOWN = 100
Lines = dict[str, dict[str, int]]


def read_emotions(path: str | Path) -> list[str]:
    """Read the class order, one emotion a line.

    Raises
    ------
    ValueError
        For a line that is not one word, a repeated emotion, or fewer than two.
    """
    emotions: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        name = line.strip()
        if fault := emotion_fault(name):
            raise ValueError(f"{path}:{number}: '{line}', {fault}")
        if name in emotions:
            raise ValueError(f"{path}:{number}: emotion '{name}' occurs twice")
        emotions.append(name)
    if len(emotions) < 2:
        raise ValueError(f"{path}: {len(emotions)} emotions, expected at least two")
    return emotions


@dataclass
class DataDirectory:
    """A set of utterances with speakers, emotions and, where they exist, rater votes.

    Attributes
    ----------
    path : Path
    utterances : list of str
        Sorted ids.
    wav : dict of str to str
        Entry of wav.scp by utterance, or by recording where there are segments.
    speaker, emotion, text : dict of str to str
        By utterance; `emotion` lacks an utterance whose votes have no unique majority.
    votes : dict of str to (C,) float64 array
        Counts in the order of `emotions`; empty where the set has none.
    ratings : dict of str to (3,) float64 array
        Arousal, valence, dominance, NaN where unknown; lacks clips without ratings.
    rating_scale : (float, float), optional
        Ends of the scale of `ratings`.
    segments : dict of str to (recording, start, end)
        In seconds.
    emotions : list of str
        Class order of `votes`.
    extra : dict of str to dict
        Further `utt2*` tables by name, for example `utt2agreement`.

    Examples
    --------
    >>> data = DataDirectory(
    ...     Path("data/all"), utterances=["a-1"], wav={"a-1": "1.wav"},
    ...     speaker={"a-1": "a"}, emotion={"a-1": "sad"},
    ... )
    >>> data.targets(["a-1"], ["angry", "sad"])
    array([[0., 1.]])
    """

    path: Path
    utterances: list[str]
    wav: dict[str, str]
    speaker: dict[str, str]
    emotion: dict[str, str]
    votes: dict[str, np.ndarray] = field(default_factory=dict)
    ratings: dict[str, np.ndarray] = field(default_factory=dict)
    rating_scale: Scale | None = None
    segments: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    emotions: list[str] = field(default_factory=list)
    extra: dict[str, dict[str, str]] = field(default_factory=dict)
    lines: Lines = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(
        cls, path: str | Path, emotions: Sequence[str] | None = None
    ) -> "DataDirectory":
        """Read and cross-check a data directory; audio is not looked at.

        Parameters
        ----------
        path : str or Path
        emotions : sequence of str, optional
            The classes. Without them any emotion name is accepted and the votes are
            in alphabetical order of the names found.

        Raises
        ------
        FileNotFoundError
            If wav.scp, utt2spk or both of utt2emo and utt2votes are missing.
        ValueError
            Listing every fault with file and line.
        """
        data, faults = parse(path, emotions)
        _refuse(data.path, faults + table_faults(data, emotions))
        return data

    def validate(
        self, emotions: Sequence[str] | None = None, *, allow_pipe: bool = False
    ) -> None:
        """Check the tables against each other and that every audio file exists.

        Raises
        ------
        ValueError
            Listing every fault, with file and line for what was read from disk.
        """
        faults = table_faults(self, emotions) + entry_faults(self, allow_pipe)
        _refuse(self.path, faults)

    def targets(self, utterances: Sequence[str], emotions: Sequence[str]) -> np.ndarray:
        """Return the emotion distribution of each utterance.

        Returns
        -------
        (N, C) float64 array
            Rows sum to one: vote shares where votes exist, else one-hot of utt2emo.

        Raises
        ------
        ValueError
            If an utterance has neither, or only emotions outside `emotions`.
        """
        labels = self.labels(utterances, emotions)
        targets = np.zeros((len(utterances), len(emotions)))
        columns = {e: c for c, e in enumerate(self.emotions)}
        for row, label, utterance in zip(targets, labels, utterances):
            if utterance in self.votes:
                for c, emotion in enumerate(emotions):
                    if emotion in columns:
                        row[c] = self.votes[utterance][columns[emotion]]
            elif label >= 0:
                row[label] = 1.0
            if row.sum() <= 0:
                raise ValueError(
                    f"{self.path}: utterance '{utterance}' has no emotion or vote "
                    f"among: {' '.join(emotions)}"
                )
        return targets / targets.sum(axis=1, keepdims=True)

    def labels(self, utterances: Sequence[str], emotions: Sequence[str]) -> np.ndarray:
        """Return the class index of utt2emo.

        Returns
        -------
        (N,) int64 array
            -1 where an utterance has no hard label or one outside `emotions`.
        """
        index = {e: c for c, e in enumerate(emotions)}
        return np.array(
            [index.get(self.emotion.get(u, ""), -1) for u in utterances], dtype=np.int64
        )

    def rating_rows(self, utterances: Sequence[str]) -> np.ndarray:
        """Return the ratings of utterances, (N, 3), NaN where there is none."""
        return np.array([self.ratings.get(u, as_row({})) for u in utterances])

    def subset(self, utterances: Collection[str]) -> "DataDirectory":
        """Keep only `utterances`, in every table."""
        keep = set(utterances)

        def cut(table: dict) -> dict:
            return {u: value for u, value in table.items() if u in keep}

        segments = cut(self.segments)
        recordings = {r for r, _, _ in segments.values()}
        return DataDirectory(
            self.path,
            utterances=[u for u in self.utterances if u in keep],
            wav={k: v for k, v in self.wav.items() if k in (recordings or keep)},
            speaker=cut(self.speaker),
            emotion=cut(self.emotion),
            votes=cut(self.votes),
            ratings=cut(self.ratings),
            rating_scale=self.rating_scale,
            segments=segments,
            text=cut(self.text),
            emotions=list(self.emotions),
            extra={name: cut(table) for name, table in self.extra.items()},
            lines=self.lines,
        )

    def part(self, utterance: str) -> tuple[float, float] | None:
        """Return start and end of an utterance in its recording, seconds."""
        return self.segments[utterance][1:] if utterance in self.segments else None

    def write(self, path: str | Path) -> None:
        """Write every table, sorted; tables that are empty now are removed."""
        path = Path(path)
        tables: dict[str, dict] = {
            name: getattr(self, attribute) for name, attribute in TABLES.items()
        }
        tables |= self.extra
        tables["utt2votes"] = {
            u: format_votes(votes, self.emotions) for u, votes in self.votes.items()
        }
        tables[RATINGS] = {u: format_ratings(r) for u, r in self.ratings.items()}
        tables["segments"] = {
            u: f"{recording} {start:.10g} {end:.10g}"
            for u, (recording, start, end) in self.segments.items()
        }
        for name, table in tables.items():
            if table:
                write_table(path / name, table)
            else:
                (path / name).unlink(missing_ok=True)
        if self.ratings:
            low, high = as_scale(self.rating_scale or ())
            write_lines(path / SCALE, [f"{low:.12g} {high:.12g}"])
        else:
            (path / SCALE).unlink(missing_ok=True)
        spoken: dict[str, list[str]] = {}
        for utterance in self.utterances:
            spoken.setdefault(self.speaker[utterance], []).append(utterance)
        write_table(path / "spk2utt", {s: " ".join(us) for s, us in spoken.items()})


def parse(
    path: str | Path, emotions: Sequence[str] | None
) -> tuple[DataDirectory, list[str]]:
    """Read the tables of a data directory and list what cannot be parsed.

    Returns
    -------
    data : DataDirectory
        Without the lines at fault.
    faults : list of str
        `<file>:<line>: <what>`.
    """
    path = Path(path)
    require_tables(path)
    faults: list[str] = []
    lines: Lines = {}
    tables: dict[str, dict[str, str]] = {}
    extra = set(further_tables(path, "utt2")) - set(TABLES)
    for name in [*TABLES, "spk2utt", *sorted(extra)]:
        tables[name], lines[name] = read_lines(path / name, faults)
    if emotions is None:
        found = re.findall(r"(\S+)=", " ".join(tables["utt2votes"].values()))
        emotions = sorted(set(found))
    data = DataDirectory(
        path,
        utterances=sorted(tables["segments"] or tables["wav.scp"]),
        wav=tables["wav.scp"],
        speaker=tables["utt2spk"],
        emotion=tables["utt2emo"],
        text=tables["text"],
        emotions=list(emotions),
        extra={name: tables[name] for name in sorted(extra)},
        lines=lines,
    )
    readers = [
        ("utt2votes", data.votes, lambda text: parse_votes(text, data.emotions)),
        ("segments", data.segments, parse_segment),
    ]
    if tables[RATINGS]:
        try:
            scale = data.rating_scale = read_scale(path)
            read = partial(parse_ratings, scale=scale)
            readers.append((RATINGS, data.ratings, read))
        except ValueError as error:
            faults.append(str(error))
    for name, target, read in readers:
        for key, value in tables[name].items():
            try:
                target[key] = read(value)
            except ValueError as error:
                faults.append(f"{_place(data, name, key)}: {key}: {error}")
    faults += _speaker_faults(data, tables["spk2utt"])
    return data, faults


def table_faults(data: DataDirectory, emotions: Sequence[str] | None) -> list[str]:
    """List the contradictions between the tables of a data directory."""
    faults = []
    known = set(data.utterances)
    audio = "segments" if data.segments else "wav.scp"
    if not known:
        faults.append(f"{data.path / audio}: no utterance")
    for name, table in {
        "utt2spk": data.speaker,
        "utt2emo": data.emotion,
        "utt2votes": data.votes,
        RATINGS: data.ratings,
        "text": data.text,
        **data.extra,
    }.items():
        for u in table:
            if u not in known:
                faults.append(
                    f"{_place(data, name, u)}: utterance '{u}' is not in {audio}"
                )
    for name, table in (("utt2spk", data.speaker), ("utt2emo", data.emotion)):
        for u, value in table.items():
            if len(value.split()) != 1:
                faults.append(
                    f"{_place(data, name, u)}: '{u}' has '{value}', expected one word"
                )
            elif name == "utt2emo" and emotions is not None and value not in emotions:
                faults.append(
                    f"{_place(data, name, u)}: unknown emotion '{value}' of '{u}', "
                    f"expected one of: {' '.join(emotions)}"
                )
    voted = data.lines.get("utt2votes", data.votes)
    for u in data.utterances:
        where = _place(data, audio, u)
        if fault := id_fault(u):
            faults.append(f"{where}: {fault}")
        if u not in data.speaker:
            faults.append(f"{where}: utterance '{u}' is not in utt2spk")
        if u not in data.emotion and u not in voted:
            faults.append(f"{where}: utterance '{u}' is not in utt2emo or utt2votes")
    for u, (recording, _, _) in data.segments.items():
        if recording not in data.wav:
            faults.append(
                f"{_place(data, 'segments', u)}: recording '{recording}' of '{u}' "
                "is not in wav.scp"
            )
    return faults


def entry_faults(data: DataDirectory, allow_pipe: bool = False) -> list[str]:
    """List the entries of wav.scp that are missing files or refused commands."""
    faults = []
    for key, entry in data.wav.items():
        where = _place(data, "wav.scp", key)
        if is_pipe(entry):
            if not allow_pipe:
                faults.append(
                    f"{where}: '{key}' is a command, refused: allow it with "
                    "--allow_pipe true if you trust this data directory"
                )
        elif not entry:
            faults.append(f"{where}: '{key}' has no path")
        elif not isfile(entry):  # False too for a name that is too long
            faults.append(f"{where}: audio file of '{key}' is missing: {entry}")
    return faults


def by_recording(data: DataDirectory) -> dict[str, list[str]]:
    """List the utterances of each recording, so that it is opened once for all."""
    groups: dict[str, list[str]] = {}
    for u in data.utterances:
        groups.setdefault(data.segments[u][0] if u in data.segments else u, []).append(
            u
        )
    return groups


def write_lines(path: str | Path, items: Sequence[str]) -> None:
    """Write one item a line (the class order, a list of utterances)."""
    with atomic_write(path) as stream:
        stream.writelines(f"{item}\n" for item in items)


def place_of_audio(data: DataDirectory, utterance: str) -> str:
    """Return file and line where the audio of an utterance is named."""
    return _place(data, "segments" if data.segments else "wav.scp", utterance)


def fault_report(where: str | Path, faults: Sequence[str]) -> str:
    """Join faults to one message, the first 100 of them in full."""
    shown = list(faults[:MAX_FAULTS_SHOWN])
    if len(faults) > len(shown):
        shown.append(f"... and {len(faults) - len(shown)} more")
    return "\n  ".join([f"{where}: {len(faults)} fault(s):", *shown])


def _refuse(where: Path, faults: Sequence[str]) -> None:
    if faults:
        raise ValueError(fault_report(where, faults))


def _speaker_faults(data: DataDirectory, spk2utt: dict[str, str]) -> list[str]:
    faults = []
    for speaker, utterances in spk2utt.items():
        for u in utterances.split():
            if data.speaker.get(u) != speaker:
                faults.append(
                    f"{_place(data, 'spk2utt', speaker)}: utterance '{u}' of speaker "
                    f"'{speaker}', but utt2spk has '{data.speaker.get(u)}'"
                )
    return faults


def _place(data: DataDirectory, name: str, key: str) -> str:
    line = data.lines.get(name, {}).get(key)
    return f"{data.path / name}" + (f":{line}" if line else "")
