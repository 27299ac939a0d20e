"""Stage 6, probe backend: predictions of every system at every rate of one fold."""

import argparse
from pathlib import Path

from emoq_plugin import evaluation
from emoq_plugin.files import read_options
from emoq_plugin.presets import config_of
from emoq_plugin.progress import progress
from emoq_plugin.recipe.experiment import (
    TRAIN_ON,
    check_no_leak,
    find_bank,
    read_fold,
)
from emoq_plugin.recipe.stage import Stage

# Part of the fold -> file of its predictions.
FILES = {"test": "posteriors.jsonl", "valid": "valid.jsonl"}


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="ser_probe", description=__doc__)
    add = parser.add_argument
    add("--quantizer_dir", type=Path, required=True, help="exp/<tag>/fold<n>/quantizer")
    add("--units_dir", type=Path, required=True, help="dump/units/<tag>/fold<n>/<set>")
    add("--feature_dir", type=Path, required=True, help="dump/<feature>/<set>")
    add("--data_dir", type=Path, required=True, help="formatted set, dump/raw/<set>")
    add("--emotions", type=Path, required=True, help="data/emotions")
    add("--folds", type=Path, required=True, help="data/folds")
    add("--fold", required=True, help="name of the fold")
    add("--rates", nargs="+", required=True, help="as in stage 5")
    add(
        "--systems",
        nargs="+",
        required=True,
        help="as in stage 5, or <system>+<system>",
    )
    add(
        "--predict",
        nargs="+",
        default=["test"],
        choices=list(FILES),
        help="parts: test -> posteriors.jsonl, valid -> valid.jsonl",
    )
    add("--train_on", default="train", choices=TRAIN_ON, help="parts to learn from")
    add(
        "--config",
        type=config_of("ser"),
        required=True,
        help="file or name of conf/ser",
    )
    add("--output_dir", type=Path, required=True, help="exp/<tag>/fold<n>/ser/probe")
    return parser


def work(options: argparse.Namespace) -> None:
    """Train and apply the heads; one JSON line for each rate, system and head."""
    folder = options.folds / options.fold
    stage = Stage(
        options.output_dir,
        inputs=[
            options.units_dir,
            options.data_dir,
            options.emotions,
            options.config,
            *(folder / part for part in ("train", "valid", "test")),
        ],
        settings={
            "rates": options.rates,
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

    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.evaluation.emotion_probe import (
        HEAD_OPTIONS,
        ProbeTask,
        probe_continuous,
        probe_systems,
    )
    from emoq_plugin.evaluation.predictions import write_predictions
    from emoq_plugin.learning.fit_bank import speaker_means
    from emoq_plugin.speech.store import FeatureStore

    head = read_options(options.config, HEAD_OPTIONS)
    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    features = FeatureStore(options.feature_dir)
    fold = read_fold(options.folds, options.fold, data)
    train = [*fold.train, *(fold.valid if options.train_on == "train+valid" else ())]
    task = ProbeTask(
        fold=fold,
        train=train,
        targets=data.targets(train, emotions),
        emotions=emotions,
        options=head,
        predicted=[u for part in options.predict for u in getattr(fold, part)],
    )
    stage.start()
    by_bank: dict[Path, list[str]] = {}
    for rate in options.rates:
        directory = find_bank(options.quantizer_dir, rate)
        by_bank.setdefault(directory, []).append(rate)
    predictions = []
    frozen = None
    means: dict = {}

    def mean_of_speaker(utterance: str):
        return means.get(data.speaker[utterance])

    for directory, rates in progress(by_bank.items(), len(by_bank), "probing banks"):
        bank = CodebookBank.from_pretrained(directory)
        check_no_leak(bank.card, fold, data, str(directory))
        if frozen is None:  # the normalisation is the same in all banks of a fold
            if bank.normalization.kind == "speaker":
                means = speaker_means(features, data.speaker)
            frozen, bound = probe_continuous(task, bank, features, mean_of_speaker)
            predictions.append(bound)
        predictions += probe_systems(
            task,
            bank,
            options.units_dir,
            rates=rates,
            systems=options.systems,
            frozen=frozen,
        )
    for part in options.predict:
        write_predictions(
            options.output_dir / FILES[part],
            (p.only(getattr(fold, part)) for p in predictions),
        )
    stage.finish(conditions=len(predictions))
