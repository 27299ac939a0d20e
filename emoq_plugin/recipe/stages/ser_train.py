"""Train ESPnet's emotion recognition task on the units of one fold."""

import argparse
import contextlib
import logging
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from emoq_plugin import evaluation
from emoq_plugin.data.folds import PARTS
from emoq_plugin.files import read_json, write_json
from emoq_plugin.options import Natural
from emoq_plugin.presets import ROOT, config_of
from emoq_plugin.recipe.stage import FinishedMeanwhile, Stage
from emoq_plugin.recipe.stages.fold_inputs import FoldInputs, check_no_leak
from emoq_plugin.recipe.stages.ser_infer import (
    SerInferOptions,
    best_model,
    ser_infer,
    units_files,
)

# What a training leaves in its directory besides the inputs.
TRACES = (
    "checkpoint.pth",
    "*epoch.pth",
    "latest.pth",
    "*.best.pth",
    "*.ave*.pth",
    "config.yaml",
    ".started.json",
)


@dataclass(frozen=True, kw_only=True)
class SerTrainOptions:
    """Options of the training.

    Attributes
    ----------
    units_dir : Path
        With codes.scp, units.json and, if routed, utt2route.
    data_dir : Path
        Kaldi data directory with utt2emo or utt2votes.
    fold_dir : Path
        With the lists train, valid and test.
    emotions : Path
        Class order, one a line.
    quantizer : Path
        The CodebookBank that made the units.
    output_dir : Path
        Of the experiment.
    config : Path
        File or name of conf/ser.
    ngpu : int
        0 trains on the CPU.
    seed : int
        Of initialisation and order.
    resume : bool
        Go on from the last epoch.
    ser_args : str
        Further options of ESPnet's trainer, one string.
    infer : bool
        Then predict the test list into <output_dir>/posteriors.jsonl.
    """

    units_dir: Path
    data_dir: Path
    fold_dir: Path
    emotions: Path
    quantizer: Path
    output_dir: Path
    config: Annotated[Path, config_of("ser")] = ROOT / "conf/ser/transformer.yaml"
    ngpu: Natural = 0
    seed: Natural = 0
    resume: bool = True
    ser_args: str = ""
    infer: bool = False


def ser_train(options: SerTrainOptions) -> None:
    """Prepare, train, predict; what is finished is not done again."""
    tables = [options.data_dir / name for name in ("utt2emo", "utt2votes", "utt2spk")]
    stage = Stage(
        options.output_dir,
        inputs=[
            *units_files(options.units_dir),
            *(table for table in tables if table.exists()),
            *(options.fold_dir / part for part in PARTS),
            options.emotions,
            options.config,
        ],
        settings={"seed": options.seed, "ser_args": options.ser_args},
        code=[evaluation],
    )
    if not stage.is_done():
        with contextlib.suppress(FinishedMeanwhile):
            _train(options, stage)
    if options.infer:
        predicted = SerInferOptions(
            exp_dir=options.output_dir,
            units_dir=options.units_dir,
            fold_dir=options.fold_dir,
            output=options.output_dir / "posteriors.jsonl",
            ngpu=options.ngpu,
        )
        ser_infer(predicted)


def _targets(fold, data, units, emotions: list[str], *, loss: str) -> dict[str, dict]:
    """Return {part: {utterance: vote shares}} of a fold."""
    import numpy as np

    from emoq_plugin.espnet_adapters.ser_inputs import available

    targets = {}
    for part in PARTS:
        utterances = available(units, getattr(fold, part), part)
        shares = data.targets(utterances, emotions)
        if loss == "hard" and part != "test":
            labels = data.labels(utterances, emotions)
            sure = np.flatnonzero(labels >= 0)
            if len(sure) < len(labels):
                logging.info(
                    "%s: %d utterances without a majority are left out (loss: hard)",
                    part,
                    len(labels) - len(sure),
                )
            if not len(sure):
                raise ValueError(f"{part}: no utterance has a majority (loss: hard)")
            utterances = [utterances[row] for row in sure]
            shares = np.eye(len(emotions))[labels[sure]]
        targets[part] = dict(zip(utterances, shares))
    return targets


def _espnet_arguments(
    options: SerTrainOptions, card: dict, emotions: list[str]
) -> argparse.Namespace:
    """Parse the YAML file and `--ser_args` with ESPnet's own parser."""
    from emoq_plugin.espnet_adapters.ser_task import SERTask

    clip_sizes = card.get("clip_sizes")
    command = ["--config", str(options.config), *shlex.split(options.ser_args)]
    command += ["--output_dir", str(options.output_dir), "--ngpu", str(options.ngpu)]
    command += ["--seed", str(options.seed), "--resume", "true"]
    for part in ("train", "valid"):
        folder = options.output_dir / "data" / part
        command += [f"--{part}_shape_file", str(folder / "units_shape")]
        for file, name, kind in (
            ("units.scp", "units", "kaldi_ark"),
            ("route", "route", "text_float"),
            ("votes", "votes", "text_float"),
            *([("clip_codes.scp", "clip_codes", "kaldi_ark")] if clip_sizes else []),
        ):
            command.append(f"--{part}_data_path_and_name_and_type")
            command.append(f"{folder / file},{name},{kind}")
    command += ["--emotions", *emotions]
    arguments = SERTask.get_parser().parse_args(command)
    arguments.frontend_conf = {
        **arguments.frontend_conf,
        "quantizer": str(options.quantizer),
        "experts": list(card["experts"]),
        "n_levels": card["n_levels"],
        "quantizer_sha256": card["codebooks_sha256"],
    }
    if clip_sizes:
        arguments.model_conf = {**arguments.model_conf, "clip_sizes": clip_sizes}
    return arguments


def set_class_weights(model_conf: dict, train: dict) -> None:
    """Turn `balanced` into numbers with mean 1 over the training targets."""
    if model_conf.get("class_weights") != "balanced":
        return
    mass = sum(train.values())
    if (mass <= 0).any():
        raise ValueError(
            f"class_weights: balanced, but a class has no training target: {mass}"
        )
    model_conf["class_weights"] = [float(w) for w in mass.sum() / (len(mass) * mass)]


def _resumable(output: Path, fingerprint: str) -> bool:
    """Return whether an interrupted training of the same inputs can go on."""
    checkpoint, started = output / "checkpoint.pth", output / ".started.json"
    if not checkpoint.exists() or not started.exists():
        return False
    if read_json(started).get("fingerprint") != fingerprint:
        logging.info("%s is of other inputs or settings: starting anew", checkpoint)
        return False
    import torch

    try:
        states = torch.load(checkpoint, map_location="cpu", weights_only=True)
        epoch = states["reporter"]["epoch"]
        # ESPnet writes the checkpoint first: killed in between, the epoch's model
        # would be missing from the n-best for good.
        torch.load(output / f"{epoch}epoch.pth", map_location="cpu", weights_only=True)
    except Exception as error:
        logging.warning(
            "%s cannot be resumed (%s): starting anew", checkpoint, str(error)[:200]
        )
        return False
    logging.info("%s: resuming after epoch %d", checkpoint, epoch)
    return True


def _train(options: SerTrainOptions, stage: Stage) -> None:
    from emoq_plugin.espnet_adapters.ser_inputs import write_split
    from emoq_plugin.espnet_adapters.ser_task import SERTask
    from emoq_plugin.espnet_adapters.units_frontend import load_bank
    from emoq_plugin.units.store import UnitStore

    opened = FoldInputs(
        data_dir=options.data_dir,
        emotions=options.emotions,
        folds=options.fold_dir.parent,
        fold=options.fold_dir.name,
    ).open()
    emotions, data, fold = opened.emotions, opened.data, opened.fold
    units = UnitStore(options.units_dir)
    bank = load_bank(options.quantizer, codebooks_sha256=units.card["codebooks_sha256"])
    check_no_leak(bank.card, fold, data, str(options.quantizer))
    sizes = bank.sizes[: units.card["n_levels"]]
    arguments = _espnet_arguments(options, units.card, emotions)
    loss = arguments.model_conf["loss"]
    targets = _targets(fold, data, units, emotions, loss=loss)
    set_class_weights(arguments.model_conf, targets["train"])
    try:
        # What is wrong shows here, before an older training is withdrawn.
        SERTask.build_model(argparse.Namespace(**vars(arguments)))
    except TypeError as error:
        raise ValueError(
            f"{options.config} with --ser_args '{options.ser_args}': {error}"
        ) from error

    stage.start()
    output = options.output_dir
    if not (options.resume and _resumable(output, stage.fingerprint)):
        for pattern in TRACES:
            for old in output.glob(pattern):
                old.unlink()
    write_json(output / ".started.json", {"fingerprint": stage.fingerprint})
    for part in PARTS:
        write_split(output / "data" / part, units, targets[part], codebook_sizes=sizes)

    SERTask.main(args=arguments)
    best = best_model(output)
    if not best.exists():
        raise ValueError(f"training ended without {best}: see the log above")
    stage.finish(
        model=os.path.realpath(best).rpartition("/")[2],
        n_utterances={part: len(targets[part]) for part in PARTS},
    )
