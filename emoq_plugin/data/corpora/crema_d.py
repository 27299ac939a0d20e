"""CREMA-D: crowd-sourced emotional multimodal actors dataset, with votes on the voice.

Cao et al., IEEE Transactions on Affective Computing 5(4), 2014. 91 English speakers,
twelve sentences, six emotions, 16 kHz. About ten raters judged the voice alone, others
the face alone, others both.

Layout: `AudioWAV/1001_DFA_ANG_XX.wav` (speaker, sentence, intended emotion, strength),
`VideoDemographics.csv`, `processedResults/tabulatedVotes.csv` (columns A D F H N S
and fileName; row ids 1xxxxx voice, 2xxxxx face, 3xxxxx both, without which it is
refused). A file of exactly this name, `votes_voice.csv` (columns clip, anger, disgust,
fear, happy, neutral, sad), is read too.

What a speaker meant (`labels intended`) and what listeners heard (`perceived`, the
unique majority of the votes on the voice) are different labels: they agree on 3099 of
7442 clips. Votes are written with perceived labels only. Some distributed files are
silent (1076_MTI_SAD_XX): stage 2 leaves them out with `--on_error drop`.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import (
    columns_of,
    files,
    first_of,
    optional_table,
    rows,
)
from emoq_plugin.data.votes import majority

PAPER4 = {"ANG": "angry", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
ALL = PAPER4 | {"DIS": "disgust", "FEA": "fear"}
VOICE_TABLE = "votes_voice.csv"
OFFICIAL_TABLE = "tabulatedVotes.csv"
# Their columns -> codes of the file names.
OFFICIAL = {"A": "ANG", "D": "DIS", "F": "FEA", "H": "HAP", "N": "NEU", "S": "SAD"}
PLAIN = {
    "anger": "ANG",
    "disgust": "DIS",
    "fear": "FEA",
    "happy": "HAP",
    "neutral": "NEU",
    "sad": "SAD",
}
SENTENCES = {
    "DFA": "Don't forget a jacket",
    "IEO": "It's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "Maybe tomorrow it will be cold",
    "TAI": "The airplane is almost full",
    "TIE": "That is exactly what happened",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
# Recordings are in Git LFS: the archive of a commit has their checksums only.
GITHUB = "CheyneyComputerScience/CREMA-D"
COMMIT = "1658cd342dff90010aa843eaeebd53610a08b1dc"
# Speaker, sentence, intended emotion, strength.
NAME = r"(\d{4})_(\w{3})_(\w{3})_\w{1,2}"
# First speaker of each of the five folds.
RANGES = (1001, 1019, 1037, 1055, 1073)


def read_voice_votes(path: Path) -> dict[str, dict[str, float]]:
    """Read the votes on the voice alone.

    Parameters
    ----------
    path : Path
        `tabulatedVotes.csv`, `votes_voice.csv`, or a directory that holds one.

    Returns
    -------
    dict of str to (dict of str to float)
        Counts by code (ANG ...) by clip (1001_DFA_ANG_XX); every code is named.
    """
    if path.is_dir():
        path = first_of(path, VOICE_TABLE, OFFICIAL_TABLE)
    official = "clip" not in columns_of(path)
    clip, columns = ("fileName", OFFICIAL) if official else ("clip", PLAIN)
    if not official and path.name != VOICE_TABLE:
        raise ValueError(
            f"{path}: its name does not say whether raters heard the voice alone: "
            f"expected {VOICE_TABLE}, or {OFFICIAL_TABLE} with its row ids"
        )
    table = list(rows(path, [clip, *columns]))
    shown = _shown(path, [row for _, row in table]) if official else ["1"] * len(table)
    votes: dict[str, dict[str, float]] = {}
    for (line, row), kind in zip(table, shown):
        if kind != "1":
            continue
        name = Path(row[clip]).stem
        if name in votes:
            raise ValueError(f"{path}:{line}: clip '{name}' occurs twice")
        votes[name] = _counts(f"{path}:{line}: {name}", row, columns)
    return votes


def _shown(path: Path, table: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the first digit of each row id: 1 where raters heard the voice alone.

    Raises
    ------
    ValueError
        If there is no column of row ids, whatever its name, or several that differ.
    """
    columns: dict[str, list[str]] = {}
    for row in table:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    found = {
        tuple(value[0] for value in values)
        for values in columns.values()
        if all(re.fullmatch(r"[123]\d{5}|[123]e\+05", value) for value in values)
    }
    if len(found) != 1 or "1" not in next(iter(found)):
        raise ValueError(
            f"{path}: {len(found)} columns of row ids that say 1xxxxx (voice), "
            "2xxxxx (face) or 3xxxxx (both), expected one, without which all votes "
            f"look alike: take {OFFICIAL_TABLE} as distributed"
        )
    return list(found.pop())


def _counts(
    where: str, row: Mapping[str, str], columns: Mapping[str, str]
) -> dict[str, float]:
    try:
        counts = {code: float(row[name]) for name, code in columns.items()}
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not all(0 <= count < np.inf for count in counts.values()):
        raise ValueError(f"{where}: votes must be finite and >= 0, found {counts}")
    return counts


def perceived(votes: dict[str, float]) -> str:
    """Return the code most raters heard, empty where two or more share the lead.

    Examples
    --------
    >>> perceived({"ANG": 2, "NEU": 7})
    'NEU'
    >>> perceived({"ANG": 5, "DIS": 5})
    ''
    """
    return majority(np.array(list(votes.values())), list(votes)) or ""


def find(
    directory: Path, *, labels: str = "perceived", vote_table: str = ""
) -> list[Clip]:
    """Find the clips; `vote_table` names another place of the votes."""
    heard: dict[str, dict[str, float]] = {}
    if labels == "perceived":
        heard = read_voice_votes(Path(vote_table or directory))
    gender = optional_table(lambda: _genders(directory, vote_table), {}, "genders")
    recordings = [audio for audio, _ in files(directory, rf"{NAME}\.wav")]
    there = {audio.stem for audio in recordings}
    lacking = [directory / "AudioWAV" / f"{name}.wav" for name in heard.keys() - there]
    clips = []
    for audio in [*recordings, *lacking]:
        match = re.fullmatch(NAME, audio.stem, re.IGNORECASE)
        if not match:
            raise ValueError(
                f"votes on '{audio.stem}', expected a clip such as 1001_DFA_ANG_XX"
            )
        speaker, sentence, label = match.groups()
        counts, reason = heard.get(audio.stem, {}), ""
        if labels == "perceived":
            label = perceived(counts) if counts else ""
            reason = "" if counts else "without votes in the table"
        clips.append(
            Clip(
                audio.stem,
                audio,
                speaker,
                label,
                votes=counts,
                text=SENTENCES.get(sentence, ""),
                gender=gender.get(speaker, ""),
                group=str(sum(int(speaker) >= first for first in RANGES)),
                left_out=reason,
            )
        )
    return clips


def _genders(directory: Path, vote_table: str) -> dict[str, str]:
    """Read the gender by speaker; the table may be beside other votes."""
    name, votes = "VideoDemographics.csv", Path(vote_table or directory)
    try:
        table = first_of(directory, name)
    except FileNotFoundError:
        table = first_of(votes, name) if votes.is_dir() else votes.with_name(name)
    return {row["ActorID"]: row["Sex"] for _, row in rows(table, ["ActorID", "Sex"])}


CORPUS = Corpus(
    name="crema_d",
    title="CREMA-D",
    layout="<directory>/AudioWAV/1001_DFA_ANG_XX.wav and "
    "<directory>/processedResults/tabulatedVotes.csv",
    source="https://github.com/CheyneyComputerScience/CREMA-D, with Git LFS (ODbL 1.0)",
    labels={"paper4": PAPER4, "all": ALL},
    find=find,
    published=Published(
        "IEEE Transactions on Affective Computing 2014", clips=(7442,), speakers=(91,)
    ),
    download=Download(
        [Archive(f"https://github.com/{GITHUB}/archive/{COMMIT}.zip", "CREMA-D.zip")],
        media_url=f"https://media.githubusercontent.com/media/{GITHUB}/{COMMIT}",
        media_folder="AudioWAV",
    ),
    options={"labels": ("perceived", "intended"), "vote_table": ()},
    folds="groups",
)
