"""JL-Corpus: four speakers of New Zealand English, primary and secondary emotions.

James, Tian, Watson: "An open source emotional speech corpus for human robot interaction
applications", Interspeech 2018. 44.1 kHz; ten emotions, 240 recordings each.

Layout: `<gender><speaker>_<emotion>_<sentence><repetition>_<session>.wav` with the text
in a .txt file beside it, in `Raw JL corpus (unchecked and unannotated)/JL(wav+txt)`.
"""

from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import files, read_texts

PAPER4 = {"angry": "angry", "happy": "happy", "neutral": "neutral", "sad": "sad"}
PRIMARY = PAPER4 | {"excited": "excited"}
SECONDARY = ("anxious", "apologetic", "assertive", "concerned", "encouraging")
ALL = PRIMARY | {name: name for name in SECONDARY}


def find(directory: Path) -> list[Clip]:
    """Find the recordings; the file name says everything."""
    name = r"((fe)?male\d)_([a-z]+)_\d+[ab]_\d\.wav"
    recordings = files(directory, name)
    texts = read_texts({a.stem: a.with_suffix(".txt") for a, _ in recordings}, "cp1252")
    clips = []
    for audio, match in recordings:
        clips.append(
            Clip(
                audio.stem,
                audio,
                match[1].lower(),
                match[3].lower(),
                text=texts.get(audio.stem, ""),
                gender="f" if match[2] else "m",
            )
        )
    return clips


CORPUS = Corpus(
    name="jl_corpus",
    title="JL-Corpus",
    layout="<directory>/.../JL(wav+txt)/female1_angry_10a_1.wav",
    source="https://www.kaggle.com/datasets/tli725/jl-corpus",
    labels={
        "paper4": PAPER4,
        "paper4_excited_is_happy": PAPER4 | {"excited": "happy"},
        "primary": PRIMARY,
        "all": ALL,
    },
    find=find,
    published=Published("EmoBox, Interspeech 2024", clips=(2400,), speakers=(4,)),
    n_folds=4,
    download=Download(
        [
            Archive(
                "https://www.kaggle.com/api/v1/datasets/download/tli725/jl-corpus",
                "jl-corpus.zip",
            )
        ]
    ),
    n_valid_speakers=1,
)
