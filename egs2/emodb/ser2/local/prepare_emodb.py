"""EMO-DB to a Kaldi data directory: labels from file names, agreement from listeners.

Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005): ten actors,
ten German sentences, seven emotions, 535 recordings, 16 kHz. A file name such as
`03a01Fa.wav` holds speaker 03, sentence a01, emotion F (Freude), version a. Twenty
listeners named the emotion of every recording; only the share of those who named the
intended one is published, so it is an agreement and cannot stand for votes.
"""

import argparse
import csv
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from emoq_plugin.bin._command import run_command
from emoq_plugin.data.directory import DataDirectory, write_lines
from emoq_plugin.files import write_table
from emoq_plugin.stage import Stage

EMOTIONS = {
    "W": "angry",
    "F": "happy",
    "N": "neutral",
    "T": "sad",
    "A": "fear",
    "L": "boredom",
    "E": "disgust",
}
CLASSES = {"paper4": list(EMOTIONS.values())[:4], "all": list(EMOTIONS.values())}
GENDER = dict(
    zip(("03", "08", "09", "10", "11", "12", "13", "14", "15", "16"), "mffmmmffmf")
)
NAME = re.compile(r"(\d\d)([ab]\d\d)([WFNTALE])([a-z])")


def get_parser() -> argparse.ArgumentParser:
    """Give the options of this command."""
    parser = argparse.ArgumentParser(prog="prepare_emodb", description=__doc__)
    parser.add_argument("--corpus", required=True, help="directory that holds wav/")
    parser.add_argument("--output", required=True, help="data directory to write")
    parser.add_argument("--emotions", required=True, help="class order to write")
    parser.add_argument("--classes", choices=CLASSES, default="paper4")
    return parser


def find_recordings(corpus: Path) -> list[Path]:
    """List the recordings, sorted; every name must be one of EMO-DB.

    Raises
    ------
    FileNotFoundError
        If there is no wav file.
    ValueError
        Naming the files that are not named as in EMO-DB.
    """
    folder = corpus / "wav" if (corpus / "wav").is_dir() else corpus
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() == ".wav")
    if not files:
        raise FileNotFoundError(
            f"{folder}: no wav file, expected EMO-DB's wav/03a01Fa.wav and so on"
        )
    strange = [
        p.name
        for p in files
        if not (match := NAME.fullmatch(p.stem)) or match[1] not in GENDER
    ]
    if strange:
        raise ValueError(
            f"{folder}: {len(strange)} file(s) not named as in EMO-DB, speaker "
            "03 or 08-16, sentence, emotion letter, version (03a01Fa.wav): "
            f"{strange[:5]}"
        )
    return files


def read_agreement(corpus: Path) -> dict[str, float]:
    """Read the share of listeners who named the intended emotion.

    Returns
    -------
    dict of str to float
        Within 0 .. 1 by file stem; empty if neither `metadata.csv` nor the original
        `erkennung.txt` (ISO-8859-1, decimal commas, per cent) is there.
    """
    table, original = corpus / "metadata.csv", corpus / "erkennung.txt"
    rows: list[tuple[str, str]] = []
    if table.is_file():
        with open(table, encoding="utf-8", newline="") as stream:
            rows = [(r["file"], r["recognised_pct"]) for r in csv.DictReader(stream)]
    elif original.is_file():
        lines = original.read_text("iso-8859-1").splitlines()[1:]
        rows = [tuple(line.split("\t")[1:3]) for line in lines if line.strip()]
    return {
        Path(name.strip()).stem: float(per_cent.strip().replace(",", ".")) / 100
        for name, per_cent in rows
        if per_cent.strip()
    }


def build(
    recordings: Sequence[Path], agreement: dict[str, float], emotions: Sequence[str]
) -> tuple[DataDirectory, dict[str, str]]:
    """Give the data directory of the wanted classes and the gender by speaker.

    Raises
    ------
    ValueError
        If a class has no recording.
    """
    data = DataDirectory(Path(), utterances=[], wav={}, speaker={}, emotion={})
    sentence, agreed = {}, {}
    for path in recordings:
        actor, text, letter, _ = NAME.fullmatch(path.stem).groups()
        if EMOTIONS[letter] not in emotions:
            continue
        utterance = f"emodb{actor}-{path.stem}"
        data.wav[utterance] = str(path.resolve())
        data.speaker[utterance] = f"emodb{actor}"
        data.emotion[utterance] = EMOTIONS[letter]
        sentence[utterance] = text
        if path.stem in agreement:
            agreed[utterance] = f"{agreement[path.stem]:.4g}"
    data.utterances = sorted(data.wav)
    data.extra = {"utt2sentence": sentence, "utt2agreement": agreed}
    missing = [e for e in emotions if e not in data.emotion.values()]
    if missing:
        raise ValueError(
            f"{recordings[0].parent}: no recording of {', '.join(missing)}: take the "
            "full corpus, or --classes paper4 for a copy with four classes"
        )
    speakers = sorted(set(data.speaker.values()))
    return data, {s: GENDER[s.removeprefix("emodb")] for s in speakers}


def work(options: argparse.Namespace) -> None:
    """Write the data directory unless it stands already."""
    corpus, emotions = Path(options.corpus), CLASSES[options.classes]
    recordings = find_recordings(corpus)
    tables = [corpus / name for name in ("metadata.csv", "erkennung.txt")]
    # wav.scp names these paths, so another place of the corpus is another result.
    listing = "\n".join(str(p.resolve()) for p in recordings)
    stage = Stage(
        options.output,
        inputs=[t for t in tables if t.is_file()],
        settings={
            "emotions": emotions,
            "recordings": hashlib.sha256(listing.encode()).hexdigest(),
        },
    )
    if stage.is_done() and Path(options.emotions).is_file():
        return
    data, gender = build(recordings, read_agreement(corpus), emotions)
    stage.start()
    data.write(options.output)
    write_table(Path(options.output) / "spk2gender", gender)
    write_lines(options.emotions, emotions)
    counts = Counter(data.emotion.values())
    logging.info(
        "%d of %d recordings, %d speakers: %s; listener agreement for %d",
        len(data.utterances),
        len(recordings),
        len(gender),
        ", ".join(f"{e} {counts[e]}" for e in emotions),
        len(data.extra["utt2agreement"]),
    )
    stage.finish(n_utterances=len(data.utterances))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
