"""Kaldi data directories of the Free Spoken Digit Dataset.

`train`, `dev`, `test`: all speakers, recordings 0-4 of each digit are the corpus's own
test set. `train_four`, `dev_four`, `test_two`: two speakers are only in the test set,
with all their recordings. `all`, `emotions`, `folds`: what ser2.sh learns codebooks
from, the recordings of `train_four`; the digits are where it expects emotions.
"""

import argparse
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from emoq_plugin.bin._command import run_command
from emoq_plugin.data.directory import write_lines
from emoq_plugin.data.folds import Fold, write_folds
from emoq_plugin.data.tree import walk
from emoq_plugin.files import write_table

DIGITS = ["zero", "one", "two", "three", "four"]
DIGITS += ["five", "six", "seven", "eight", "nine"]
TEST_RECORDINGS = range(5)


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="prepare_fsdd", description=__doc__)
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="holds recordings/")
    add("--output", type=Path, required=True, help="directory of the sets")
    add("--unseen_speakers", nargs="+", required=True)
    add("--valid_recordings", nargs="+", type=int, required=True)
    return parser


def recordings(corpus: Path) -> Iterator[tuple[str, str, int, Path]]:
    """Return (digit, speaker, number, path) of every recording.

    Raises
    ------
    ValueError
        For a file name that is not `<digit>_<speaker>_<number>.wav`, or none at all,
        and for two names of one recording.
    """
    tree = walk(corpus / "recordings", (".wav",))
    logging.info(
        "%d recordings; left out: %s", len(tree.files), tree.listed() or "none"
    )
    if not tree.files:
        raise ValueError(f"{corpus}/recordings holds no .wav file")
    there: dict[tuple[str, str, int], Path] = {}
    for path in tree.files:
        match = re.fullmatch(r"(\d)_([a-z]+)_(\d+)\.wav", path.name)
        if not match:
            raise ValueError(f"{path}: expected <digit>_<speaker>_<number>.wav")
        recording = DIGITS[int(match[1])], match[2], int(match[3])
        if (other := there.setdefault(recording, path)) != path:
            raise ValueError(f"{other} and {path} are both called {recording}")
        yield *recording, path


def sets_of(
    speaker: str, number: int, *, unseen: list[str], valid: list[int]
) -> list[str]:
    """Name the sets that a recording belongs to.

    Examples
    --------
    >>> sets_of("theo", 3, unseen=["theo"], valid=[49])
    ['test', 'test_two']
    >>> sets_of("lucas", 5, unseen=["theo"], valid=[49])
    ['train', 'train_four']
    """
    part = "dev" if number in valid else "train"
    if number in TEST_RECORDINGS:
        part = "test"
    if speaker in unseen:
        return [part, "test_two"]
    return [part] if part == "test" else [part, f"{part}_four"]


def work(options: argparse.Namespace) -> None:
    """Write the sets."""
    found = list(recordings(options.corpus.resolve()))
    speakers = {speaker for _, speaker, _, _ in found}
    if missing := sorted(set(options.unseen_speakers) - speakers):
        raise ValueError(f"{options.corpus} has no speaker {missing}: {speakers}")
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for digit, speaker, number, path in found:
        utterance = f"{speaker}-{digit}-{number:02}"
        row = {"wav.scp": str(path), "text": digit, "utt2spk": speaker}
        for name in sets_of(
            speaker,
            number,
            unseen=options.unseen_speakers,
            valid=options.valid_recordings,
        ):
            for table, value in row.items():
                tables.setdefault(name, {}).setdefault(table, {})[utterance] = value
        for table, value in (row | {"utt2emo": digit}).items():
            tables.setdefault("all", {}).setdefault(table, {})[utterance] = value
    for name, contents in tables.items():
        spoken: dict[str, list[str]] = {}
        for utterance, speaker in contents["utt2spk"].items():
            spoken.setdefault(speaker, []).append(utterance)
        contents["spk2utt"] = {s: " ".join(sorted(us)) for s, us in spoken.items()}
        for table, rows in contents.items():
            write_table(options.output / name / table, rows)
    learned, tested = (
        tuple(sorted(tables[name]["text"])) for name in ("train_four", "test_two")
    )
    write_folds(options.output / "folds", [Fold("1", learned, (), tested)])
    write_lines(options.output / "emotions", DIGITS)


if __name__ == "__main__":
    run_command(get_parser, work)
