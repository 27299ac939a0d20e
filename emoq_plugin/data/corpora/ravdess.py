"""RAVDESS: Ryerson audio-visual database of emotional speech and song, speech only.

Livingstone, Russo: PLoS ONE 13(5), 2018. 24 English (North American) actors, two
sentences, eight emotions in two strengths, twice each, 48 kHz; a few files are stereo.

Layout: `Actor_<nn>/03-01-<emotion>-<strength>-<sentence>-<take>-<actor>.wav`, directly
or below `Audio_Speech_Actors_01-24`; odd actors are men. Only audio (first field 03) of
speech (second field 01) is used.
"""

from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import files

SPEECH = "03-01"
EMOTIONS = {
    "05": "angry",
    "03": "happy",
    "01": "neutral",
    "04": "sad",
    "02": "calm",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
PAPER4 = {k: v for k, v in EMOTIONS.items() if k in ("05", "03", "01", "04")}
SENTENCES = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}


def find(directory: Path) -> list[Clip]:
    """Find spoken recordings; the file name says everything."""
    name = r"(\d\d-\d\d)-(\d\d)-\d\d-(\d\d)-\d\d-(\d\d)\.wav"
    return [
        Clip(
            audio.stem,
            audio,
            match[4],
            match[2],
            text=SENTENCES.get(match[3], ""),
            gender="m" if int(match[4]) % 2 else "f",
            left_out="" if match[1] == SPEECH else "songs or sound of films",
        )
        for audio, match in files(directory, name)
    ]


CORPUS = Corpus(
    name="ravdess",
    title="RAVDESS",
    layout="<directory>/Actor_01/03-01-01-01-01-01-01.wav, or the archive "
    "Audio_Speech_Actors_01-24.zip",
    source="https://zenodo.org/records/1188976 (CC BY-NC-SA 4.0)",
    labels={
        "paper4": PAPER4,
        "paper4_calm_is_neutral": PAPER4 | {"02": "neutral"},
        "all": EMOTIONS,
        "all_without_calm": {k: v for k, v in EMOTIONS.items() if k != "02"},
    },
    find=find,
    published=Published(
        "PLoS ONE 2018: 60 spoken recordings of each of 24 actors",
        clips=(1440,),
        speakers=(24,),
        labels={code: 96 if code == "01" else 192 for code in EMOTIONS},
    ),
    n_folds=6,
    download=Download(
        [
            Archive(
                "https://zenodo.org/records/1188976/files/"
                "Audio_Speech_Actors_01-24.zip",
                "Audio_Speech_Actors_01-24.zip",
                "md5:bc696df654c87fed845eb13823edef8a",
            )
        ]
    ),
)
