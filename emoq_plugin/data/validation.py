"""Check a data directory, its folds and its audio; name every fault with its place."""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from os.path import isfile

from emoq_plugin.data.directory import (
    DataDirectory,
    by_recording,
    entry_faults,
    fault_report,
    parse,
    place_of_audio,
    read_emotions,
    table_faults,
)
from emoq_plugin.data.folds import Fold, fold_faults, read_folds
from emoq_plugin.data.tree import told
from emoq_plugin.options import str2bool
from emoq_plugin.progress import progress
from emoq_plugin.speech.audio import Recording
from emoq_plugin.speech.pipes import is_pipe


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="validate_data_dir", description=__doc__)
    parser.add_argument("--data_dir", required=True, help="directory with wav.scp")
    parser.add_argument("--emotions", required=True, help="class order, one a line")
    parser.add_argument("--folds", help="directory of <n>/{train,valid,test}")
    parser.add_argument(
        "--check_audio", type=str2bool, default=False, help="decode every file"
    )
    parser.add_argument(
        "--sample_rate", type=int, help="rate in Hz that the audio must have"
    )
    parser.add_argument(
        "--allow_pipe", type=str2bool, default=False, help="accept commands in wav.scp"
    )
    return parser


def audio_faults(
    data: DataDirectory, *, sample_rate: int | None, allow_pipe: bool
) -> list[str]:
    """Decode every utterance and list what is not usable mono audio."""
    faults = {}
    groups = by_recording(data).items()
    for name, utterances in progress(groups, len(groups), "decoding"):
        entry = data.wav.get(name, "")
        # Missing files and refused commands are listed by `entry_faults` already.
        if not (isfile(entry) or (allow_pipe and is_pipe(entry))):
            continue
        recording = Recording(entry, allow_pipe=allow_pipe)
        for u in utterances:
            try:
                recording.read(data.part(u), sample_rate=sample_rate)
            except (ValueError, OSError) as error:
                faults[u] = f"{place_of_audio(data, u)}: {u}: {error}"
    return [faults[u] for u in data.utterances if u in faults]


def work(options: argparse.Namespace) -> None:
    """Collect all faults before refusing.

    Raises
    ------
    ValueError
        Listing them.
    """
    emotions = read_emotions(options.emotions)
    data, faults = parse(options.data_dir, emotions)
    faults += table_faults(data, emotions) + entry_faults(data, options.allow_pipe)
    folds = []
    if options.folds:
        try:
            folds = read_folds(options.folds)
        except (ValueError, OSError) as error:
            faults.append(str(error))
    numbers = [fold.name for fold in folds]
    if numbers != [str(n) for n in range(1, len(folds) + 1)]:
        faults.append(
            f"{options.folds}: folds {' '.join(numbers)}, expected them to be numbered "
            f"from 1 to {len(folds)}, as the jobs of an array are"
        )
    for fold in folds:
        faults += fold_faults(fold, data.speaker, path=options.folds)
    if options.check_audio:
        faults += audio_faults(
            data, sample_rate=options.sample_rate, allow_pipe=options.allow_pipe
        )
    if faults:
        raise ValueError(fault_report(options.data_dir, faults))
    counts = Counter(data.emotion.values())
    logging.info(
        "%s is valid: %d utterances, %d speakers, %s, votes for %d",
        options.data_dir,
        len(data.utterances),
        len(set(data.speaker.values())),
        ", ".join(f"{e} {counts[e]}" for e in emotions),
        len(data.votes),
    )
    unused = told(
        {
            "recordings without a segment": _unused_recordings(data),
            "utterances in no part of any fold": _utterances_in_no(folds, data),
        }
    )
    if unused:
        logging.warning("%s: not used: %s", options.data_dir, unused)


def _unused_recordings(data: DataDirectory) -> list[str]:
    cut = {recording for recording, _, _ in data.segments.values()}
    return sorted(set(data.wav) - cut) if data.segments else []


def _utterances_in_no(folds: Sequence[Fold], data: DataDirectory) -> list[str]:
    parts = {u for f in folds for u in (*f.train, *f.valid, *f.test)}
    return sorted(set(data.utterances) - parts) if folds else []
