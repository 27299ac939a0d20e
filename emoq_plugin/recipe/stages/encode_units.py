"""Stage 5: encode a set with the quantizers of one fold, every system at every rate."""

import argparse
import logging
from itertools import product
from pathlib import Path

from emoq_plugin import routing, units
from emoq_plugin.options import whole
from emoq_plugin.recipe.experiment import (
    CROSSFIT,
    HELD_OUT,
    check_no_leak,
    find_bank,
    read_fold,
)
from emoq_plugin.recipe.stage import Stage, read_marker


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="encode_units", description=__doc__)
    add = parser.add_argument
    add("--quantizer_dir", type=Path, required=True, help="exp/<tag>/fold<n>/quantizer")
    add("--feature_dir", type=Path, required=True, help="dump/<feature>/<set>")
    add("--data_dir", type=Path, required=True, help="formatted set, dump/raw/<set>")
    add("--emotions", type=Path, required=True, help="data/emotions")
    add("--folds", type=Path, required=True, help="data/folds")
    add("--fold", required=True, help="name of the fold")
    add("--rates", nargs="+", required=True, help="<K>x<L> ..., as in stage 4")
    add(
        "--systems",
        nargs="+",
        required=True,
        help="balanced, <expert set>-<router> ...",
    )
    add("--route_depth", type=whole(1), default=1, help="levels that routers look at")
    add("--beam", type=whole(1), default=1, help="code sequences kept for a frame")
    add("--seed", type=whole(0), default=0, help="of the controls random and wrong")
    add("--output_dir", type=Path, required=True, help="dump/units/<tag>/fold<n>/<set>")
    return parser


def cross_fitted_banks(directory: Path, fold, data) -> dict:
    """Give, by training speaker, the bank learned without that speaker (if any)."""
    from emoq_plugin.core.bank import CodebookBank

    routing_banks = {}
    for place in sorted((directory / CROSSFIT).glob("[0-9]*")):
        bank = CodebookBank.from_pretrained(place)
        check_no_leak(bank.card, fold, data, str(place))
        routing_banks |= dict.fromkeys(bank.card["held_out_speakers"], bank)
    return routing_banks


def read_held_out(place: Path, emotions: list[str]) -> dict:
    """Read speaker-held-out posteriors of training clips by router (if any)."""
    from emoq_plugin.data.votes import parse_votes
    from emoq_plugin.files import read_table

    return {
        path.name: {u: parse_votes(v, emotions) for u, v in read_table(path).items()}
        for path in sorted(place.glob("[a-z]*"))
    }


def open_bank(directory: Path, fold, data, card):
    """Read a bank and check that it may encode these features of this fold.

    Raises
    ------
    ValueError
        If it was learned from other features, or from speakers of the test part.
    """
    from emoq_plugin.core.bank import CodebookBank

    bank = CodebookBank.from_pretrained(directory)
    check_no_leak(bank.card, fold, data, str(directory))
    if bank.card["feature_fingerprint"] != card.fingerprint():
        learned = bank.card["feature"]
        raise ValueError(
            f"{directory} was learned from other features ({learned['encoder']}, "
            f"{learned['dimension']} dimensions) than the set has ({card.encoder}, "
            f"{card.dimension} dimensions)"
        )
    return bank


def work(options: argparse.Namespace) -> None:
    """Encode clip by clip; each expert and level is computed once for a clip.

    Units that an earlier call has made from the same stay as they are.
    """
    folder = options.folds / options.fold
    banks = {rate: find_bank(options.quantizer_dir, rate) for rate in options.rates}
    inputs = [
        options.feature_dir,
        options.data_dir,
        options.emotions,
        *(folder / part for part in ("train", "valid", "test")),
    ]
    settings = {
        "route_depth": options.route_depth,
        "beam": options.beam,
        "seed": options.seed,
    }
    held_out = options.quantizer_dir / HELD_OUT
    stage = Stage(
        options.output_dir,
        inputs=[*inputs, *dict.fromkeys(banks.values())],
        settings=settings | {"rates": options.rates, "systems": options.systems},
        code=[routing, units],
    )
    if stage.is_done():
        return

    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.learning.fit_bank import speaker_means
    from emoq_plugin.routing.systems import System, parse_systems
    from emoq_plugin.speech.store import FeatureStore
    from emoq_plugin.units.encode_set import ClipFacts, encode_conditions

    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    features = FeatureStore(options.feature_dir)
    fold = read_fold(options.folds, options.fold, data)
    systems = parse_systems(options.systems)
    targets = data.targets(data.utterances, emotions).argmax(axis=1)
    facts = ClipFacts(
        speaker=data.speaker,
        emotion={u: emotions[n] for u, n in zip(data.utterances, targets)},
        part={u: "train" for u in fold.train} | {u: "test" for u in fold.test},
        held_out=read_held_out(held_out, emotions),
    )
    stage.start()
    # Looked for once other processes are kept out.
    conditions: dict[Path, dict[tuple[str, System], Stage]] = {}
    for rate, system in product(dict.fromkeys(options.rates), systems):
        beside = [held_out / str(system.router_name)]
        condition = Stage(
            options.output_dir / rate / system.name,
            inputs=[*inputs, banks[rate], *(p for p in beside if p.exists())],
            settings=settings,
            code=[routing, units],
        )
        if read_marker(condition.marker).get("fingerprint") == condition.fingerprint:
            logging.info("%s stays as it is", condition.output)
        else:
            conditions.setdefault(banks[rate], {})[rate, system] = condition
    for directory, missing in conditions.items():
        bank = open_bank(directory, fold, data, features.card)
        if bank.normalization.kind == "speaker" and not facts.speaker_means:
            facts.speaker_means.update(speaker_means(features, data.speaker))
        for condition in missing.values():
            condition.withdraw()
        encode_conditions(
            bank,
            features,
            facts,
            pairs=list(missing),
            routing_banks=cross_fitted_banks(directory, fold, data),
            route_depth=options.route_depth,
            beam=options.beam,
            seed=options.seed,
            quantizer_dir=directory,
            output_dir=options.output_dir,
        )
        for condition in missing.values():
            condition.finish()
    stage.finish(clips=len(features), conditions=len(options.rates) * len(systems))
