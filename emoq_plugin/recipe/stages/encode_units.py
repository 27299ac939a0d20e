"""Stage 5: encode a set with the quantizers of one fold, every system at every rate."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoq_plugin import routing, units
from emoq_plugin.options import Count, Natural
from emoq_plugin.recipe.stage import Stage, read_marker
from emoq_plugin.recipe.stages.fold_inputs import (
    CROSSFIT,
    HELD_OUT,
    ConditionOptions,
    OpenFold,
    conditions,
    find_bank,
)
from emoq_plugin.units.rates import Rate

if TYPE_CHECKING:
    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.routing.systems import System
    from emoq_plugin.units.encode_set import ClipMetadata


@dataclass(frozen=True, kw_only=True)
class EncodeUnitsOptions(ConditionOptions):
    """Options of stage 5.

    Attributes
    ----------
    feature_dir : Path
        dump/<feature>/<set>.
    route_depth : int
        Levels that routers look at.
    beam : int
        Code sequences kept for a frame.
    seed : int
        Of the controls random and wrong.
    subwords : int
        Sequences of units that become subwords; none are learned for 0.
    output_dir : Path
        dump/units/<tag>/fold<n>/<set>.
    """

    feature_dir: Path
    route_depth: Count = 1
    beam: Count = 1
    seed: Natural = 0
    subwords: Natural = 0
    output_dir: Path

    @property
    def held_out(self) -> Path:
        """Where speaker-held-out posteriors of training clips are."""
        return self.quantizer_dir / HELD_OUT

    def stage(self, output: Path, banks: list[Path], **more: Any) -> Stage:
        """Return the stage of all units, or of those of one condition."""
        settings = {
            "route_depth": self.route_depth,
            "beam": self.beam,
            "seed": self.seed,
        }
        if self.subwords:
            settings["subwords"] = self.subwords
        return Stage(
            output,
            inputs=[self.feature_dir, *self.inputs.files, *banks],
            settings=settings | more,
            code=[routing, units],
        )


def encode_units(options: EncodeUnitsOptions) -> None:
    """Encode clip by clip; each expert and level is computed once for a clip.

    Units that an earlier call has made from the same stay as they are.
    """
    from emoq_plugin.routing.systems import encoded, parse_systems

    rates = list(dict.fromkeys(options.rates))
    pairs = conditions(rates, encoded(parse_systems(options.systems)))
    banks = {
        (rate, system): find_bank(options.quantizer_dir, rate, system.clip_bits)
        for rate, system in pairs
    }
    stage = options.stage(
        options.output_dir,
        list(dict.fromkeys(banks.values())),
        rates=list(map(str, rates)),
        systems=options.systems,
    )
    if stage.is_done():
        return

    from emoq_plugin.units.encode_set import encode_conditions

    opened = options.inputs.open(options.feature_dir)
    stage.start()
    # Looked for once other processes are kept out.
    for directory, missing in _missing(options, banks).items():
        bank = opened.bank(directory)
        metadata = _metadata(opened, options, bank)
        for condition in missing.values():
            condition.withdraw()
        encode_conditions(
            bank,
            opened.features,
            metadata,
            pairs=list(missing),
            routing_banks=dict(_cross_fitted_banks(directory, opened, metadata)),
            route_depth=options.route_depth,
            beam=options.beam,
            seed=options.seed,
            quantizer_dir=directory,
            output_dir=options.output_dir,
            subwords=options.subwords,
        )
        for condition in missing.values():
            condition.finish()
    stage.finish(clips=len(opened.features), conditions=len(pairs))


def _metadata(
    opened: OpenFold, options: EncodeUnitsOptions, bank: "CodebookBank"
) -> "ClipMetadata":
    """Return what is known of the clips beside their features."""
    from emoq_plugin.units.encode_set import ClipMetadata

    data, fold, emotions = opened.data, opened.fold, opened.emotions
    targets = data.targets(data.utterances, emotions).argmax(axis=1)
    return ClipMetadata(
        speaker=data.speaker,
        emotion={u: emotions[n] for u, n in zip(data.utterances, targets)},
        part={u: "train" for u in fold.train} | {u: "test" for u in fold.test},
        held_out=_read_held_out(options.held_out, bank.emotions),
        speaker_means=opened.speaker_means(bank),
    )


def _read_held_out(place: Path, emotions: list[str]) -> dict[str, dict[str, Any]]:
    """Read speaker-held-out posteriors of training clips by router (if any)."""
    from emoq_plugin.data.votes import parse_votes
    from emoq_plugin.files import read_table

    return {
        path.name: {u: parse_votes(v, emotions) for u, v in read_table(path).items()}
        for path in sorted(place.glob("[a-z]*"))
    }


def _missing(
    options: EncodeUnitsOptions, banks: "dict[tuple[Rate, System], Path]"
) -> "dict[Path, dict[tuple[Rate, System], Stage]]":
    """Return, by bank, the stages of the conditions that have no units."""
    found: dict[Path, dict[tuple[Rate, System], Stage]] = {}
    for (rate, system), bank in banks.items():
        posteriors = options.held_out / str(system.router_name)
        condition = options.stage(
            options.output_dir / str(rate) / system.name,
            [bank, *([posteriors] if posteriors.exists() else [])],
        )
        if read_marker(condition.marker).get("fingerprint") == condition.fingerprint:
            logging.info("%s stays as it is", condition.output)
        else:
            found.setdefault(bank, {})[rate, system] = condition
    return found


def _cross_fitted_banks(
    directory: Path, opened: OpenFold, metadata: "ClipMetadata"
) -> "Iterator[tuple[str, CodebookBank]]":
    """Yield each training clip with the bank learned without its speaker (if any).

    Clips of a class that was left out are new to the bank itself.
    """
    for place in sorted((directory / CROSSFIT).glob("[0-9]*")):
        bank = opened.bank(place)
        left_out = set(bank.card["held_out_speakers"])
        for clip in opened.features.utterances:
            if metadata.emotion[clip] == bank.card.get("without_class"):
                continue
            if metadata.speaker[clip] in left_out:
                yield clip, bank
