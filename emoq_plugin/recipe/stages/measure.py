"""Stage 7: what reconstructions of every system at every rate keep, for one fold."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoq_plugin import evaluation
from emoq_plugin.data.alignments import alignment_files
from emoq_plugin.options import Count, Natural
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.recipe.stages.fold_inputs import OpenFold, TrainOn, UnitOptions

if TYPE_CHECKING:
    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.evaluation.measures import MeasureTask


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(UnitOptions):
    """Options of the measures.

    Attributes
    ----------
    feature_dir : Path
        dump/<feature>/<set>.
    probe_systems : tuple of str, optional
        Systems to probe phones and speakers of; all when left out.
    train_on : {"train", "train+valid"}
        Parts to learn from.
    alignments : Path, optional
        Phones: directory of .lablaut files, CTM, or <utt> <start> <end> <phone>.
    min_phone_count : int
        Merge rarer phones into one.
    n_permutations : int
        Of the labels, for the null.
    seed : int
        Of the permutations.
    output_dir : Path
        Gets measures.jsonl.
    """

    feature_dir: Path
    probe_systems: tuple[str, ...] | None = None
    train_on: TrainOn = "train"
    alignments: Path | None = None
    min_phone_count: Count = 50
    n_permutations: Count = 100
    seed: Natural = 0
    output_dir: Path


def measure(options: MeasureOptions) -> None:
    """Measure every condition, one JSON line each, and the reference."""
    probed = options.probe_systems or options.systems
    if unknown := sorted(set(probed) - set(options.systems)):
        raise ValueError(
            f"--probe_systems names '{unknown[0]}', which is not in --systems"
        )
    stage = Stage(
        options.output_dir,
        inputs=[
            options.units_dir,
            options.feature_dir,
            *options.inputs.files,
            *(alignment_files(options.alignments) if options.alignments else ()),
        ],
        settings={
            "rates": list(map(str, options.rates)),
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

    from emoq_plugin.evaluation.measures import (
        measure_condition,
        measure_continuous,
        write_measures,
    )
    from emoq_plugin.routing.systems import encoded, parse_systems
    from emoq_plugin.units.store import UnitStore

    opened = options.inputs.open(options.feature_dir)
    labels = _phone_labels(options, opened)
    stage.start()
    lines: list[dict[str, Any]] = []
    task = None
    systems = encoded(parse_systems(options.systems))
    for bank, served in opened.banks(options.quantizer_dir, options.rates, systems):
        if task is None:  # the normalisation is the same in all banks of a fold
            task = _task(options, opened, bank, **labels)
            lines.append(measure_continuous(task))
        for rate, system in served:
            store = UnitStore(options.units_dir / str(rate) / system.name)
            probes = system.name in probed
            lines.append(measure_condition(task, bank, store, probes=probes))
    write_measures(options.output_dir / "measures.jsonl", lines)
    stage.finish(conditions=len(lines))


def _phone_labels(options: MeasureOptions, opened: OpenFold) -> dict[str, Any]:
    """Return the phones of each frame, by clip, and their number."""
    from emoq_plugin.data.alignments import label_clips, read_alignments

    if not options.alignments:
        return {"phone_labels": {}, "n_phones": 0}
    phones, labels = label_clips(
        read_alignments(options.alignments, opened.data.utterances),
        opened.features.lengths,
        frame_rate_hz=opened.features.specification.frame_rate_hz,
        min_count=options.min_phone_count,
    )
    logging.info("%d phones in %d clips", len(phones), len(labels))
    return {"phone_labels": labels, "n_phones": len(phones)}


def _task(
    options: MeasureOptions, opened: OpenFold, bank: "CodebookBank", **labels: Any
) -> "MeasureTask":
    import torch

    from emoq_plugin.evaluation.measures import MeasureTask

    mean = opened.mean_of_speaker(bank)

    def normalised(clip: str) -> torch.Tensor:
        return bank.normalization(torch.from_numpy(opened.features[clip]), mean(clip))

    return MeasureTask.build(
        opened.fold,
        opened.data,
        opened.emotions,
        normalised=normalised,
        train=opened.train(options.train_on),
        n_permutations=options.n_permutations,
        seed=options.seed,
        **labels,
    )
