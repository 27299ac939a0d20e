"""Check the options of a recipe before its first stage works.

Options have the names of the recipe's; those left out are not looked at. Lists are one
argument, as in the scripts.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from emoq_plugin.data.folds import ALL
from emoq_plugin.files import read_json
from emoq_plugin.options import Count, Seconds, optional, whole
from emoq_plugin.presets import find_for_script
from emoq_plugin.recipe.stages.fold_inputs import TrainOn, find_bank
from emoq_plugin.recipe.stages.format_data import MultiChannel, OnError
from emoq_plugin.units.rates import Rate

# What file names are made of: longer ones, with what is added, are too long for a disk.
NAME = re.compile(r"[\w.+=@:,-]{1,150}")
# Options that name a file of conf/<kind>.
CONFIGS = {
    "feature_config": "features",
    "quantizer_config": "quantizer",
    "probe_config": "ser",
    "ser_config": "ser",
    "study_config": "study",
}
FOLDS = Path("data/folds")
LAST_STAGE = 9  # the one that packs, where a recipe has it

# Scripts spell an option that is absent by an empty value.
MaybeCount = Annotated[int | None, optional(whole(1))]
MaybeNatural = Annotated[int | None, optional(whole(0))]
MaybePath = Annotated[Path | None, optional(Path)]
Words = Annotated[tuple[str, ...] | None, str.split]


def _pack_fold(text: str) -> int | str | None:
    return text if text == ALL else optional(whole(1))(text)


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Options of a recipe, by the recipe's names; see its --help.

    Attributes
    ----------
    last_stage : int
        That the recipe has.
    """

    last_stage: int = LAST_STAGE
    stage: Count
    stop_stage: Count
    corpus: str | None = None
    set_name: str | None = None
    minutes: MaybeCount = None
    tag: str | None = None
    nj: MaybeCount = None
    ngpu: MaybeNatural = None
    cmd_backend: str | None = None
    first_fold: MaybeCount = None
    last_fold: MaybeCount = None
    sample_rate: MaybeCount = None
    min_seconds: Seconds | None = None
    max_seconds: Seconds | None = None
    on_error: OnError | None = None
    multi_channel: MultiChannel | None = None
    feature_config: Path | None = None
    model_dir: MaybePath = None
    quantizer_config: Path | None = None
    rates: Words = None
    systems: Words = None
    route_depth: MaybeCount = None
    crossfit: MaybeNatural = None
    subwords: MaybeNatural = None
    learn_nodes: MaybeCount = None
    learn_procs: MaybeCount = None
    train_on: TrainOn | None = None
    seed: MaybeNatural = None
    ser_backend: Words = None
    probe_config: Path | None = None
    ser_config: Path | None = None
    ser_args: str | None = None
    espnet_rate: str | None = None
    espnet_systems: Words = None
    study_config: Path | None = None
    alignments: MaybePath = None
    pack_rate: str | None = None
    pack_system: str | None = None
    pack_fold: Annotated[int | str | None, _pack_fold] = None
    pack_dir: MaybePath = None


def check_options(options: RecipeOptions) -> None:
    """Report all faults at once; without any, print what the shell is to evaluate.

    That is the absolute path of each configuration: ``<option>=<quoted path>``.
    """
    for name, path in check_and_find(options).items():
        print(f"{name}={shlex.quote(str(path))}")


def check_and_find(options: RecipeOptions) -> dict[str, Path]:
    """Return the file of each configuration, or report all faults at once.

    Raises
    ------
    ValueError
        A line for each fault.
    """
    stages = set(range(options.stage, options.stop_stage + 1))
    configs, faults = _find_configs(options)
    options = replace(options, **configs)
    alone = (_numbers, _names, _units)
    faults += [fault for check in alone for fault in check(options, stages)]
    # What depends on several options is reported when each is right.
    together = () if faults else (_learning, _recognition, _study, _pack)
    faults += [fault for check in together for fault in check(options, stages)]
    if faults:
        raise ValueError("\n".join(faults))
    return configs


def _find_configs(options: RecipeOptions) -> tuple[dict[str, Path], list[str]]:
    """Find the configurations by path or preset; return what is missing, too."""
    found, faults = {}, []
    for name, kind in CONFIGS.items():
        given = getattr(options, name)
        # From stage 4 on only the name of features counts: they may have been split.
        if given is None or (name == "feature_config" and options.stage > 3):
            continue
        try:
            found[name] = find_for_script(given, kind)
        except FileNotFoundError as error:
            faults.append(f"--{name} {error}")
    return found, faults


def _numbers(options: RecipeOptions, stages: set[int]) -> Iterator[str]:
    if not stages & set(range(1, options.last_stage + 1)):
        yield (
            f"--stage {options.stage} --stop_stage {options.stop_stage}: no stage "
            f"would run, there are 1 to {options.last_stage}"
        )
    low, high = options.min_seconds, options.max_seconds
    if None not in (low, high) and low >= high:
        yield f"--min_seconds {low:g} is not below --max_seconds {high:g}"
    if options.crossfit == 1:
        yield "--crossfit 1: no speaker would be left to learn from, expected 0 or >= 2"
    if (options.learn_nodes or 1) > 1 and options.cmd_backend != "slurm":
        yield (
            f"--learn_nodes {options.learn_nodes} needs --cmd_backend slurm, found "
            f"{options.cmd_backend}: use --learn_procs"
        )
    if 3 in stages and options.model_dir and not options.model_dir.is_dir():
        yield f"--model_dir {options.model_dir}: no such directory"
    if options.first_fold and options.first_fold > (options.last_fold or 10**9):
        yield (
            f"--first_fold {options.first_fold} comes after --last_fold "
            f"{options.last_fold}"
        )
    if 1 not in stages and FOLDS.is_dir():
        there = sum(path.name.isdigit() for path in FOLDS.iterdir())
        for name in ("first_fold", "last_fold"):
            if (fold := getattr(options, name)) and fold > there:
                yield f"--{name} {fold}: {FOLDS} has {there} folds"


def _names(options: RecipeOptions, stages: set[int]) -> Iterator[str]:
    """Check what directories are called by."""
    names = {n: getattr(options, n) for n in ("corpus", "set_name", "tag")}
    names |= {n: c.stem for n in CONFIGS if (c := getattr(options, n))}
    for name, value in names.items():
        if value is not None and not NAME.fullmatch(value):
            yield (
                f"--{name} '{value}': expected a name of at most 150 letters, digits "
                "and . _ + = @ : , -"
            )


def _units(options: RecipeOptions, stages: set[int]) -> Iterator[str]:
    """Check rates and systems by themselves."""
    for name in ("rates", "systems"):
        if getattr(options, name) == ():
            yield f"--{name} is empty"
    for rate in options.rates or ():
        yield from _said(Rate.parse, rate, name="rates")
    for system in options.systems or ():
        yield from _said(_check_system, system, name="systems")
    if LAST_STAGE in stages and options.last_stage == LAST_STAGE:
        yield from _said(Rate.parse, options.pack_rate, name="pack_rate")
        yield from _said(_check_packed, options.pack_system, name="pack_system")


def _learning(options: RecipeOptions, stages: set[int]) -> Iterator[str]:
    """Check that stage 4 learns the experts of all systems."""
    learns_all = LAST_STAGE in stages and options.pack_fold == ALL
    if not options.quantizer_config or not (stages & {4, 5, 6} or learns_all):
        return
    from emoq_plugin.learning.fit_bank import QuantizerConfig
    from emoq_plugin.routing.fit_calibrated import CalibratedSettings
    from emoq_plugin.routing.systems import (
        System,
        encoded,
        expert_sets_of,
        parse_systems,
    )

    path = options.quantizer_config
    config = QuantizerConfig.read(path)
    CalibratedSettings.read(config.calibrated, f"{path}: calibrated")
    for system in options.systems if stages & {5, 6} else ():
        yield from _said(_check_learned, system, config.expert_sets, name="systems")
    learned = config.expert_sets
    if stages >= {4, LAST_STAGE} and not learns_all:
        bits = System.parse(options.pack_system).clip_bits
        beside = encoded(parse_systems(options.systems))
        needed = expert_sets_of(s for s in beside if s.clip_bits == bits)
        learned = [name for name in learned if name in needed]
    if stages >= {4, LAST_STAGE} or learns_all:
        yield from _said(
            _check_learned, options.pack_system, learned, name="pack_system"
        )


def _said(check, *arguments, name: str) -> Iterator[str]:
    try:
        check(*arguments)
    except ValueError as error:
        yield f"--{name}: {error}"


def _check_system(name: str) -> None:
    """Refuse what is no system."""
    from emoq_plugin.core.bank import BALANCED
    from emoq_plugin.routing.systems import CAPACITY, System

    for part in System.parse(name).encoded:
        single = part.expert_set in (BALANCED, "")
        if single != (part.router is None):
            raise ValueError(
                f"'{name}' is no system, expected 'balanced' or <expert set>-<router>, "
                "such as specific-distortion"
            )
        if part.expert_set == CAPACITY and part.router.of_class:
            raise ValueError(
                f"'{name}': router '{part.router}' names a class, and the experts of "
                "'capacity' are none"
            )


def _check_packed(name: str) -> None:
    """Refuse what is no quantizer."""
    from emoq_plugin.routing.systems import System

    _check_system(name)
    system = System.parse(name)
    if system.beside:
        raise ValueError(f"'{name}' is a control of experiments, not a quantizer")
    if not system.expert_set:
        raise ValueError(
            f"'{name}' has no frame codes, and a quantizer has: pack "
            f"'balanced+{name}', and leave its frame codes away"
        )


def _check_learned(name: str, expert_sets: list[str]) -> None:
    """Refuse a system whose experts are not learned."""
    from emoq_plugin.routing.systems import System, expert_sets_of

    needed = expert_sets_of([System.parse(name)])
    if absent := [expert_set for expert_set in needed if expert_set not in expert_sets]:
        raise ValueError(
            f"'{name}' needs the experts '{absent[0]}', learned are only "
            f"{' '.join(expert_sets) or 'those of other clip codes'}"
        )


def _recognition(options: RecipeOptions, stages: set[int]) -> Iterator[str]:
    """Check stage 6."""
    if 6 not in stages or options.ser_backend is None:
        return
    from emoq_plugin.evaluation.emotion_probe import HEAD_OPTIONS
    from emoq_plugin.files import read_options, read_yaml
    from emoq_plugin.routing.systems import System

    if not options.ser_backend:
        yield "--ser_backend is empty, expected probe, espnet or both"
    for backend in options.ser_backend:
        if backend not in ("probe", "espnet"):
            yield f"--ser_backend '{backend}', expected probe or espnet"
    if "probe" in options.ser_backend:
        yield from _said(
            read_options, options.probe_config, HEAD_OPTIONS, name="probe_config"
        )
    if "espnet" not in options.ser_backend:
        return
    yield from _said(read_yaml, options.ser_config, name="ser_config")
    yield from _said(shlex.split, options.ser_args or "", name="ser_args")
    if options.espnet_rate not in options.rates:
        yield (
            f"--espnet_rate {options.espnet_rate} is not among --rates "
            f"{' '.join(options.rates)}: give one of them, or --ser_backend probe"
        )
    if not options.espnet_systems:
        yield "--espnet_systems is empty"
    for system in options.espnet_systems:
        if system not in options.systems:
            known = " ".join(options.systems)
            yield f"--espnet_systems: '{system}' is not among --systems {known}"
        elif (found := System.parse(system)).beside or not found.expert_set:
            yield (
                f"--espnet_systems: '{system}' has no units of frames that the ESPnet "
                "task could read: score it by --ser_backend probe"
            )


def _study(options: RecipeOptions, stages: set[int]) -> Iterator[str]:
    """Check stages 3 and 7."""
    from emoq_plugin.recipe.study.config import StudyConfig
    from emoq_plugin.speech.encoders.registry import read_feature_config

    if 3 in stages and options.feature_config:
        yield from _said(
            read_feature_config, options.feature_config, name="feature_config"
        )
    if not stages & {7, 8} or not options.study_config:
        return
    yield from _said(StudyConfig.read, options.study_config, name="study_config")
    if options.alignments and not options.alignments.exists():
        yield f"--alignments {options.alignments}: no such directory or file"


def _pack(options: RecipeOptions, stages: set[int]) -> Iterator[str]:
    """Check stage 9, and what is taken from the quantizer of another recipe."""
    packs = LAST_STAGE in stages or options.last_stage < LAST_STAGE
    if options.pack_rate is None or not packs or options.pack_fold == ALL:
        return
    if stages >= {4, LAST_STAGE}:
        rate = Rate.parse(options.pack_rate)
        if not any(r.serves(rate) for r in map(Rate.parse, options.rates)):
            yield (
                f"--pack_rate {options.pack_rate} is not learned at --rates "
                f"{' '.join(options.rates)}"
            )
        last = options.last_fold or options.pack_fold
        if not options.first_fold <= options.pack_fold <= last:
            yield (
                f"--pack_fold {options.pack_fold} is not among the folds "
                f"{options.first_fold} to {last}"
            )
    else:
        yield from _said(_check_bank, options, name="pack_rate")


def _check_bank(options: RecipeOptions) -> None:
    from emoq_plugin.routing.systems import System

    rate = Rate.parse(options.pack_rate)
    systems = [options.pack_system] if options.pack_system else options.systems
    if not systems:
        find_bank(options.pack_dir, rate)
    for system in systems or ():
        bank = find_bank(options.pack_dir, rate, System.parse(system).clip_bits)
        experts = read_json(bank / "config.json")["experts"]
        expert_sets = list(dict.fromkeys(name.partition("/")[0] for name in experts))
        _check_learned(system, expert_sets)
