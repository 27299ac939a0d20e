"""Check a data directory, its folds and its audio; name every fault with its place."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path

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
from emoq_plugin.data.tree import listed
from emoq_plugin.options import Count
from emoq_plugin.progress import progress
from emoq_plugin.speech.audio import Recording
from emoq_plugin.speech.pipes import is_pipe


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    """What is checked.

    Attributes
    ----------
    data_dir
        Directory with wav.scp.
    emotions
        File of the class order, one a line.
    folds
        Directory of <n>/{train,valid,test}.
    check_audio
        Decode every file.
    sample_rate
        Rate in Hz that the audio must have.
    allow_pipe
        Accept commands in wav.scp.
    """

    data_dir: Path
    emotions: Path
    folds: Path | None = None
    check_audio: bool = False
    sample_rate: Count | None = None
    allow_pipe: bool = False


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


def validate_data_dir(options: ValidateOptions) -> None:
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
        "%s is valid: %d utterances, %d speakers, %s, votes for %d, ratings for %d",
        options.data_dir,
        len(data.utterances),
        len(set(data.speaker.values())),
        ", ".join(f"{e} {counts[e]}" for e in emotions),
        len(data.votes),
        len(data.ratings),
    )
    unused = listed(
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
