"""MELD: multi-party dialogues of the series Friends, English.

Poria et al.: "MELD: a multimodal multi-party dataset for emotion recognition in
conversations", ACL 2019. Seven emotions, no published votes.

Layout: `train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv` (Utterance,
Speaker, Emotion, Dialogue_ID, Utterance_ID) and `train_splits`, `dev_splits_complete`,
`output_repeated_splits_test` with `dia<n>_utt<m>.mp4`, which ffmpeg decodes; a decoded
.wav or .flac beside it is preferred.

The official parts share their speakers, so folds are made of speakers here. Lines that
several people speak together are left out: they would put a speaker in two parts.
Two films are missing or broken as distributed (train dia125_utt3, dev dia110_utt7).
"""

import logging
import re
from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published, decoded
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import first_of, rows

PAPER4 = {"anger": "angry", "joy": "happy", "neutral": "neutral", "sadness": "sad"}
ALL = PAPER4 | {"surprise": "surprise", "fear": "fear", "disgust": "disgust"}
FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
SEVERAL = re.compile(
    r"\band\b|[,/&]|^\W*(all|both|everyone|everybody|together)\W*$", re.I
)


def find(directory: Path) -> list[Clip]:
    """Find the clips that the three tables list."""
    clips: list[Clip] = []
    spelled: dict[str, set[str]] = {}
    for part, name in FOLDERS.items():
        table = first_of(directory, f"{part}_sent_emo.csv")
        folder = first_of(directory, name)
        for _, row in rows(table, COLUMNS, encoding="cp1252"):
            several = SEVERAL.search(row["Speaker"])
            speaker = re.sub(r"\W+", "_", row["Speaker"]).strip("_") or "Unknown"
            spelled.setdefault(speaker, set()).add(row["Speaker"])
            stem = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
            clips.append(
                Clip(
                    f"{part}-{stem}",
                    decoded(folder / f"{stem}.mp4"),
                    speaker,
                    row["Emotion"].lower(),
                    text=row["Utterance"],
                    left_out="lines that several people speak" if several else "",
                )
            )
    for speaker, names in spelled.items():
        if len(names) > 1:
            logging.warning("%s are one speaker, %s", sorted(names), speaker)
    return clips


CORPUS = Corpus(
    name="meld",
    title="MELD",
    layout="<directory>/train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv and "
    + ", ".join(f"{folder}/dia0_utt0.mp4" for folder in FOLDERS.values()),
    source="https://affective-meld.github.io/ (MELD.Raw.tar.gz)",
    labels={"paper4": PAPER4, "all": ALL},
    find=find,
    published=Published(
        "ACL 2019 paper and its repository, lines of several speakers included",
        clips=(13708,),
        labels={
            "anger": 1607,
            "disgust": 361,
            "fear": 358,
            "joy": 2308,
            "neutral": 6436,
            "sadness": 1002,
            "surprise": 1636,
        },
    ),
    # 10.9 GB. The checksum is the one of the makers' upload, commit 9abc51e.
    download=Download(
        [
            Archive(
                "https://huggingface.co/datasets/declare-lab/MELD/resolve/main/"
                "MELD.Raw.tar.gz",
                "MELD.Raw.tar.gz",
                "sha256:"
                "a56b4407d574195cbce470d86f9c9d72fcfea59b0e34502ecd4babee4a5c613e",
            )
        ]
    ),
)
