"""Units of a set by one bank: every arm at every rate, in one pass over the clips."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from emoq_plugin.batches import in_batches
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch_encoding import BatchEncoding, batch_encoding
from emoq_plugin.progress import progress
from emoq_plugin.recipe.experiment import parse_rate
from emoq_plugin.routing.base import RoutingInputs
from emoq_plugin.routing.systems import System
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
    held_out : mapping of str to mapping of str to (C,) array
        Speaker-held-out posteriors of training clips, by router and utterance.
    speaker_means : dict of str to (D,) tensor
        By speaker, for the normalisation that needs them.
    """

    speaker: Mapping[str, str]
    emotion: Mapping[str, str]
    part: Mapping[str, str]
    held_out: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    speaker_means: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """An arm at a rate, while it is written."""

    rate: str
    arm: System
    writer: UnitWriter
    counts: Mapping[str, StreamCounts]

    @classmethod
    def make(cls, rate: str, arm: System, output_dir: Path) -> "Cell":
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
    pairs: Sequence[tuple[str, System]],
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
    pairs : sequence of (str, System)
        `<K>x<L>`, which the bank serves, and the system.
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
            clips = _Clips.read(batch, bank, judges, features, facts)
            for cell in cells:
                route, weights = clips.route(cell, route_depth, seed)
                codes = clips.encoding.codes(route, cell.writer.n_levels, beam=beam)
                for row, utterance in enumerate(batch):
                    names = [bank.experts[e] for e in route[row].tolist()]
                    found = codes[row, : features.lengths[utterance]].numpy()
                    named = dict(zip(names, weights[row].tolist()))
                    cell.writer.write(utterance, found, named)
                    if part := facts.part.get(utterance):
                        cell.counts[part].add(found, names)
    for cell in cells:
        _write_cards(cell, bank, features.card.frame_rate_hz, quantizer_dir)


@dataclass(frozen=True)
class _Clips:
    """A batch under the bank, and its parts under the banks that route them."""

    encoding: BatchEncoding
    routed_by: list[tuple[torch.Tensor, BatchEncoding]]  # rows of the batch
    utterances: list[str]
    facts: ClipFacts

    @classmethod
    def read(
        cls,
        batch: list[str],
        bank: CodebookBank,
        judges: Mapping[str, CodebookBank],
        features: FeatureStore,
        facts: ClipFacts,
    ) -> "_Clips":
        frames = [torch.from_numpy(features[u]) for u in batch]
        x = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
        lengths = torch.tensor([len(f) for f in frames])
        speakers = [facts.speaker[u] for u in batch]
        means = None
        if facts.speaker_means:
            means = torch.stack([facts.speaker_means[s] for s in speakers])

        def under(by: CodebookBank, rows: torch.Tensor) -> BatchEncoding:
            mean = None if means is None else means[rows]
            return batch_encoding(by, x[rows], lengths[rows], speaker_mean=mean)

        everyone = torch.arange(len(batch))
        encoding = under(bank, everyone)
        rows: dict[int, list[int]] = {}
        banks = [judges.get(speaker, bank) for speaker in speakers]
        for row, by in enumerate(banks):
            rows.setdefault(id(by), []).append(row)
        routed_by = [(everyone, encoding)]
        if len(rows) > 1 or banks[0] is not bank:
            routed_by = [
                (torch.tensor(r), under(banks[r[0]], torch.tensor(r)))
                for r in rows.values()
            ]
        return cls(encoding, routed_by, batch, facts)

    def route(
        self, cell: Cell, route_depth: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give places in the bank's experts (B, M) and weights (B, M)."""
        shape = (len(self.utterances), cell.arm.n_streams)
        route, weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        for rows, clips in self.routed_by:
            names = [self.utterances[row] for row in rows.tolist()]
            inputs = RoutingInputs(
                clips,
                depth=min(route_depth, cell.writer.n_levels),
                utterances=names,
                emotions=[self.facts.emotion[name] for name in names],
                seed=seed,
                held_out=self._held_out(names),
            )
            route[rows], weights[rows] = cell.arm.route(inputs)
        return route, weights

    def _held_out(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Stack the speaker-held-out posteriors by router, NaN where there are none."""
        found = {}
        for router, table in self.facts.held_out.items():
            missing = np.full_like(next(iter(table.values())), np.nan)
            rows = np.stack([table.get(name, missing) for name in names])
            found[router] = torch.from_numpy(rows)
        return found


def _write_cards(
    cell: Cell, bank: CodebookBank, frame_rate: float, quantizer_dir: Path
) -> None:
    found = bitrates(
        cell.counts["test"],
        cell.counts["train"],
        frame_rate_hz=frame_rate,
        n_streams=cell.arm.n_streams,
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
