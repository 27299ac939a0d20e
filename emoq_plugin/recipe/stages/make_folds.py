"""Split a data directory into speaker-disjoint folds, deterministically."""

import logging
from dataclasses import dataclass
from pathlib import Path

from emoq_plugin import data
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import PARTS, speaker_folds, write_folds
from emoq_plugin.files import read_table
from emoq_plugin.options import Count, Natural
from emoq_plugin.recipe.stage import Stage


@dataclass(frozen=True, kw_only=True)
class MakeFoldsOptions:
    """Options of the folds.

    Attributes
    ----------
    data_dir : Path
        Directory with utt2spk.
    n_folds : int
        Parts that are tested in turn.
    n_valid_speakers : int
        Held out of each training part.
    group_file : Path, optional
        '<speaker> <group>' a line, for example spk2gender: groups are mixed in every
        test part.
    output : Path
        For example data/folds.
    """

    data_dir: Path
    n_folds: Count = 5
    n_valid_speakers: Natural = 1
    group_file: Path | None = None
    output: Path


def make_folds(options: MakeFoldsOptions) -> None:
    """Make the folds unless they exist already."""
    inputs = [options.data_dir / "utt2spk"]
    if options.group_file:
        inputs.append(options.group_file)
    stage = Stage(
        options.output,
        inputs=inputs,
        settings={
            "n_folds": options.n_folds,
            "n_valid_speakers": options.n_valid_speakers,
        },
        code=[data],
    )
    if stage.is_done():
        return
    speaker = DataDirectory.read(options.data_dir).speaker
    folds = speaker_folds(
        speaker,
        n_folds=options.n_folds,
        n_valid_speakers=options.n_valid_speakers,
        groups=read_table(options.group_file) if options.group_file else None,
    )
    stage.start()
    write_folds(options.output, folds)
    for fold in folds:
        sides = [getattr(fold, part) for part in PARTS]
        logging.info(
            "fold %s: %s; test speakers %s",
            fold.name,
            ", ".join(f"{p} {len(us)}" for p, us in zip(PARTS, sides)),
            " ".join(sorted({speaker[u] for u in fold.test})),
        )
    stage.finish(n_utterances=len(speaker))
