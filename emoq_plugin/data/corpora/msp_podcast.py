"""MSP-Podcast: spontaneous English speech from podcasts, with raters.

Lotfian, Busso: IEEE Transactions on Affective Computing 10(4), 2019, and later
releases. 16 kHz; at least five raters a clip.

Layout: `Audios/MSP-PODCAST_0001_0008.wav`, `Labels/labels_consensus.csv` (FileName,
EmoClass, SpkrID, Gender, Split_Set; ratings EmoAct, EmoVal, EmoDom from 1 to 7),
`Labels/labels_detailed.csv` (one row a rater: FileName and either EmoDetail,
`WORKER1; Angry; Annoyed,Frustrated; A:5; V:2; D:5;`, or EmoClass_Major and
EmoClass_Second) and `Transcripts/<clip>.txt`. Earlier releases call
them `labels_concensus`, `Audio`, `Validation`; both tables also come as JSON.

Folds are the official partition: one for each Test part, train and validation the same.
Speakers named Unknown count as one each. `votes primary+secondary` shares a rater's
vote among the primary and the secondary emotions that are classes.
"""

import logging
import re
import reprlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.tables import (
    first_of,
    given,
    optional_table,
    read_texts,
    rows,
)
from emoq_plugin.data.ratings import published_ratings
from emoq_plugin.data.tree import listed
from emoq_plugin.files import read_json

PAPER4 = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
ALL = PAPER4 | {"U": "surprise", "F": "fear", "D": "disgust", "C": "contempt"}
# What raters write -> the code of the agreed labels; everything else is O (other).
RATED = {
    "angry": "A",
    "anger": "A",
    "happy": "H",
    "happiness": "H",
    "neutral": "N",
    "sad": "S",
    "sadness": "S",
    "surprise": "U",
    "surprised": "U",
    "fear": "F",
    "disgust": "D",
    "contempt": "C",
}
RATINGS = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
SCALE = (1.0, 7.0)
PARTS = {"train": "train", "development": "valid", "validation": "valid"}


def find(directory: Path, *, votes: str = "primary") -> list[Clip]:
    """Find the clips that the consensus table lists."""
    audio = first_of(directory, "Audios", "Audio")
    read = partial(_votes, directory, secondary=votes != "primary")
    counts = optional_table(read, {}, "votes")
    table = list(_consensus(directory))
    names = [Path(name).stem for _, name, _ in table]
    texts = read_texts({n: directory / "Transcripts" / f"{n}.txt" for n in names})
    clips = []
    strange: list[str] = []
    for where, name, row in table:
        stem, speaker = Path(name).stem, given(row["SpkrID"])
        clips.append(
            Clip(
                stem,
                audio / name,
                f"Unknown{stem}" if speaker.lower() in ("unknown", "") else speaker,
                "" if row["EmoClass"] == "X" else row["EmoClass"],
                votes=counts.get(name, {}),
                ratings=published_ratings(
                    {d: given(row.get(column, "")) for d, column in RATINGS.items()},
                    *(SCALE, where, strange),
                ),
                text=texts.get(stem, ""),
                gender=row.get("Gender", ""),
                group=_part(where, row["Split_Set"]),
            )
        )
    if strange:
        logging.warning("not read: %s", listed({"ratings": strange}))
    return clips


def _part(where: str, part: str) -> str:
    """Return the part of the official partition: train, valid, test1 ...

    Raises
    ------
    ValueError
        For any other name.
    """
    part = part.lower()
    if part not in PARTS and not re.fullmatch(r"test\d*", part):
        raise ValueError(
            f"{where}: Split_Set '{part}', expected Train, Development, Validation or "
            "Test and a number"
        )
    return PARTS.get(part, part)


def _consensus(directory: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Return place, file name and row of the consensus table, CSV or JSON."""
    names = ("labels_consensus", "labels_concensus")
    path = first_of(
        directory, *(f"{n}.{kind}" for kind in ("csv", "json") for n in names)
    )
    needed = ["EmoClass", "SpkrID", "Split_Set"]
    if path.suffix == ".csv":
        for line, row in rows(path, ["FileName", *needed]):
            yield f"{path}:{line}", row["FileName"], row
        return
    for name, row in _records(path, read_json(path)):
        if missing := [key for key in needed if key not in row]:
            raise ValueError(f"{path}: '{name}' has no {missing[0]}")
        yield f"{path}: {name}", name, {key: str(value) for key, value in row.items()}


def _records(where: str | Path, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the objects in a JSON object by name; refuse anything else."""
    for name, record in value.items() if isinstance(value, dict) else [("", value)]:
        if not isinstance(record, dict):
            raise ValueError(
                f"{where}: found {reprlib.repr(record)} as '{name}', expected an object"
            )
        yield name, record


def _votes(directory: Path, *, secondary: bool) -> dict[str, dict[str, float]]:
    """Count the raters by clip."""
    path = first_of(directory, "labels_detailed.csv", "labels_detailed.json")
    counts: dict[str, dict[str, float]] = {}
    strange: dict[str, list[str]] = {}
    for name, first, second in _ratings(path):
        named = [RATED.get(first.strip().lower(), "O")]
        if named == ["O"] and not first.strip().lower().startswith("other"):
            strange.setdefault("ratings by no known emotion", []).append(first.strip())
        if secondary:
            others = (RATED.get(x.strip().lower()) for x in second.split(","))
            named = list(dict.fromkeys([*named, *(x for x in others if x)]))
        clip = counts.setdefault(name, {})
        for code in named:
            clip[code] = clip.get(code, 0.0) + 1 / len(named)
    if strange:
        logging.warning("%s: counted as other: %s", path, listed(strange))
    return counts


def _ratings(path: Path) -> Iterator[tuple[str, str, str]]:
    """Return clip, primary and secondary emotions of every rater."""
    if path.suffix == ".json":
        for name, raters in _records(path, read_json(path)):
            for rater, rating in _records(f"{path}: {name}", raters):
                second = rating.get("EmoClass_Second") or ""
                second = second if isinstance(second, str) else ",".join(second)
                if not isinstance(first := rating.get("EmoClass_Major"), str):
                    raise ValueError(f"{path}: {name}: {rater}: no EmoClass_Major")
                yield name, first, second
        return
    for line, row in rows(path, ["FileName"]):
        if "EmoClass_Major" in row:
            yield row["FileName"], row["EmoClass_Major"], row.get("EmoClass_Second", "")
            continue
        # Secondary emotions may be absent; attributes are known by their colon.
        fields = [f.strip() for f in row.get("EmoDetail", "").split(";")]
        if len(fields) < 2:
            raise ValueError(
                f"{path}:{line}: expected EmoClass_Major, or EmoDetail such as "
                "'WORKER1; Angry; Annoyed; A:5; V:2; D:5;'"
            )
        second = fields[2] if len(fields) > 2 and ":" not in fields[2] else ""
        yield row["FileName"], fields[1], second


CORPUS = Corpus(
    name="msp_podcast",
    title="MSP-Podcast",
    layout="<directory>/Audios/MSP-PODCAST_0001_0008.wav and "
    "<directory>/Labels/labels_consensus.csv",
    source="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html "
    "(academic licence on request)",
    labels={"paper4": PAPER4, "all": ALL},
    others=("O",),
    find=find,
    published=Published(
        "releases 1.11 (151,654 clips) and 2.0 (264,705)", clips=(151654, 264705)
    ),
    options={"votes": ("primary", "primary+secondary")},
    rating_scale=SCALE,
    folds="parts",
)
