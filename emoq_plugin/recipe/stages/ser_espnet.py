"""Stage 6, ESPnet backend: train and apply ESPnet task on some systems of one fold."""

import argparse
from pathlib import Path

from emoq_plugin.recipe.stages import ser_train
from emoq_plugin.devices import take_gpus
from emoq_plugin.options import whole
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.experiment import find_bank


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="ser_espnet", description=__doc__)
    add = parser.add_argument
    add("--quantizer_dir", type=Path, required=True, help="exp/<tag>/fold<n>/quantizer")
    add("--units_dir", type=Path, required=True, help="dump/units/<tag>/fold<n>/<set>")
    add("--data_dir", type=Path, required=True, help="formatted set, dump/raw/<set>")
    add("--emotions", type=Path, required=True, help="data/emotions")
    add("--folds", type=Path, required=True, help="data/folds")
    add("--fold", required=True, help="name of the fold")
    add("--rates", nargs="+", required=True, help="as in stage 5")
    add("--rate", required=True, help="the rate whose units are used")
    add("--systems", nargs="+", required=True, help="the systems whose units are used")
    add(
        "--config",
        type=config_of("ser"),
        required=True,
        help="file or name of conf/ser",
    )
    add("--ngpu", type=whole(0), default=0, help="GPUs")
    add("--job", type=whole(1), default=1, help="number of this job; GPUs go by turns")
    add("--seed", default="0", help="of the training")
    add("--ser_args", default="", help="further options of ESPnet's trainer")
    add("--output_dir", type=Path, required=True, help="exp/<tag>/fold<n>/ser/espnet")
    return parser


def work(options: argparse.Namespace) -> None:
    """Run `ser_train --infer true` for each system; one process imports ESPnet once."""
    if options.rate not in options.rates:
        raise ValueError(
            f"rate {options.rate} has no units, expected one of {options.rates}"
        )
    take_gpus(options.ngpu, options.job)
    quantizer = find_bank(options.quantizer_dir, options.rate)
    for system in options.systems:
        values = {
            "units_dir": options.units_dir / options.rate / system,
            "data_dir": options.data_dir,
            "fold_dir": options.folds / options.fold,
            "emotions": options.emotions,
            "quantizer": quantizer,
            "output_dir": options.output_dir / f"{options.rate}_{system}",
            "config": options.config,
            "ngpu": options.ngpu,
            "seed": options.seed,
            "ser_args": options.ser_args,
            "infer": "true",
        }
        ser_train.main([f"--{name}={value}" for name, value in values.items()])
