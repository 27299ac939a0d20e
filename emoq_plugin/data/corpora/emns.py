"""EMNS: emotive narrative storytelling, one English speaker, acted.

Noriy, Yang, Zhang: arXiv 2305.13137, 2023; OpenSLR 136. Eight emotions, 48 kHz.

Layout: `metadata.csv` (divided by |: id, utterance, description, emotion, ..., gender,
age, level, audio_recording, user_id) and `cleaned_webm/<recording>.webm`, which ffmpeg
decodes; a decoded .wav or .flac beside it is preferred.

With one speaker no fold can be speaker-disjoint: folds are disjoint in sentences, and
utt2spk holds five parts of the speaker. Use it to test what other corpora taught.
"""

import hashlib
from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published, decoded
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import first_of, rows

PAPER4 = {"Angry": "angry", "Happy": "happy", "Neutral": "neutral", "Sad": "sad"}
ALL = PAPER4 | {
    "Excited": "excited",
    "Surprised": "surprise",
    "Disgust": "disgust",
    "Sarcastic": "sarcastic",
}
OPENSLR = "https://www.openslr.org/resources/136"
N_PARTS = 5
COLUMNS = ("utterance", "emotion", "gender", "audio_recording", "user_id")


def find(directory: Path) -> list[Clip]:
    """Find the recordings that metadata.csv lists."""
    folder = first_of(directory, "cleaned_webm", "raw_webm", "wavs")
    # An archive that is unpacked into a folder of its own name.
    folder = folder / folder.name if (folder / folder.name).is_dir() else folder
    clips = []
    for _, row in rows(first_of(directory, "metadata.csv"), COLUMNS, delimiter="|"):
        audio = decoded(folder / Path(row["audio_recording"]).name)
        words = " ".join(row["utterance"].lower().split())
        part = int(hashlib.sha256(words.encode()).hexdigest(), 16) % N_PARTS + 1
        clips.append(
            Clip(
                audio.stem,
                audio,
                f"{row['user_id']}part{part}",
                row["emotion"].capitalize(),
                text=row["utterance"],
                gender=row["gender"],
            )
        )
    return clips


CORPUS = Corpus(
    name="emns",
    title="EMNS",
    layout="<directory>/metadata.csv and <directory>/cleaned_webm/*.webm",
    source="https://www.openslr.org/136 (metadata.csv, cleaned_webm.tar.xz)",
    labels={"paper4": PAPER4, "all": ALL},
    find=find,
    published=Published("EmoBox, Interspeech 2024", clips=(1181,)),
    n_valid_speakers=1,
    download=Download(
        [
            Archive(f"{OPENSLR}/{name}", name)
            for name in ("metadata.csv", "cleaned_webm.tar.xz")
        ]
    ),
    note="one speaker: folds are disjoint in sentences, not in speakers, and intervals "
    "over speakers are intervals over parts of one speaker",
)
