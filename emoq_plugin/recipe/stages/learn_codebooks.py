"""Stage 4: learn the codebooks of one fold (one job of an array over folds).

Under torchrun or srun the processes share the frames of the fold:
`torchrun --nproc_per_node 2 -m emoq_plugin.bin.learn_codebooks ...`.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from emoq_plugin import learning, routing
from emoq_plugin.data.folds import ALL
from emoq_plugin.devices import processes_together
from emoq_plugin.options import Count, Natural
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stage import MARKER, Stage, read_marker
from emoq_plugin.recipe.stages.fold_inputs import (
    CROSSFIT,
    HELD_OUT,
    BankName,
    FoldInputs,
    TrainOn,
)
from emoq_plugin.units.rates import Rate, deepest

# Within a bank: where experts are learned that it is to hold besides.
ADDED = "added"
LOG = "learning.jsonl"
# What the model card says of a quantizer that has seen every speaker.
UNTESTED = "no: every clip was learned from; scores of folds are of other codebooks"

if TYPE_CHECKING:
    from torch import Tensor

    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.learning.fit_bank import QuantizerConfig
    from emoq_plugin.routing.learn import TrainingClips
    from emoq_plugin.routing.systems import System


@dataclass(frozen=True, kw_only=True)
class LearnCodebooksOptions:
    """Options of stage 4.

    Attributes
    ----------
    inputs : FoldInputs
    feature_dir : Path, optional
        dump/<feature>/<set>.
    feature_config : Path, optional
        Instead: encode on the fly, no dump.
    config : Path
        File or name of conf/quantizer.
    rates : tuple of Rate
        <K>x<L> ..., such as 64x1 64x4.
    systems : tuple of str, optional
        Learn only the experts that these need; all when left out.
    train_on : {"train", "train+valid"}
        Parts to learn from.
    route_depth : int
        Levels that routers look at.
    crossfit : int
        Parts that route each other; 0: experts route clips they have seen.
    corpus : str
        Name for the model card.
    without_class : str
        Class that nothing is learned from: clips of which it has the largest share are
        left out, and its shares in others.
    output_dir : Path
        exp/<tag>/fold<n>/quantizer.
    device : {"cpu", "cuda"}
        Where it is computed.
    job : int
        Number of this job; GPUs go by turns.
    """

    inputs: FoldInputs
    feature_dir: Path | None = None
    feature_config: Annotated[Path, config_of("features")] | None = None
    config: Annotated[Path, config_of("quantizer")]
    rates: tuple[Rate, ...]
    systems: tuple[str, ...] | None = None
    train_on: TrainOn = "train"
    route_depth: Count = 1
    crossfit: Natural = 0
    corpus: str
    without_class: str = ""
    output_dir: Path
    device: Literal["cpu", "cuda"] = "cpu"
    job: Count = 1

    @property
    def left_out(self) -> dict[str, str]:
        """The class that is left out, as settings and the card name it."""
        return {"without_class": self.without_class} if self.without_class else {}


def learn_codebooks(options: LearnCodebooksOptions) -> None:
    """Learn one bank for each codebook size (with the most levels) and clip code.

    Banks and experts that an earlier call has learned from the same stay as they are.
    """
    if options.crossfit == 1:
        raise ValueError("--crossfit 1 leaves no speaker to learn from: 0 or >= 2")
    if bool(options.feature_dir) == bool(options.feature_config):
        raise ValueError("give either --feature_dir or --feature_config")
    features = options.feature_dir or options.feature_config
    # What every bank depends on, and what only says which are learned.
    settings = {
        "fold": options.inputs.fold,
        "train_on": options.train_on,
        "route_depth": options.route_depth,
        "crossfit": options.crossfit,
        "corpus": options.corpus,
    }
    settings |= options.left_out
    common = {
        "inputs": [features, options.config, *options.inputs.files],
        "code": [learning, routing],
    }
    shared = Stage(options.output_dir, settings=settings, **common)
    asked = {
        "banks": [str(rate) for rate in deepest(options.rates)],
        "systems": options.systems and sorted(options.systems),
    }
    stage = Stage(options.output_dir, settings=settings | asked, **common)
    # One of several processes must not leave while the others wait for it.
    if processes_together() == 1 and stage.is_done():
        return

    from emoq_plugin.learning.distributed import of_first, process_group

    with process_group(options.device, job=options.job) as (rank, _):
        if processes_together() > 1 and of_first(stage.is_done(), options.device):
            return
        _learn(options, stage, shared.fingerprint, writes=rank == 0)


@dataclass
class _Bank:
    """A bank: what it holds, and what it is to hold."""

    name: BankName  # with all its levels; its directory is called so
    kept: list[str]  # expert sets that an earlier call has learned
    expert_sets: list[str]  # those and the ones that are asked for

    @classmethod
    def plan(
        cls, name: BankName, expert_sets: list[str], learned: dict[str, dict[str, Any]]
    ) -> "_Bank":
        """Take the smallest bank that serves the rate among those that were learned."""
        known = map(BankName.parse, learned)
        serving = [b for b in known if b.serves(name.rate, name.clip_bits)]
        name = min(serving, key=lambda b: b.rate, default=name)
        kept = learned[str(name)]["expert_sets"] if serving else []
        return cls(name, kept, [*kept, *(g for g in expert_sets if g not in kept)])

    @property
    def missing(self) -> list[str]:
        """Expert sets that are to be learned."""
        return [name for name in self.expert_sets if name not in self.kept]

    def stage(self, output: Path, shared: str) -> Stage:
        """Return the stage that ends in the bank."""
        settings = {"stage": shared, "expert_sets": self.expert_sets}
        return Stage(output / str(self.name), settings=settings)


def _learned(output: Path, shared: str) -> dict[str, dict[str, Any]]:
    """Return the settings of banks learned from the same, by rate."""
    markers = {p.parent.name: read_marker(p) for p in output.glob(f"*x*/{MARKER}")}
    settings = {name: found.get("settings", {}) for name, found in markers.items()}
    return {
        name: known
        for name, known in settings.items()
        if isinstance(known, dict) and known.get("stage") == shared
    }


def _asked(
    options: LearnCodebooksOptions, config: "QuantizerConfig"
) -> dict[BankName, list[str]]:
    """Return the expert sets that the systems need, by bank."""
    from emoq_plugin.routing.systems import encoded, parse_systems

    if options.systems is None:
        return {BankName(rate): config.expert_sets for rate in deepest(options.rates)}
    by_bits: dict[int | None, list[System]] = {}
    for system in encoded(parse_systems(options.systems)):
        by_bits.setdefault(system.clip_bits, []).append(system)
    found = {}
    for bits, systems in by_bits.items():
        expert_sets = _expert_sets(options, config, systems)
        rates = deepest(options.rates)
        if not any(system.expert_set for system in systems):
            rates = [min(options.rates)]  # the clip code alone, whatever is beside it
        found |= {BankName(rate, bits): expert_sets for rate in rates}
    return found


def _expert_sets(
    options: LearnCodebooksOptions,
    config: "QuantizerConfig",
    systems: "list[System]",
) -> list[str]:
    """Return the expert sets of the configuration that some systems need."""
    from emoq_plugin.core.bank import BALANCED
    from emoq_plugin.routing.systems import expert_sets_of

    needed = expert_sets_of(systems) or [BALANCED]
    expert_sets = [name for name in config.expert_sets if name in needed]
    if not expert_sets:
        raise ValueError(
            f"{options.config}: expert_sets are {' '.join(config.expert_sets)}, and "
            f"the systems {' '.join(options.systems)} need others: {' '.join(needed)}"
        )
    return expert_sets


def _read(options: LearnCodebooksOptions, config: "QuantizerConfig") -> "TrainingClips":
    """Read labels and open the features of the training part."""
    from emoq_plugin.learning.weighting import leave_class_out
    from emoq_plugin.routing.learn import TrainingClips
    from emoq_plugin.speech.band import band_metadata

    opened = options.inputs.open(options.feature_dir, tests=False)
    emotions, data, fold = opened.emotions, opened.data, opened.fold
    features = opened.features or _encoded(options, data)
    learned = set(opened.train(options.train_on))
    # The order of the arks, so that a pass reads them from front to back.
    utterances = [u for u in features.utterances if u in learned]
    targets = data.targets(utterances, emotions)
    if options.without_class:
        kept, emotions, targets = leave_class_out(
            options.without_class, emotions, targets
        )
        utterances = [utterances[n] for n in kept]
    return TrainingClips(
        features,
        features.lengths,
        utterances,
        targets,
        emotions,
        data.speaker,
        config,
        features.specification.frame_rate_hz,
        card={
            "corpus": options.corpus,
            "audio": band_metadata(
                data, utterances, sample_rate=features.specification.sample_rate
            ),
            "fold": fold.name,
            **({"tested": UNTESTED} if fold.name == ALL else {}),
            "seed": config.learning.get("seed", 0),
            "feature": features.specification.to_json(),
            "feature_fingerprint": features.specification.fingerprint(),
            "route_depth": options.route_depth,
            "train_on": options.train_on,
            **options.left_out,
        },
        device=options.device,
    )


def _encoded(options: LearnCodebooksOptions, data):
    """Return an encoder in place of dumped features."""
    from emoq_plugin.speech.encoders.registry import build_encoder, read_feature_config
    from emoq_plugin.speech.on_the_fly import EncodedOnTheFly

    name, conf = read_feature_config(options.feature_config)
    return EncodedOnTheFly(data, build_encoder(name, device=options.device, **conf))


def _learn(
    options: LearnCodebooksOptions, stage: Stage, shared: str, *, writes: bool
) -> None:
    """Learn what is missing; of several processes, the one that `writes` saves it."""
    from emoq_plugin.learning.distributed import of_first
    from emoq_plugin.learning.fit_bank import QuantizerConfig
    from emoq_plugin.routing.systems import SPECIFIC

    output, config = options.output_dir, QuantizerConfig.read(options.config)
    # What each process finds on a shared disk may differ for a moment.
    learned = of_first(_learned(output, shared), options.device)
    asked = _asked(options, config)
    plan = [_Bank.plan(name, sets, learned) for name, sets in asked.items()]
    missing = [bank for bank in plan if bank.missing]
    clips = _read(options, config) if missing else None
    if writes:
        stage.start()
    for bank in plan:
        if bank not in missing:
            logging.info("%s stays as it is", output / str(bank.name))
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
    options: LearnCodebooksOptions,
    clips: "TrainingClips",
    planned: _Bank,
    routers: dict[str, "Tensor"],
    *,
    writes: bool,
) -> None:
    """Learn what a bank and those that route the clips it has not seen still lack."""
    from emoq_plugin.core.bank import BALANCED
    from emoq_plugin.speech.golden import keep_golden_clip

    place, rate = options.output_dir / str(planned.name), planned.name.rate
    place.mkdir(parents=True, exist_ok=True)
    # The bank itself, then those that route the training clips they have not seen.
    n_parts = options.crossfit if planned.expert_sets != [BALANCED] else 0
    places = {place: []} | {
        place / CROSSFIT / str(j): clips.speakers[j::n_parts] for j in range(n_parts)
    }
    depth = min(options.route_depth, rate.n_levels)
    for where, left_out in places.items():
        sizes = rate.sizes[: depth if left_out else None]
        bank = _with_missing_experts(
            clips, planned, where, sizes, without=left_out, writes=writes
        )
        if writes:
            learned = clips.fit_routers(bank, depth=depth, without=left_out)
            bank.router_parameters = learned | ({} if left_out else routers)
            keep_golden_clip(bank, clips.features)
            bank.save_pretrained(where)
    if not writes:
        return
    # What an earlier call with more parts left would still route clips in stage 5.
    for old in (place / CROSSFIT).glob("[0-9]*"):
        if old not in places:
            shutil.rmtree(old)
    for where in places:
        (where / "checkpoint.safetensors").unlink(missing_ok=True)


def _with_missing_experts(
    clips: "TrainingClips",
    planned: _Bank,
    where: Path,
    sizes: list[int],
    *,
    without: list[str],
    writes: bool,
) -> "CodebookBank":
    """Return the bank of a directory, with the experts that it lacks learned."""
    from emoq_plugin.core.artifact import CONFIG
    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.learning.distributed import of_first

    # Killed between these banks, some may hold more than the marker says.
    # A balanced bank, which nobody routes, has had no others beside it.
    there = planned.kept and (where / CONFIG).exists()
    kept = CodebookBank.from_pretrained(where) if there else None
    have = kept.expert_sets if kept else []
    lacking = [name for name in planned.expert_sets if name not in have]
    lacking = of_first(lacking, clips.device)
    # So that the log of what is kept is not lost.
    work = where / ADDED if kept else where
    bank = kept
    if lacking:
        clip_code, bits = kept.clip_code if kept else None, planned.name.clip_bits
        if bits is not None and not kept:
            clip_code = clips.learn_clip_code(bits, without=without)
        bank = clips.learn(
            sizes,
            work_dir=work,
            without=without,
            clip_code=clip_code,
            expert_sets=lacking,
        )
    if kept and lacking:
        bank = kept.joined(bank, clips.config.expert_sets)
    if kept and writes and work.is_dir():
        with open(where / LOG, "a", encoding="utf-8") as log:
            log.write((work / LOG).read_text("utf-8"))
        shutil.rmtree(work)
    return bank


def _write_held_out(held_out: dict, clips: "TrainingClips", place: Path) -> None:
    """Write the speaker-held-out posteriors of every router that gives them."""
    from emoq_plugin.data.votes import format_votes
    from emoq_plugin.files import write_table

    for router, posteriors in held_out.items():
        rows = (format_votes(row, clips.emotions) for row in posteriors)
        write_table(place / router, dict(zip(clips.utterances, rows)))
