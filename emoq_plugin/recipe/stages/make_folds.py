"""Split a data directory into speaker-disjoint folds, deterministically."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from emoq_plugin import data
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import PARTS, speaker_folds, write_folds
from emoq_plugin.files import read_table
from emoq_plugin.options import whole
from emoq_plugin.recipe.stage import Stage


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="make_folds", description=__doc__)
    parser.add_argument("--data_dir", required=True, help="directory with utt2spk")
    parser.add_argument("--n_folds", type=whole(1), default=5)
    parser.add_argument(
        "--n_valid_speakers",
        type=whole(0),
        default=1,
        help="held out of each training part",
    )
    parser.add_argument(
        "--group_file",
        help="'<speaker> <group>' a line, for example spk2gender: groups are mixed in "
        "every test part",
    )
    parser.add_argument("--output", required=True, help="for example data/folds")
    return parser


def work(options: argparse.Namespace) -> None:
    """Make the folds unless they stand already."""
    data_dir = Path(options.data_dir)
    inputs = [data_dir / "utt2spk"]
    if options.group_file:
        inputs.append(Path(options.group_file))
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
    speaker = DataDirectory.read(data_dir).speaker
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
