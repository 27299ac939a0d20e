"""Stage 6, probe backend: predictions of every system at every rate of one fold."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from emoq_plugin import evaluation
from emoq_plugin.files import read_options
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.recipe.stages.fold_inputs import OpenFold, TrainOn, UnitOptions

if TYPE_CHECKING:
    from emoq_plugin.evaluation.predictions import Prediction

# Part of the fold -> file of its predictions.
FILES = {"test": "posteriors.jsonl", "valid": "valid.jsonl"}


@dataclass(frozen=True, kw_only=True)
class SerProbeOptions(UnitOptions):
    """Options of the probe.

    Attributes
    ----------
    feature_dir : Path
        dump/<feature>/<set>.
    systems : tuple of str
        As in stage 5, or <system>+<system>.
    predict : tuple of {"test", "valid"}
        Parts: test -> posteriors.jsonl, valid -> valid.jsonl.
    train_on : {"train", "train+valid"}
        Parts to learn from.
    config : Path
        File or name of conf/ser.
    output_dir : Path
        exp/<tag>/fold<n>/ser/probe.
    """

    feature_dir: Path
    predict: tuple[Literal["test", "valid"], ...] = ("test",)
    train_on: TrainOn = "train"
    config: Annotated[Path, config_of("ser")]
    output_dir: Path


def ser_probe(options: SerProbeOptions) -> None:
    """Train and apply the heads; one JSON line for each rate, system and head."""
    stage = Stage(
        options.output_dir,
        inputs=[options.units_dir, options.config, *options.inputs.files],
        settings={
            "rates": list(map(str, options.rates)),
            "systems": options.systems,
            "train_on": options.train_on,
            "predict": options.predict,
        },
        code=[evaluation],
    )
    if stage.is_done():
        return
    if options.train_on == "train+valid" and "valid" in options.predict:
        raise ValueError(
            "--predict valid with --train_on train+valid: heads have learned from "
            "these clips; use --train_on train"
        )

    from emoq_plugin.evaluation.emotion_probe import HEAD_OPTIONS
    from emoq_plugin.evaluation.predictions import write_predictions

    head = read_options(options.config, HEAD_OPTIONS)
    opened = options.inputs.open(options.feature_dir)
    stage.start()
    predictions = _predictions(options, opened, head)
    for part in options.predict:
        write_predictions(
            options.output_dir / FILES[part],
            (p.only(getattr(opened.fold, part)) for p in predictions),
        )
    stage.finish(conditions=len(predictions))


def _predictions(
    options: SerProbeOptions, opened: OpenFold, head: dict
) -> "list[Prediction]":
    """Return the predictions of the continuous features, then of all conditions."""
    from emoq_plugin.evaluation.emotion_probe import (
        ProbeTask,
        probe_continuous,
        probe_systems,
    )
    from emoq_plugin.routing.systems import parse_systems

    train = opened.train(options.train_on)
    task = ProbeTask(
        fold=opened.fold,
        train=train,
        targets=opened.data.targets(train, opened.emotions),
        emotions=opened.emotions,
        options=head,
        ratings=opened.data.rating_rows(train) if opened.data.ratings else None,
        speakers=[opened.data.speaker[u] for u in train],
        predicted=[u for part in options.predict for u in getattr(opened.fold, part)],
    )
    found: list[Prediction] = []
    frozen = None
    systems = parse_systems(options.systems)
    for bank, served in opened.banks(options.quantizer_dir, options.rates, systems):
        if frozen is None:  # the normalisation is the same in all banks of a fold
            mean = opened.mean_of_speaker(bank)
            frozen, bound = probe_continuous(task, bank, opened.features, mean)
            found.append(bound)
        found += probe_systems(
            task,
            bank,
            options.units_dir,
            conditions=served,
            cheapest=min(options.rates),
            frozen=frozen,
        )
    return found
