"""EMO-DB: Berlin database of emotional speech, acted German, ten speakers.

Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss: "A database of German emotional
speech", Interspeech 2005. Ten sentences, seven emotions, 535 recordings, 16 kHz.

Layout: `wav/03a01Fa.wav` (speaker, sentence, emotion by its German letter, version) and
`erkennung.txt`, or a `metadata.csv` with columns file and recognised_pct. Twenty
listeners named the emotion of every recording; only the share of those who named the
intended one is published, so it is an agreement (utt2agreement) and does not replace
votes. A copy that holds four of the seven classes is read too.
"""

import logging
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from emoq_plugin.data.corpora.corpus import Clip, Corpus, Published
from emoq_plugin.data.corpora.download import Archive, Download
from emoq_plugin.data.corpora.tables import (
    files,
    first_of,
    given,
    optional_table,
    read_text,
    rows,
)
from emoq_plugin.data.tree import listed

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
AGREEMENT = ("metadata.csv", "erkennung.txt")


def find(directory: Path) -> list[Clip]:
    """Find the recordings; every name must be one of EMO-DB."""
    try:
        folder = first_of(directory, "wav")
    except FileNotFoundError:
        folder = directory
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


def _agreement(directory: Path) -> dict[str, float]:
    """Read the share of listeners, within 0 .. 1, by file stem; empty if unknown.

    What a table lacks is reported; the first one that has a share is taken.
    """
    for name in AGREEMENT:
        if files(directory, re.escape(name)):
            read = partial(_shares, directory, name)
            if found := optional_table(read, {}, "shares of listeners"):
                return found
    return {}


def _shares(directory: Path, name: str) -> dict[str, float]:
    """Read the shares of one table."""
    table = first_of(directory, name)
    shares: dict[str, float] = {}
    passed_over: dict[str, list[int]] = {}
    for line, name, per_cent in _per_cents(table):
        try:
            share = float(per_cent.replace(",", ".")) / 100
        except ValueError:
            share = -1.0
        if not name:
            passed_over.setdefault("lines without a recording", []).append(line)
        elif not 0 <= share <= 1:
            passed_over.setdefault("without a per cent number", []).append(line)
        elif shares.setdefault(name, share) != share:
            raise ValueError(f"{table}:{line}: two shares of {name}")
    if passed_over:
        logging.warning("%s, by line: %s", table, listed(passed_over))
    return shares


def _per_cents(table: Path) -> Iterator[tuple[int, str, str]]:
    """Return line, recording and what is in place of its per cent number."""
    if table.suffix == ".csv":
        for line, row in rows(table, ["file", "recognised_pct"]):
            yield line, Path(row["file"]).stem, given(row["recognised_pct"])
        return
    # Number, file, per cent and naturalness, divided by tabs or blanks, decimal commas.
    lines = read_text(table, "iso-8859-1").splitlines()
    for line, text in enumerate(lines, 1):
        match = re.search(rf"({NAME.pattern})\.wav[\s;]+([^\s;]+)", text)
        if match or (line > 1 and text.strip()):  # the header
            yield line, match[1] if match else "", match[6] if match else ""


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
