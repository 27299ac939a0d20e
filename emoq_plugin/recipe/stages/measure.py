"""Stage 7: what reconstructions of every system at every rate keep, for one fold."""

import argparse
import logging
from pathlib import Path

from emoq_plugin import evaluation
from emoq_plugin.options import whole
from emoq_plugin.progress import progress
from emoq_plugin.recipe.experiment import (
    TRAIN_ON,
    check_no_leak,
    find_bank,
    read_fold,
)
from emoq_plugin.recipe.stage import Stage


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="measure", description=__doc__)
    add = parser.add_argument
    add("--quantizer_dir", type=Path, required=True, help="exp/<tag>/fold<n>/quantizer")
    add("--units_dir", type=Path, required=True, help="dump/units/<tag>/fold<n>/<set>")
    add("--feature_dir", type=Path, required=True, help="dump/<feature>/<set>")
    add("--data_dir", type=Path, required=True, help="formatted set, dump/raw/<set>")
    add("--emotions", type=Path, required=True, help="data/emotions")
    add("--folds", type=Path, required=True, help="data/folds")
    add("--fold", required=True, help="name of the fold")
    add("--rates", nargs="+", required=True, help="as in stage 5")
    add("--systems", nargs="+", required=True, help="as in stage 5")
    add(
        "--probe_systems",
        nargs="+",
        help="systems to probe phones and speakers of; all",
    )
    add("--train_on", default="train", choices=TRAIN_ON, help="parts to learn from")
    add(
        "--alignments",
        type=Path,
        help="phones: directory of .lablaut files, CTM, or <utt> <start> <end> <phone>",
    )
    add(
        "--min_phone_count",
        type=whole(1),
        default=50,
        help="merge rarer phones into one",
    )
    add(
        "--n_permutations",
        type=whole(1),
        default=100,
        help="of the labels, for the null",
    )
    add("--seed", type=whole(0), default=0, help="of the permutations")
    add("--output_dir", type=Path, required=True, help="gets measures.jsonl")
    return parser


def work(options: argparse.Namespace) -> None:
    """Measure every condition, one JSON line each, and the reference."""
    from emoq_plugin.data.alignments import alignment_files

    probed = options.probe_systems or options.systems
    if unknown := sorted(set(probed) - set(options.systems)):
        raise ValueError(
            f"--probe_systems names '{unknown[0]}', which is not in --systems"
        )
    folder = options.folds / options.fold
    stage = Stage(
        options.output_dir,
        inputs=[
            options.units_dir,
            options.feature_dir,
            options.data_dir,
            options.emotions,
            *(folder / part for part in ("train", "valid", "test")),
            *(alignment_files(options.alignments) if options.alignments else ()),
        ],
        settings={
            "rates": options.rates,
            "systems": options.systems,
            "probe_systems": probed,
            "train_on": options.train_on,
            "min_phone_count": options.min_phone_count,
            "n_permutations": options.n_permutations,
            "seed": options.seed,
        },
        code=[evaluation],
    )
    if stage.is_done():
        return

    import torch

    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.data.alignments import label_clips, read_alignments
    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.evaluation.measures import (
        MeasureTask,
        measure_condition,
        measure_continuous,
        write_measures,
    )
    from emoq_plugin.learning.fit_bank import speaker_means
    from emoq_plugin.speech.store import FeatureStore
    from emoq_plugin.units.store import UnitStore

    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    features = FeatureStore(options.feature_dir)
    fold = read_fold(options.folds, options.fold, data)
    phones, labels = [], {}
    if options.alignments:
        phones, labels = label_clips(
            read_alignments(options.alignments, data.utterances),
            features.lengths,
            frame_rate_hz=features.card.frame_rate_hz,
            min_count=options.min_phone_count,
        )
        logging.info("%d phones in %d clips", len(phones), len(labels))
    stage.start()
    by_bank: dict[Path, list[str]] = {}
    for rate in options.rates:
        directory = find_bank(options.quantizer_dir, rate)
        by_bank.setdefault(directory, []).append(rate)
    lines, task = [], None
    for directory, rates in progress(by_bank.items(), len(by_bank), "measuring banks"):
        bank = CodebookBank.from_pretrained(directory)
        check_no_leak(bank.card, fold, data, str(directory))
        if task is None:  # the normalisation is the same in all banks of a fold
            means = {}
            if bank.normalization.kind == "speaker":
                means = speaker_means(features, data.speaker)

            def normalised(clip, bank=bank, means=means):
                frames = torch.from_numpy(features[clip])
                return bank.normalization(frames, means.get(data.speaker[clip]))

            task = MeasureTask.build(
                fold,
                data,
                emotions,
                normalised=normalised,
                train=[
                    *fold.train,
                    *(fold.valid if options.train_on == "train+valid" else ()),
                ],
                phone_labels=labels,
                n_phones=len(phones),
                n_permutations=options.n_permutations,
                seed=options.seed,
            )
            lines.append(measure_continuous(task))
        for rate in rates:
            for system in options.systems:
                store = UnitStore(options.units_dir / rate / system)
                lines.append(
                    measure_condition(task, bank, store, probes=system in probed)
                )
    write_measures(options.output_dir / "measures.jsonl", lines)
    stage.finish(conditions=len(lines))
