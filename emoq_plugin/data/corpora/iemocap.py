"""IEMOCAP: acted and improvised dialogues of ten English speakers, with raters.

Busso et al.: "IEMOCAP: interactive emotional dyadic motion capture database",
Language Resources and Evaluation 42, 2008. Five sessions, a woman and a man each.

Layout: `Session<n>/sentences/wav/<dialogue>/<turn>.wav`,
`Session<n>/dialog/EmoEvaluation/<dialogue>.txt`,
`Session<n>/dialog/transcriptions/<dialogue>.txt`. In EmoEvaluation a line
`[6.29 - 8.24] <turn> neu [2.5, 2.5, 2.5]` gives the agreed label (`xxx`: none) and the
lines below it the raters: `C-E2: Neutral;  ()` is an external one, `C-F1` and `C-M1`
are the actors themselves. A rater may name several emotions: one vote is shared.
The agreed label rests on external raters, and so do the votes (`raters external`).
The three numbers are valence, arousal (activation) and dominance from 1 to 5, means
over the raters.
"""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.tables import files, read_text, read_texts
from emoq_plugin.data.ratings import published_ratings
from emoq_plugin.data.tree import listed

PAPER4 = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral"}
PAPER4["sad"] = "sad"
ALL = {
    "ang": "angry",
    "hap": "happy",
    "neu": "neutral",
    "sad": "sad",
    "exc": "excited",
    "fru": "frustrated",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
}
# What raters write -> the code of the agreed labels.
RATED = {
    "anger": "ang",
    "happiness": "hap",
    "excited": "exc",
    "excitement": "exc",
    "neutral": "neu",
    "neutral state": "neu",
    "sadness": "sad",
    "frustration": "fru",
    "fear": "fea",
    "surprise": "sur",
    "surprised": "sur",
    "disgust": "dis",
    "disgusted": "dis",
    "other": "oth",
}
TURN = re.compile(r"\[\d[\d.]* - [\d.]+\]\s+(\S+)\s+(\w{3})\s+\[([^\]]*)")
RATED_IN_ORDER = ("valence", "arousal", "dominance")
SCALE = (1.0, 5.0)
RATER = re.compile(r"C-([EFM])\w*:\s*(.*)")
NAME = r"((Ses(\d\d))[FM]_(?:script|impro)\w*?)_([FM])\w*"


@dataclass
class Evaluation:
    """What EmoEvaluation says of a turn."""

    label: str
    ratings: dict[str, float]
    votes: dict[str, float] = field(default_factory=dict)


def find(directory: Path, *, raters: str = "external") -> list[Clip]:
    """Find the turns that EmoEvaluation lists."""
    audio: dict[str, list[Path]] = {}
    for path, _ in files(directory, NAME + r"\.wav"):
        audio.setdefault(path.stem, []).append(path)
    clips = []
    strange: list[str] = []
    tables = [path for path, _ in files(directory, r"Ses\d\d[FM]_\w+\.txt")]
    tables = [path for path in tables if path.parent.name == "EmoEvaluation"]
    scripts = read_texts({str(path): _script(path) for path in tables}, "cp1252")
    for table in tables:
        session = table.parents[2]
        texts = _texts(scripts.get(str(table), ""))
        for turn, said in _evaluations(table, raters, strange).items():
            match = re.fullmatch(NAME, turn)
            if not match:
                raise ValueError(
                    f"{table}: turn '{turn}', expected Ses01F_impro01_F000"
                )
            place = session / "sentences" / "wav" / match[1] / f"{turn}.wav"
            clips += [
                Clip(
                    turn,
                    path,
                    match[2] + match[4],
                    "" if said.label == "xxx" else said.label,
                    votes=said.votes,
                    ratings=said.ratings,
                    text=texts.get(turn, ""),
                    gender=match[4].lower(),
                    group=match[2],
                )
                for path in audio.get(turn, [place])
            ]
    if strange:
        logging.warning("not read: %s", listed({"ratings": strange}))
    return clips


def _evaluations(table: Path, raters: str, strange: list[str]) -> dict[str, Evaluation]:
    """Return label, ratings and votes by turn."""
    found: dict[str, Evaluation] = {}
    votes: dict[str, float] = {}
    # Comments of raters may hold any byte.
    for number, line in enumerate(read_text(table, "iso-8859-1").splitlines(), 1):
        if turn := TURN.match(line):
            if turn[1] in found:
                raise ValueError(f"{table}:{number}: turn '{turn[1]}' occurs twice")
            rated = dict(zip(RATED_IN_ORDER, map(str.strip, turn[3].split(","))))
            ratings = published_ratings(rated, SCALE, f"{table}:{number}", strange)
            found[turn[1]] = Evaluation(turn[2].lower(), ratings)
            votes = found[turn[1]].votes
            continue
        rater = RATER.match(line)
        if rater and (rater[1] == "E" or raters == "all"):
            named = [x.strip().lower() for x in rater[2].split("(")[0].split(";")]
            named = [x for x in named if x]
            for emotion in named:
                if emotion not in RATED:
                    raise ValueError(
                        f"{table}:{number}: rater category '{emotion}', expected one "
                        f"of: {', '.join(RATED)}"
                    )
                code = RATED[emotion]
                votes[code] = votes.get(code, 0.0) + 1 / len(named)
        elif re.match(r"\[\s*\d|C-", line) and not rater:
            raise ValueError(
                f"{table}:{number}: '{line}', expected '[<start> - <end>] <turn> "
                "<code> [<V>, <A>, <D>]' or 'C-<rater>: <emotion>; ()'"
            )
    return found


def _script(table: Path) -> Path:
    """Return the place of the words that belong to a table of EmoEvaluation."""
    return table.parents[1] / "transcriptions" / table.name


def _texts(script: str) -> dict[str, str]:
    """Read `<turn> [start-end]: <words>`."""
    return dict(re.findall(r"^(Ses\S+)\s*\[[^\]]*\]:?\s*(.*)$", script, re.M))


CORPUS = Corpus(
    name="iemocap",
    title="IEMOCAP",
    layout="<directory>/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav "
    "and <directory>/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
    source="https://sail.usc.edu/iemocap/ (licence on request)",
    labels={
        "paper4": PAPER4,
        "paper4_without_excited": {k: v for k, v in PAPER4.items() if k != "exc"},
        "all": ALL,
    },
    others=("oth",),
    find=find,
    published=Published(
        "full release, labels agreed by two of three raters",
        clips=(10039,),
        speakers=(10,),
        labels={
            "ang": 1103,
            "hap": 595,
            "exc": 1041,
            "neu": 1708,
            "sad": 1084,
            "fru": 1849,
            "fea": 40,
            "sur": 107,
            "dis": 2,
            "oth": 3,
            "": 2507,
        },
    ),
    options={"raters": ("external", "all")},
    rating_scale=SCALE,
    folds="groups",
)
