"""eNTERFACE'05: films of speakers of many nations acting in English, no neutral.

Martin, Kotsia, Macq, Pitas: "The eNTERFACE'05 audio-visual emotion database", ICDE
Workshops 2006. Six emotions, five sentences each, 48 kHz in AVI files that ffmpeg
decodes; a decoded .wav or .flac beside a film is preferred.

Layout: `subject <n>/<emotion>/sentence <m>/s<n>_<em>_<m>.avi`, `subject-<n>` and
`subject_<n>` too; some subjects have no sentence folders and some names are irregular,
so that speaker and emotion are taken from folders. There is no neutral class: `paper3`
is angry, happy, sad.
"""

import re
from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published, decoded
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import files, only

PAPER3 = {"anger": "angry", "happiness": "happy", "sadness": "sad"}
ALL = PAPER3 | {"fear": "fear", "disgust": "disgust", "surprise": "surprise"}


def find(directory: Path) -> list[Clip]:
    """Find the films, or the audio decoded from them."""
    clips: dict[Path, Clip] = {}
    for path, _ in files(directory, r".+\.(avi|wav|flac)"):
        folders = [f.lower().strip() for f in path.relative_to(directory).parts[:-1]]
        numbers = (re.match(r"subject[\s_-]*(\d+)", folder) for folder in folders)
        subject = only((m[1] for m in numbers if m), path, "subjects")
        label = only((f for f in folders if f in ALL), path, "emotions")
        if not subject or not label:
            continue
        speaker = f"{int(subject):02d}"
        name = f"{label}-{re.sub(r'[^A-Za-z0-9]+', '_', path.stem)}"
        clips[path.with_suffix("")] = Clip(name, decoded(path), speaker, label)
    return list(clips.values())


CORPUS = Corpus(
    name="enterface",
    title="eNTERFACE'05",
    layout="<directory>/subject 1/anger/sentence 1/s1_an_1.avi",
    source="https://enterface.net/enterface05/",
    labels={"paper3": PAPER3, "all": ALL},
    find=find,
    published=Published(
        "EmoBox, Interspeech 2024, and 1293 films in albanie/mcnDatasets",
        clips=(1263, 1293),
        speakers=(44,),
    ),
    download=Download(
        [
            Archive(
                "https://enterface.net/enterface05/docs/results/databases/"
                "project2_database.zip",
                "project2_database.zip",
            )
        ]
    ),
)
