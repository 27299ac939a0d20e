"""nEMO: nine Polish actors, six emotional states.

Christop: "nEMO: dataset of emotional speech in Polish", LREC-COLING 2024. 24 kHz.

Layout: `data.tsv` (file_id, emotion, raw_text, normalized_text, speaker_id, gender,
age, divided by tabs) and `samples/<speaker>_<emotion>_<sentence>.wav`. No partition is
published: folds are three speakers each.
"""

from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import first_of, rows

PAPER4 = {
    "anger": "angry",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
}
ALL = PAPER4 | {"fear": "fear", "surprised": "surprise"}
# Holds data.tsv and all recordings.
COMMIT = "06f1f83dde8f1a780443a57d53b2af3971af34ab"
COLUMNS = ("file_id", "emotion", "raw_text", "speaker_id", "gender")


def find(directory: Path) -> list[Clip]:
    """Find the recordings that data.tsv lists."""
    table = first_of(directory, "data.tsv")
    return [
        Clip(
            Path(row["file_id"]).stem,
            table.parent / "samples" / row["file_id"],
            row["speaker_id"],
            row["emotion"],
            text=row["raw_text"],
            gender=row["gender"],
        )
        for _, row in rows(table, COLUMNS, delimiter="\t")
    ]


CORPUS = Corpus(
    name="nemo",
    title="nEMO",
    layout="<directory>/data.tsv and <directory>/samples/EB0_anger_1.wav",
    source="https://github.com/amu-cai/nEMO (CC BY-NC-SA 4.0)",
    labels={"paper4": PAPER4, "all": ALL},
    find=find,
    published=Published("amu-cai/nEMO, dataset card", clips=(4481,), speakers=(9,)),
    n_folds=3,
    download=Download(
        [Archive(f"https://github.com/amu-cai/nEMO/archive/{COMMIT}.zip", "nEMO.zip")]
    ),
)
