"""Stage 4: learn the codebooks of one fold (one job of an array over folds).

Under torchrun or srun the processes share the frames of the fold:
`torchrun --nproc_per_node 2 -m emoq_plugin.bin.learn_codebooks ...`.
"""

import argparse
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoq_plugin import learning, routing
from emoq_plugin.devices import processes_together
from emoq_plugin.options import whole
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.experiment import (
    CROSSFIT,
    HELD_OUT,
    TRAIN_ON,
    parse_rates,
    read_fold,
)
from emoq_plugin.recipe.stage import MARKER, Stage, read_marker

# Within a bank: where experts are learned that it is to hold besides.
ADDED = "added"
LOG = "learning.jsonl"

if TYPE_CHECKING:
    from torch import Tensor

    from emoq_plugin.learning.fit_bank import QuantizerConfig
    from emoq_plugin.routing.learn import TrainingClips


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="learn_codebooks", description=__doc__)
    add = parser.add_argument
    add("--feature_dir", type=Path, help="dump/<feature>/<set>")
    add(
        "--feature_config",
        type=config_of("features"),
        help="instead: encode on the fly, no dump",
    )
    add("--data_dir", type=Path, required=True, help="formatted set, dump/raw/<set>")
    add("--emotions", type=Path, required=True, help="data/emotions")
    add("--folds", type=Path, required=True, help="data/folds")
    add("--fold", required=True, help="name of the fold")
    add(
        "--config",
        type=config_of("quantizer"),
        required=True,
        help="file or name of conf/quantizer",
    )
    add("--rates", nargs="+", required=True, help="<K>x<L> ..., such as 64x1 64x4")
    add("--systems", nargs="+", help="learn only the experts that these need; all")
    add("--train_on", default="train", choices=TRAIN_ON, help="parts to learn from")
    add("--route_depth", type=whole(1), default=1, help="levels that routers look at")
    add(
        "--crossfit",
        type=whole(0),
        default=0,
        help="parts that route each other; 0: experts route clips they have seen",
    )
    add("--corpus", required=True, help="name for the artifact's card")
    add("--output_dir", type=Path, required=True, help="exp/<tag>/fold<n>/quantizer")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--job", type=whole(1), default=1, help="number of this job; GPUs go by turns")
    return parser


def work(options: argparse.Namespace) -> None:
    """Learn one bank for each codebook size, with the most levels asked for.

    Banks and experts that an earlier call has learned from the same stay as they are.
    """
    levels = parse_rates(options.rates)
    if options.crossfit == 1:
        raise ValueError("--crossfit 1 leaves no speaker to learn from: 0 or >= 2")
    if bool(options.feature_dir) == bool(options.feature_config):
        raise ValueError("give either --feature_dir or --feature_config")
    inputs = [
        options.feature_dir or options.feature_config,
        options.data_dir,
        options.emotions,
        options.config,
        *(options.folds / options.fold / p for p in ("train", "valid", "test")),
    ]
    # What every bank depends on, and what only says which are learned.
    settings = {
        "train_on": options.train_on,
        "route_depth": options.route_depth,
        "crossfit": options.crossfit,
        "corpus": options.corpus,
    }
    common = {"inputs": inputs, "code": [learning, routing]}
    shared = Stage(options.output_dir, settings=settings, **common)
    asked = {"levels": levels, "systems": options.systems and sorted(options.systems)}
    stage = Stage(options.output_dir, settings=settings | asked, **common)
    # One of several processes must not leave while the others wait for it.
    if processes_together() == 1 and stage.is_done():
        return

    from emoq_plugin.learning.distributed import of_first, process_group

    with process_group(options.device, job=options.job) as (rank, _):
        if processes_together() > 1 and of_first(stage.is_done(), options.device):
            return
        _learn(options, levels, stage, shared.fingerprint, writes=rank == 0)


def _features(options: argparse.Namespace, data):
    """Return the dumped features, or an encoder that stands in for them."""
    if options.feature_dir:
        from emoq_plugin.speech.store import FeatureStore

        return FeatureStore(options.feature_dir)
    from emoq_plugin.speech.encoders.registry import build_encoder, read_feature_config
    from emoq_plugin.speech.on_the_fly import EncodedOnTheFly

    name, conf = read_feature_config(options.feature_config)
    return EncodedOnTheFly(data, build_encoder(name, device=options.device, **conf))


@dataclass
class _Bank:
    """A bank of one size: what it holds, and what it is to hold."""

    size: int
    n_levels: int
    kept: list[str]  # expert sets that an earlier call has learned
    expert_sets: list[str]  # those and the ones that are asked for

    @classmethod
    def plan(
        cls, output: Path, rate: tuple[int, int], expert_sets: list[str], shared: str
    ) -> "_Bank":
        """Take the smallest bank that was learned from the same and has the levels."""
        size, n_levels = rate
        fitting = [
            (found["levels"], found["expert_sets"])
            for found in _learned(output, shared).values()
            if found["size"] == size and found["levels"] >= n_levels
        ]
        n_levels, kept = min(fitting, default=(n_levels, []))
        everything = [*kept, *(g for g in expert_sets if g not in kept)]
        return cls(size, n_levels, kept, everything)

    @property
    def name(self) -> str:
        """Name of its directory."""
        return f"{self.size}x{self.n_levels}"

    @property
    def missing(self) -> list[str]:
        """Groups that are to be learned."""
        return [
            expert_set for expert_set in self.expert_sets if expert_set not in self.kept
        ]

    def stage(self, output: Path, shared: str) -> Stage:
        """Return the stage that ends in the bank."""
        settings = {"stage": shared, "size": self.size, "levels": self.n_levels}
        return Stage(
            output / self.name, settings=settings | {"expert_sets": self.expert_sets}
        )


def _learned(output: Path, shared: str) -> dict[str, dict[str, Any]]:
    """Return size, levels and expert sets of banks learned from the same."""
    markers = {p.parent.name: read_marker(p) for p in output.glob(f"*x*/{MARKER}")}
    settings = {name: found.get("settings", {}) for name, found in markers.items()}
    return {
        name: known
        for name, known in settings.items()
        if isinstance(known, dict) and known.get("stage") == shared
    }


def _expert_sets(options: argparse.Namespace, config: "QuantizerConfig") -> list[str]:
    """Return the expert sets of the configuration that the systems need."""
    from emoq_plugin.routing.systems import expert_sets_of, parse_systems

    if options.systems is None:
        return config.expert_sets
    needed = expert_sets_of(parse_systems(options.systems))
    expert_sets = [
        expert_set for expert_set in config.expert_sets if expert_set in needed
    ]
    if not expert_sets:
        raise ValueError(
            f"{options.config}: expert_sets are {' '.join(config.expert_sets)}, and "
            f"the systems {' '.join(options.systems)} need others: {' '.join(needed)}"
        )
    return expert_sets


def _read(options: argparse.Namespace, config: "QuantizerConfig") -> "TrainingClips":
    """Read labels and open the features of the training part."""
    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.routing.learn import TrainingClips
    from emoq_plugin.speech.band import band_facts

    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    features = _features(options, data)
    fold = read_fold(options.folds, options.fold, data)
    valid = fold.valid if options.train_on == "train+valid" else ()
    learned = {*fold.train, *valid}
    # The order of the arks, so that a pass reads them from front to back.
    utterances = [u for u in features.utterances if u in learned]
    clips = TrainingClips(
        features,
        features.lengths,
        utterances,
        data.targets(utterances, emotions),
        emotions,
        data.speaker,
        config,
        features.card.frame_rate_hz,
        device=options.device,
    )
    clips.card = {
        "corpus": options.corpus,
        "audio": band_facts(data, utterances, sample_rate=features.card.sample_rate),
        "fold": fold.name,
        "seed": config.learning.get("seed", 0),
        "feature": features.card.to_json(),
        "feature_fingerprint": features.card.fingerprint(),
        "route_depth": options.route_depth,
        "train_on": options.train_on,
    }
    return clips


def _learn(
    options: argparse.Namespace,
    levels: dict[int, int],
    stage: Stage,
    shared: str,
    *,
    writes: bool,
) -> None:
    """Learn what is missing; of several processes, the one that `writes` saves it."""
    from emoq_plugin.learning.distributed import of_first
    from emoq_plugin.learning.fit_bank import QuantizerConfig
    from emoq_plugin.routing.systems import SPECIFIC

    output, config = options.output_dir, QuantizerConfig.read(options.config)
    expert_sets = _expert_sets(options, config)
    plan = [_Bank.plan(output, rate, expert_sets, shared) for rate in levels.items()]
    # What each process finds on a shared disk may differ for a moment.
    decided = of_first([vars(bank) for bank in plan], options.device)
    plan = [_Bank(**bank) for bank in decided]
    missing = [bank for bank in plan if bank.missing]
    clips = _read(options, config) if missing else None
    if writes:
        stage.start()
    for bank in plan:
        if bank not in missing:
            logging.info("%s stays as it is", output / bank.name)
    routers: dict[str, Tensor] = {}
    if writes and any(SPECIFIC in bank.expert_sets for bank in missing):
        routers, held_out = clips.fit_shared_routers()
        _write_held_out(held_out, clips, output / HELD_OUT)
    for bank in missing:
        _learn_bank(options, clips, bank, routers, writes=writes)
        if writes:
            bank.stage(output, shared).finish()
            logging.info("%s: learned %s", bank.name, " ".join(bank.missing))
    if writes:
        stage.finish(banks=sorted(_learned(output, shared)))


def _learn_bank(
    options: argparse.Namespace,
    clips: "TrainingClips",
    planned: _Bank,
    routers: dict[str, "Tensor"],
    *,
    writes: bool,
) -> None:
    """Learn what a bank and those that route the clips it has not seen still lack."""
    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.learning.distributed import of_first

    place = options.output_dir / planned.name
    place.mkdir(parents=True, exist_ok=True)
    # The bank itself, then those that route the training clips they have not seen.
    places = {place: []} | {
        place / CROSSFIT / str(j): clips.speakers[j :: options.crossfit]
        for j in range(options.crossfit)
    }
    for where, left_out in places.items():
        depth = min(options.route_depth, planned.n_levels)
        sizes = [planned.size] * (depth if left_out else planned.n_levels)
        # Killed between these banks, some may hold more than the marker says.
        kept = CodebookBank.from_pretrained(where) if planned.kept else None
        have = kept.expert_sets if kept else []
        lacking = [
            expert_set for expert_set in planned.expert_sets if expert_set not in have
        ]
        lacking = of_first(lacking, options.device)
        # So that the log of what is kept is not lost.
        work = where / ADDED if kept else where
        bank = kept
        if lacking:
            bank = clips.learn(
                sizes, work_dir=work, without=left_out, expert_sets=lacking
            )
        if kept and lacking:
            bank = kept.joined(bank, clips.config.expert_sets)
        if writes:
            if work.is_dir() and kept:
                with open(where / LOG, "a", encoding="utf-8") as log:
                    log.write((work / LOG).read_text("utf-8"))
                shutil.rmtree(work)
            learned = clips.fit_routers(bank, depth=depth, without=left_out)
            bank.router_parameters = learned | ({} if left_out else routers)
            bank.save_pretrained(where)
    if not writes:
        return
    # What an earlier call with more parts left would still route clips in stage 5.
    for old in (place / CROSSFIT).glob("[0-9]*"):
        if old not in places:
            shutil.rmtree(old)
    for where in places:
        (where / "checkpoint.safetensors").unlink(missing_ok=True)


def _write_held_out(held_out: dict, clips: "TrainingClips", place: Path) -> None:
    """Write the speaker-held-out posteriors of every router that gives them."""
    from emoq_plugin.data.votes import format_votes
    from emoq_plugin.files import write_table

    for router, posteriors in held_out.items():
        rows = (format_votes(row, clips.emotions) for row in posteriors)
        write_table(place / router, dict(zip(clips.utterances, rows)))
