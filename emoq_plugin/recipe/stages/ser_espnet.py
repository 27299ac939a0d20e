"""Stage 6, ESPnet backend: train and apply ESPnet task on some systems of one fold."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from emoq_plugin.devices import take_gpus
from emoq_plugin.options import Count, Natural
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stage import FinishedMeanwhile
from emoq_plugin.recipe.stages.fold_inputs import UnitOptions, find_bank
from emoq_plugin.recipe.stages.ser_train import SerTrainOptions, ser_train
from emoq_plugin.units.rates import Rate


@dataclass(frozen=True, kw_only=True)
class SerEspnetOptions(UnitOptions):
    """Options of the ESPnet backend.

    Attributes
    ----------
    rate : Rate
        The rate whose units are used.
    systems : tuple of str
        The systems whose units are used.
    config : Path
        File or name of conf/ser.
    ngpu : int
        GPUs.
    job : int
        Number of this job; GPUs go by turns.
    seed : int
        Of the training.
    ser_args : str
        Further options of ESPnet's trainer.
    output_dir : Path
        exp/<tag>/fold<n>/ser/espnet.
    """

    rate: Rate
    config: Annotated[Path, config_of("ser")]
    ngpu: Natural = 0
    job: Count = 1
    seed: Natural = 0
    ser_args: str = ""
    output_dir: Path


def ser_espnet(options: SerEspnetOptions) -> None:
    """Train and predict with each system; one process imports ESPnet once."""
    if options.rate not in options.rates:
        raise ValueError(
            f"rate {options.rate} has no units, expected one of "
            f"{' '.join(map(str, options.rates))}"
        )
    from emoq_plugin.routing.systems import System

    take_gpus(options.ngpu, options.job)
    inputs = options.inputs
    for system in options.systems:
        clip_bits = System.parse(system).clip_bits
        training = SerTrainOptions(
            units_dir=options.units_dir / str(options.rate) / system,
            data_dir=inputs.data_dir,
            fold_dir=inputs.folds / inputs.fold,
            emotions=inputs.emotions,
            quantizer=find_bank(options.quantizer_dir, options.rate, clip_bits),
            output_dir=options.output_dir / f"{options.rate}_{system}",
            config=options.config,
            ngpu=options.ngpu,
            seed=options.seed,
            ser_args=options.ser_args,
            infer=True,
        )
        with contextlib.suppress(FinishedMeanwhile):
            ser_train(training)
