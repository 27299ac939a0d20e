"""Units of a set by one bank: every arm at every rate, in one pass over the clips."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from emoq_plugin.batches import in_batches
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.clip_encoding import ClipEncoding
from emoq_plugin.progress import progress
from emoq_plugin.recipe.experiment import parse_rate
from emoq_plugin.routing.routers import Facts
from emoq_plugin.routing.systems import Arm, encode_clips
from emoq_plugin.speech.store import FeatureStore
from emoq_plugin.units.bitrate import StreamCounts, bitrates, usage
from emoq_plugin.units.store import UnitWriter, write_cards


@dataclass(frozen=True)
class ClipFacts:
    """What is known of the clips of a set beside their features.

    Attributes
    ----------
    speaker, emotion : mapping of str to str
        By utterance; the emotion is only for control routes and the oracle.
    part : mapping of str to {"train", "test"}
        Utterances whose codes are counted for bitrates.
    unheard : mapping of str to (C,) array
        Posteriors of training clips by routers that have not heard their speaker.
    speaker_means : dict of str to (D,) tensor
        By speaker, for the normalisation that needs them.
    """

    speaker: Mapping[str, str]
    emotion: Mapping[str, str]
    part: Mapping[str, str]
    unheard: Mapping[str, np.ndarray] = field(default_factory=dict)
    speaker_means: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """An arm at a rate, while it is written."""

    rate: str
    arm: Arm
    writer: UnitWriter
    counts: Mapping[str, StreamCounts]

    @classmethod
    def make(cls, rate: str, arm: Arm, output_dir: Path) -> "Cell":
        """Make the cell of a rate such as `64x4`; nothing is written yet."""
        size, n_levels = parse_rate(rate)
        writer = UnitWriter(
            output_dir / rate / arm.name,
            size=size,
            n_levels=n_levels,
            routed=arm.router is not None,
        )
        counts = {part: StreamCounts([size] * n_levels) for part in ("train", "test")}
        return cls(rate, arm, writer, counts)


def encode_cells(
    bank: CodebookBank,
    features: FeatureStore,
    facts: ClipFacts,
    *,
    pairs: Sequence[tuple[str, Arm]],
    judges: Mapping[str, CodebookBank],
    route_depth: int,
    beam: int,
    seed: int,
    quantizer_dir: Path,
    output_dir: Path,
) -> None:
    """Write `<output_dir>/<rate>/<arm>` for some arms and rates of one bank.

    Parameters
    ----------
    bank : CodebookBank
    features : FeatureStore
    facts : ClipFacts
    pairs : sequence of (str, Arm)
        `<K>x<L>`, which the bank serves, and the arm.
    judges : mapping of str to CodebookBank
        By training speaker, the bank without that speaker, which routes its clips.
    route_depth : int
        Levels that routers look at.
    beam : int
        Code sequences kept for a frame.
    seed : int
        Of the controls random and wrong.
    quantizer_dir : Path
        Of the bank, named in the cards.
    output_dir : Path

    Raises
    ------
    ValueError
        If the bank lacks an arm's experts.
    """
    cells = [Cell.make(rate, arm, output_dir) for rate, arm in pairs]
    for _, arm in pairs:
        arm.experts(bank)  # an unknown group is told before any work
    with contextlib.ExitStack() as stack:
        for cell in cells:
            stack.enter_context(cell.writer)
        lengths = ((u, features.lengths[u]) for u in features.utterances)
        what = f"encoding {quantizer_dir.name}"
        for batch in in_batches(progress(lengths, len(features), what)):
            clips, routed_by = _clips(batch, bank, judges, features, facts)
            for cell in cells:
                encoded = encode_clips(
                    cell.arm,
                    clips,
                    list(_router_facts(batch, facts, cell, route_depth, seed)),
                    cell.writer.n_levels,
                    beam=beam,
                    routed_by=routed_by,
                )
                for utterance, (route, codes) in zip(batch, encoded):
                    cell.writer.write(utterance, codes.numpy(), route)
                    if part := facts.part.get(utterance):
                        cell.counts[part].add(codes.numpy(), list(route))
    for cell in cells:
        _write_cards(cell, bank, features.card.frame_rate_hz, quantizer_dir)


def _clips(
    batch: Sequence[str],
    bank: CodebookBank,
    judges: Mapping[str, CodebookBank],
    features: FeatureStore,
    facts: ClipFacts,
) -> tuple[list[ClipEncoding], list[ClipEncoding]]:
    """Give the clips of a batch, and the same by the banks that route them."""
    clips, routed_by = [], []
    for utterance in batch:
        frames = torch.from_numpy(features[utterance])
        speaker = facts.speaker[utterance]
        mean = facts.speaker_means.get(speaker)
        clip = ClipEncoding(bank, frames, speaker_mean=mean)
        judge = judges.get(speaker)
        clips.append(clip)
        routed_by.append(
            clip if judge is None else ClipEncoding(judge, frames, speaker_mean=mean)
        )
    return clips, routed_by


def _router_facts(
    batch: Sequence[str], facts: ClipFacts, cell: Cell, route_depth: int, seed: int
) -> Iterator[Facts]:
    for utterance in batch:
        yield Facts(
            depth=min(route_depth, cell.writer.n_levels),
            utterance=utterance,
            emotion=facts.emotion[utterance],
            seed=seed,
            unheard=facts.unheard.get(utterance),
        )


def _write_cards(
    cell: Cell, bank: CodebookBank, frame_rate: float, quantizer_dir: Path
) -> None:
    found = bitrates(
        cell.counts["test"],
        cell.counts["train"],
        frame_rate_hz=frame_rate,
        n_streams=2 if cell.arm.router == "soft" else 1,
        side_bits_per_clip=cell.arm.side_bits(bank),
    )
    card = {
        "rate": cell.rate,
        "arm": cell.arm.name,
        "experts": cell.arm.experts(bank),
        "n_levels": cell.writer.n_levels,
        "size": bank.sizes[0],
        "quantizer": os.path.relpath(quantizer_dir, cell.writer.directory),
        "codebooks_sha256": bank.codebooks_sha256,
        "frame_rate_hz": frame_rate,
    }
    counts = cell.counts["test"]
    found["seconds"] = counts.frames / frame_rate
    write_cards(cell.writer.directory, card, {**found, **usage(counts)})
