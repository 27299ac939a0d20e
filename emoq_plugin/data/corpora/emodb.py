"""EMO-DB: Berlin database of emotional speech, acted German, ten speakers.

Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss: "A database of German emotional
speech", Interspeech 2005. Ten sentences, seven emotions, 535 recordings, 16 kHz.

Layout: `wav/03a01Fa.wav` (speaker, sentence, emotion by its German letter, version) and
`erkennung.txt`, or a `metadata.csv` with columns file and recognised_pct. Twenty
listeners named the emotion of every recording; only the share of those who named the
intended one is published, so it is an agreement (utt2agreement) and cannot stand for
votes. A copy that holds four of the seven classes is read too.
"""

import re
from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import files, first_of, read_text, rows

PAPER4 = {"W": "angry", "F": "happy", "N": "neutral", "T": "sad"}
ALL = PAPER4 | {"A": "fear", "L": "boredom", "E": "disgust"}
GENDER = dict(
    zip(("03", "08", "09", "10", "11", "12", "13", "14", "15", "16"), "mffmmmffmf")
)
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank",
    "a02": "Das will sie am Mittwoch abgeben",
    "a04": "Heute abend könnte ich es ihm sagen",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück",
    "a07": "In sieben Stunden wird es soweit sein",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes "
    "besucht",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen",
}
NAME = re.compile(r"(\d\d)([ab]\d\d)([WFNTALE])([a-z])")


def find(directory: Path) -> list[Clip]:
    """Find the recordings; every name must be one of EMO-DB."""
    folder = first_of(directory, "wav") if _has(directory, "wav") else directory
    agreement = _agreement(directory)
    clips, strange = [], []
    for audio, _ in files(folder, r".+\.wav"):
        match = NAME.fullmatch(audio.stem)
        if not match or match[1] not in GENDER:
            strange.append(audio.name)
            continue
        extra = {"utt2sentence": match[2]}
        if audio.stem in agreement:
            extra["utt2agreement"] = f"{agreement[audio.stem]:.4g}"
        clips.append(
            Clip(
                audio.stem,
                audio,
                match[1],
                match[3],
                text=SENTENCES.get(match[2], ""),
                gender=GENDER[match[1]],
                extra=extra,
            )
        )
    if strange:
        raise ValueError(
            f"{folder}: {len(strange)} file(s) not named as in EMO-DB, speaker 03 or "
            f"08-16, sentence, emotion letter, version (03a01Fa.wav): {strange[:5]}"
        )
    return clips


def _has(directory: Path, name: str) -> bool:
    return next(directory.rglob(name), None) is not None


def _agreement(directory: Path) -> dict[str, float]:
    """Read the share of listeners, within 0 .. 1, by file stem; empty if unknown."""
    found: list[tuple[str, str]] = []
    if _has(directory, "metadata.csv"):
        table = rows(first_of(directory, "metadata.csv"), ["file", "recognised_pct"])
        found = [(row["file"], row["recognised_pct"]) for _, row in table]
    elif _has(directory, "erkennung.txt"):
        # ISO-8859-1; number, file, share and naturalness, decimal commas.
        text = read_text(first_of(directory, "erkennung.txt"), "iso-8859-1")
        fields = [line.split("\t") for line in text.splitlines()[1:] if line.strip()]
        found = [(line[1], line[2]) for line in fields]
    return {
        Path(name.strip()).stem: float(per_cent.strip().replace(",", ".")) / 100
        for name, per_cent in found
        if per_cent.strip()
    }


CORPUS = Corpus(
    name="emodb",
    title="EMO-DB (Burkhardt et al. 2005)",
    layout="<directory>/wav/03a01Fa.wav and <directory>/erkennung.txt",
    source="free: http://emodb.bilderbar.info, or search for 'EMO-DB' on Zenodo",
    labels={"paper4": PAPER4, "all": ALL},
    find=find,
    published=Published(
        "Interspeech 2005 paper and the official site",
        clips=(535,),
        speakers=(10,),
        labels={"W": 127, "F": 71, "N": 79, "T": 62, "A": 69, "L": 81, "E": 46},
    ),
    download=Download(
        [Archive("http://emodb.bilderbar.info/download/download.zip", "download.zip")]
    ),
)
