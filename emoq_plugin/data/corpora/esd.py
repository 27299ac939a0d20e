"""ESD: Emotional Speech Dataset, acted, English and Mandarin.

Zhou, Sisman, Liu, Li: "Seen and unseen emotional style transfer for voice conversion
with a new emotional speech dataset", ICASSP 2021. Ten speakers a language say 350
sentences in five emotions, 16 kHz.

Layout: `<speaker>/<speaker>.txt` (id, text, emotion, divided by tabs; UTF-8, UTF-16
with a byte order mark, or the 8-bit encoding of the language) and
`<speaker>/<Emotion>/<speaker>_<number>.wav`; the first release has train, evaluation
and test folders between emotion and file. Its partition shares speakers, so folds are
made of speakers here. English speakers are 0011-0020, Mandarin ones 0001-0010.
"""

import logging
import re
from functools import partial
from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.tables import files, only, optional_table, read_text
from emoq_plugin.data.tree import listed

ALL = {
    "Angry": "angry",
    "Happy": "happy",
    "Neutral": "neutral",
    "Sad": "sad",
    "Surprise": "surprise",
}
SPEAKERS = {"english": range(11, 21), "mandarin": range(1, 11), "both": range(1, 21)}
# Of tables that are not Unicode.
ENCODINGS = {"english": "cp1252", "mandarin": "gb18030"}


def find(directory: Path, *, language: str = "english") -> list[Clip]:
    """Find the clips of a language; labels are folder names."""
    clips = []
    texts: dict[str, dict[str, str]] = {}
    for audio, match in files(directory, r"(\d{4})_(\d{6})\.wav"):
        speaker = match[1]
        other = int(speaker) not in SPEAKERS[language]
        folders = audio.relative_to(directory).parts[:-1]
        label = only((f for f in folders if f in ALL), audio, "emotions")
        if not label:
            raise ValueError(f"{audio}: no folder above it is one of {' '.join(ALL)}")
        if speaker not in texts and not other:
            read = partial(_texts, audio, speaker)
            texts[speaker] = optional_table(read, {}, f"texts of speaker {speaker}")
        clips.append(
            Clip(
                audio.stem,
                audio,
                speaker,
                label,
                text=texts.get(speaker, {}).get(audio.stem, ""),
                left_out=f"not --language {language}" if other else "",
            )
        )
    return clips


def _texts(audio: Path, speaker: str) -> dict[str, str]:
    """Read `<speaker>.txt`, which is two or three folders above the audio."""
    tables = [folder / f"{speaker}.txt" for folder in audio.parents[1:4]]
    table = next((t for t in tables if t.is_file()), None)
    if table is None:
        raise FileNotFoundError(f"found no {tables[0]}")
    language = next(x for x in ENCODINGS if int(speaker) in SPEAKERS[x])
    texts: dict[str, str] = {}
    strange = []
    for line in filter(str.strip, read_text(table, ENCODINGS[language]).splitlines()):
        name, text = _name_and_text(line)
        if text and re.fullmatch(rf"{speaker}_\d{{6}}", name):
            texts[name] = text
        else:
            strange.append(line)
    if strange:
        logging.warning("%s: %s", table, listed({"lines without id and text": strange}))
    return texts


def _name_and_text(line: str) -> tuple[str, str]:
    r"""Split a line; the text is empty where it cannot be separated from the emotion.

    Examples
    --------
    >>> _name_and_text("0011_000001\tThe nine.\tAngry")
    ('0011_000001', 'The nine.')
    >>> _name_and_text("0011_000001 The nine. Angry")
    ('0011_000001', 'The nine.')
    >>> _name_and_text("0011_000001 The nine eggs.")
    ('0011_000001', '')
    """
    name, *fields = (field.strip() for field in line.split("\t"))
    if fields:
        return name, fields[0]
    name, *words = line.split()
    known = bool(words) and words[-1].capitalize() in ALL
    mandarin = len(words) == 2 and not words[0].isascii()  # written without blanks
    return name, " ".join(words[:-1]) if known or mandarin else ""


CORPUS = Corpus(
    name="esd",
    title="ESD (Emotional Speech Dataset)",
    layout="<directory>/0011/Angry/0011_000351.wav and <directory>/0011/0011.txt",
    source="https://hltsingapore.github.io/ESD/ (for research)",
    labels={"paper4": {k: v for k, v in ALL.items() if k != "Surprise"}, "all": ALL},
    find=find,
    published=Published(
        "ICASSP 2021 paper: 350 sentences, 5 emotions, 10 speakers a language",
        clips=(17500, 35000),
        speakers=(10, 20),
    ),
    options={"language": ("english", "mandarin", "both")},
)
