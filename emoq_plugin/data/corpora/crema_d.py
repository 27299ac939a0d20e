"""CREMA-D: crowd-sourced emotional multimodal actors dataset, with votes on the voice.

Cao et al., IEEE Transactions on Affective Computing 5(4), 2014. 91 English speakers,
twelve sentences, six emotions, 16 kHz. About ten raters judged the voice alone, others
the face alone, others both.

Layout: `AudioWAV/1001_DFA_ANG_XX.wav` (speaker, sentence, intended emotion, strength),
`VideoDemographics.csv`, `processedResults/tabulatedVotes.csv` (columns A D F H N S
and fileName; row ids 1xxxxx voice, 2xxxxx face, 3xxxxx both). A file
`votes_voice.csv` (columns clip, anger, disgust, fear, happy, neutral, sad) is read too.

What a speaker meant (`labels intended`) and what listeners heard (`perceived`, the
unique majority of the votes on the voice) are different labels: they agree on 3099 of
7442 clips. Votes are written with perceived labels only. Some distributed files are
silent (1076_MTI_SAD_XX): stage 2 leaves them out with `--on_error drop`.
"""

from pathlib import Path

import numpy as np

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import files, first_of, rows
from emoq_plugin.data.votes import majority

PAPER4 = {"ANG": "angry", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
ALL = PAPER4 | {"DIS": "disgust", "FEA": "fear"}
# Columns of tabulatedVotes.csv and of votes_voice.csv -> codes of the file names.
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
# Recordings stand in Git LFS: the archive of a commit has their checksums only.
GITHUB = "CheyneyComputerScience/CREMA-D"
COMMIT = "1658cd342dff90010aa843eaeebd53610a08b1dc"
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
        path = first_of(path, "votes_voice.csv", "tabulatedVotes.csv")
    with open(path, encoding="utf-8") as stream:
        official = "fileName" in stream.readline()
    clip, columns = ("fileName", OFFICIAL) if official else ("clip", PLAIN)
    votes = {}
    for line, row in rows(path, [clip, *columns]):
        # The first column, without a name, tells what raters were shown.
        if official and not row.get("", "1").strip('"').startswith("1"):
            continue
        try:
            counts = {code: float(row[name]) for name, code in columns.items()}
        except ValueError as error:
            raise ValueError(f"{path}:{line}: {row[clip]}: {error}") from error
        votes[row[clip]] = counts
    return votes


def perceived(votes: dict[str, float]) -> str:
    """Give the code most raters heard, empty where two or more share the lead.

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
    heard = {}
    if labels == "perceived":
        heard = read_voice_votes(Path(vote_table or directory))
    gender = _genders(directory, vote_table)
    clips = []
    for audio, match in files(directory, r"(\d{4})_(\w{3})_(\w{3})_\w{1,2}\.wav"):
        speaker, sentence, label = match.groups()
        counts = heard.get(audio.stem, {})
        if labels == "perceived":
            label = perceived(counts) if counts else ""
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
            )
        )
    return clips


def _genders(directory: Path, vote_table: str) -> dict[str, str]:
    for place in (directory, Path(vote_table or directory)):
        for table, _ in files(place, r"VideoDemographics\.csv"):
            listed = rows(table, ["ActorID", "Sex"])
            return {row["ActorID"]: row["Sex"][:1].lower() for _, row in listed}
    return {}


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
