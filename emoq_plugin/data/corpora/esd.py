"""ESD: Emotional Speech Dataset, acted, English and Mandarin.

Zhou, Sisman, Liu, Li: "Seen and unseen emotional style transfer for voice conversion
with a new emotional speech dataset", ICASSP 2021. Ten speakers a language say 350
sentences in five emotions, 16 kHz.

Layout: `<speaker>/<speaker>.txt` (id, text, emotion, divided by tabs) and
`<speaker>/<Emotion>/<speaker>_<number>.wav`; the first release has train, evaluation
and test folders between emotion and file. Its partition shares speakers, so folds are
made of speakers here. English speakers are 0011-0020, Mandarin ones 0001-0010.
"""

from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.tables import files, read_text

ALL = {
    "Angry": "angry",
    "Happy": "happy",
    "Neutral": "neutral",
    "Sad": "sad",
    "Surprise": "surprise",
}
SPEAKERS = {"english": range(11, 21), "mandarin": range(1, 11), "both": range(1, 21)}


def find(directory: Path, *, language: str = "english") -> list[Clip]:
    """Find the clips of a language; labels are folder names."""
    clips = []
    texts: dict[str, dict[str, str]] = {}
    for audio, match in files(directory, r"(\d{4})_(\d{6})\.wav"):
        speaker = match[1]
        if int(speaker) not in SPEAKERS[language]:
            continue
        folders = audio.relative_to(directory).parts[:-1]
        label = next((f for f in reversed(folders) if f in ALL), "")
        if not label:
            raise ValueError(f"{audio}: no folder above it is one of {' '.join(ALL)}")
        if speaker not in texts:
            texts[speaker] = _texts(audio, speaker)
        text = texts[speaker].get(audio.stem, "")
        clips.append(Clip(audio.stem, audio, speaker, label, text=text))
    return clips


def _texts(audio: Path, speaker: str) -> dict[str, str]:
    """Read `<speaker>.txt`, which stands two or three folders above the audio."""
    for folder in audio.parents[1:4]:
        table = folder / f"{speaker}.txt"
        if table.is_file():
            lines = read_text(table, "gb18030").splitlines()
            fields = [line.split("\t") for line in lines]
            return {f[0].strip(): f[1] for f in fields if len(f) >= 2}
    return {}


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
