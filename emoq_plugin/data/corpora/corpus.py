"""What a corpus is, and how its clips become a data directory with folds."""

import logging
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emoq_plugin.data.corpora.download import Download, pointed
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import Fold, speaker_folds
from emoq_plugin.data.ratings import Scale, as_row

# What libsndfile reads; everything else goes through ffmpeg.
READABLE = (".wav", ".flac", ".ogg", ".mp3")
# Instead of a path: download an open corpus.
DOWNLOAD = "download"
FOLDS = ("speakers", "groups", "parts")
PARTS = ("train", "valid")


@dataclass(frozen=True)
class Clip:
    """One recording as the corpus describes it.

    Attributes
    ----------
    name : str
        Unique within the speaker; without blanks and slashes.
    audio : Path
    speaker : str
    label : str
        As written in the corpus; empty or `-` where raters did not agree.
    votes : mapping of str to float
        Rater votes by label as written in the corpus.
    ratings : mapping of str to float
        Means over the raters by dimension, see `data.ratings`.
    text, gender : str
        Empty or `-` where unknown.
    group : str
        Session or speaker range (folds by group), or part of the official partition.
    extra : mapping of str to str
        What else is known, by name of the table (`utt2agreement`).
    left_out : str
        Why the clip is not used, in the plural ("songs"); empty where it is.
    """

    name: str
    audio: Path
    speaker: str
    label: str = ""
    votes: Mapping[str, float] = field(default_factory=dict)
    ratings: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    gender: str = ""
    group: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    left_out: str = ""


@dataclass(frozen=True)
class Published:
    """Totals that the makers or a benchmark published.

    Attributes
    ----------
    source : str
    clips, speakers : collection of int
        One number for each known release; empty where unknown.
    labels : mapping of str to int
        Clips by label as written in the corpus; empty where unknown.
    """

    source: str
    clips: Collection[int] = ()
    speakers: Collection[int] = ()
    labels: Mapping[str, int] = field(default_factory=dict)

    def differences(self, clips: Sequence[Clip]) -> list[str]:
        """List in words where clips differ from the published totals."""
        labels = Counter(clip.label for clip in clips)
        totals = [
            ("clips", len(clips), self.clips),
            ("speakers", len({clip.speaker for clip in clips}), self.speakers),
        ]
        for label, expected in self.labels.items():
            totals.append((label or "no majority", labels[label], (expected,)))
        return [
            f"{what} {found} ({' or '.join(map(str, expected))} published)"
            for what, found, expected in totals
            if expected and found not in expected
        ]


@dataclass(frozen=True)
class Corpus:
    """A corpus: where things are in it and what its labels mean.

    Attributes
    ----------
    name, title : str
    layout : str
        What the directory must hold, for messages.
    source : str
        Where to get or ask for it.
    labels : mapping of str to (mapping of str to str)
        By class set, the first is the default: label of the corpus -> class. Labels
        that are not named there are left out.
    others : collection of str
        Labels that no class set uses.
    find : function of (directory, **options) to list of Clip
    published : Published
    options : mapping of str to sequence of str
        Choices by option of `find`, the default first; no choices: any text.
    folds : {"speakers", "groups", "parts"}
        Deal speakers; leave one group out; the official partition.
    n_folds, n_valid_speakers : int
        For `speakers`.
    rating_scale : (float, float), optional
        Ends of the scale of ratings.
    note : str
        A warning that belongs to every use.
    download : Download, optional
        What the recipe may fetch.
    whole_tree : bool, default=True
        All audio in the directory should belong to a clip; what does not is reported.
    """

    name: str
    title: str
    layout: str
    source: str
    labels: Mapping[str, Mapping[str, str]]
    find: Callable[..., list[Clip]]
    published: Published
    others: Collection[str] = ()
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folds: str = "speakers"
    n_folds: int = 5
    n_valid_speakers: int = 2
    rating_scale: Scale | None = None
    note: str = ""
    download: Download | None = None
    whole_tree: bool = True

    @property
    def whereabouts(self) -> str:
        """Say what the corpus looks like and where to get it."""
        return (
            f"{self.title} is expected as distributed: {self.layout}\n"
            f"Where to get it: {self.source}"
            + (f"; or give '{DOWNLOAD}' as the path" if self.download else "")
        )

    def classes(self, class_set: str) -> list[str]:
        """Return the class order of a class set.

        Raises
        ------
        ValueError
            If there is no such set.
        """
        if class_set not in self.labels:
            sets = "; ".join(
                f"{name}: {' '.join(dict.fromkeys(table.values()))}"
                for name, table in self.labels.items()
            )
            raise ValueError(f"{self.name} has no classes '{class_set}', but {sets}")
        return list(dict.fromkeys(self.labels[class_set].values()))


def build(
    corpus: Corpus, clips: Sequence[Clip], *, class_set: str, no_majority: str = "drop"
) -> DataDirectory:
    """Make the data directory of a class set.

    Parameters
    ----------
    corpus : Corpus
    clips : sequence of Clip
    class_set : str
    no_majority : {"drop", "keep"}, default="drop"
        What becomes of clips whose raters did not agree: with `keep` they have votes
        and no hard label.

    Raises
    ------
    ValueError
        If a class has no clip, or audio needs ffmpeg and there is none.
    """
    table, emotions = corpus.labels[class_set], corpus.classes(class_set)
    data = DataDirectory(Path(), utterances=[], wav={}, speaker={}, emotion={})
    data.emotions = emotions
    left_out: Counter[str] = Counter()
    for clip in clips:
        votes = np.zeros(len(emotions))
        for label, count in clip.votes.items():
            if label in table:
                votes[emotions.index(table[label])] += count
        if clip.label not in table and (
            clip.label or no_majority == "drop" or not votes.any()
        ):
            left_out[clip.label or ("no majority" if clip.votes else "no label")] += 1
            continue
        utterance = utterance_id(corpus, clip)
        data.wav[utterance] = _entry(clip.audio)
        data.speaker[utterance] = _speaker(corpus, clip)
        if clip.label in table:
            data.emotion[utterance] = table[clip.label]
        if votes.any():
            data.votes[utterance] = votes
        if clip.ratings:
            data.ratings[utterance] = as_row(clip.ratings)
        if clip.text:
            data.text[utterance] = " ".join(clip.text.split())
        for table_name, value in clip.extra.items():
            data.extra.setdefault(table_name, {})[utterance] = value
    data.utterances = sorted(data.wav)
    data.rating_scale = corpus.rating_scale
    if left_out:
        listed = ", ".join(f"{label} {n}" for label, n in sorted(left_out.items()))
        logging.info("left out, not among the classes '%s': %s", class_set, listed)
    present = set(data.emotion.values())
    if absent := [e for e in emotions if e not in present]:
        raise ValueError(f"{corpus.title}: no clip of {', '.join(absent)}")
    return data


def make_folds(
    corpus: Corpus,
    clips: Sequence[Clip],
    data: DataDirectory,
    *,
    n_folds: int | None = None,
    n_valid_speakers: int | None = None,
) -> list[Fold]:
    """Make the folds that belong to the corpus, speaker-disjoint.

    Parameters
    ----------
    corpus : Corpus
    clips : sequence of Clip
    data : DataDirectory
        Made of them by `build`.
    n_folds, n_valid_speakers : int, optional
        Instead of the corpus' numbers, where folds are made of speakers.

    Raises
    ------
    ValueError
        If there are too few speakers, groups or parts.
    """
    if corpus.folds not in FOLDS:
        raise ValueError(f"folds '{corpus.folds}', expected one of {FOLDS}")
    group = {utterance_id(corpus, clip): clip.group for clip in clips}
    group = {u: group[u] for u in data.utterances}
    if corpus.folds == "groups":
        return _group_folds(group, corpus)
    if corpus.folds == "parts":
        return _part_folds(group, data.speaker, corpus)
    gender, speakers = genders(corpus, clips), set(data.speaker.values())
    if gender and (unknown := sorted(speakers - set(gender))):
        logging.warning(
            "genders are not mixed in the folds, as %d of %d speakers have none: %s",
            *(len(unknown), len(speakers), ", ".join(unknown[:5])),
        )
    return speaker_folds(
        data.speaker,
        n_folds=n_folds or corpus.n_folds,
        n_valid_speakers=(
            corpus.n_valid_speakers if n_valid_speakers is None else n_valid_speakers
        ),
        groups=gender if speakers <= set(gender) else None,
    )


def genders(corpus: Corpus, clips: Sequence[Clip]) -> dict[str, str]:
    """Return the gender by speaker, where it is known; two of one speaker are none."""
    found: dict[str, set[str]] = {}
    for clip in clips:
        if clip.gender:
            found.setdefault(_speaker(corpus, clip), set()).add(clip.gender)
    if several := sorted(speaker for speaker in found if len(found[speaker]) > 1):
        logging.warning(
            "%d speakers have several genders, none is taken: %s %s",
            *(len(several), several[0], sorted(found[several[0]])),
        )
    return {s: min(g) for s, g in sorted(found.items()) if len(g) == 1}


def utterance_id(corpus: Corpus, clip: Clip) -> str:
    """Return the id of a clip: the speaker's id first, as Kaldi sorts."""
    return f"{_speaker(corpus, clip)}-{clip.name}"


def decoded(path: Path) -> Path:
    """Prefer audio that was decoded beside a film (`x.wav` beside `x.mp4`)."""
    beside = (path.with_suffix(suffix) for suffix in (".wav", ".flac"))
    return next((p for p in beside if p.is_file()), path)


def _speaker(corpus: Corpus, clip: Clip) -> str:
    return f"{corpus.name.replace('_', '')}{clip.speaker}"


def _entry(audio: Path) -> str:
    """Return the entry of wav.scp; films are decoded by ffmpeg when they are read."""
    path = str(audio.resolve())
    if audio.suffix.lower() in READABLE:
        _refuse_pointer(audio)
        return path
    if shutil.which("ffmpeg") is None:
        raise ValueError(
            f"{audio}: its audio is decoded by ffmpeg, which is not on the PATH: "
            f"install it, or put {audio.stem}.wav beside it (the same for all others)"
        )
    return f"ffmpeg -nostdin -loglevel error -i {shlex.quote(path)} -vn -f wav - |"


def _refuse_pointer(audio: Path) -> None:
    if pointed(audio):
        raise ValueError(
            f"{audio}: a Git-LFS pointer, no audio: run 'git lfs pull' there"
        )


def _group_folds(group: Mapping[str, str], corpus: Corpus) -> list[Fold]:
    """Test on each group once; the next one is for validation."""
    names = sorted(set(group.values()))
    if len(names) < 3:
        raise ValueError(
            f"{corpus.title}: {len(names)} group(s) {names}, expected at least three: "
            "one to learn from, one for validation, one to test on"
        )
    return [
        Fold(
            str(n + 1),
            train=tuple(u for u in group if group[u] not in (test, valid)),
            valid=tuple(u for u in group if group[u] == valid),
            test=tuple(u for u in group if group[u] == test),
        )
        for n, (test, valid) in enumerate(zip(names, [*names[1:], names[0]]))
    ]


def _part_folds(
    group: Mapping[str, str], speaker: Mapping[str, str], corpus: Corpus
) -> list[Fold]:
    """Return one fold for each official test part."""
    tests = sorted(set(group.values()) - {*PARTS, ""})
    if not tests or "train" not in group.values():
        raise ValueError(
            f"{corpus.title}: parts {sorted(set(group.values()))}, expected train, "
            "valid and at least one test part"
        )
    folds = []
    for n, test in enumerate(tests, 1):
        parts: dict[str, tuple[str, ...]] = {}
        taken: set[str] = set()
        for part in (test, "valid", "train"):
            listed = [u for u in group if group[u] == part]
            parts[part] = tuple(u for u in listed if speaker[u] not in taken)
            if lost := len(listed) - len(parts[part]):
                logging.warning(
                    "fold %d: %d clips of %s left out, their speakers are held out",
                    *(n, lost, part),
                )
            taken |= {speaker[u] for u in parts[part]}
        if not parts["train"]:
            raise ValueError(
                f"{corpus.title}: fold {n} has no clip to learn from: all speakers of "
                f"train are in {test} or valid"
            )
        folds.append(Fold(str(n), parts["train"], parts["valid"], parts[test]))
    return folds
