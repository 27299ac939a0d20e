"""Units of a set by one bank: every system at every rate, in one pass over clips."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoq_plugin.batches import in_batches
from emoq_plugin.core.artifact import SUBWORDS
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch import PADDING
from emoq_plugin.core.batch_encoding import BatchEncoding, batch_encoding
from emoq_plugin.progress import progress
from emoq_plugin.routing.base import Route, RoutingInputs
from emoq_plugin.routing.systems import CLIP, System
from emoq_plugin.speech.store import FeatureStore
from emoq_plugin.units.bitrate import StreamCounts, bitrates, usage
from emoq_plugin.units.rates import Rate
from emoq_plugin.units.store import UnitWriter, write_cards
from emoq_plugin.units.subwords import add_subwords


@dataclass(frozen=True)
class ClipMetadata:
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
class Condition:
    """A system at a rate, while it is written."""

    rate: Rate
    system: System
    writer: UnitWriter
    counts: Mapping[str, StreamCounts]
    clip_counts: Mapping[str, StreamCounts]  # empty without a clip code

    @classmethod
    def make(
        cls, rate: Rate, system: System, bank: CodebookBank, output_dir: Path
    ) -> "Condition":
        """Make the condition; nothing is written yet."""
        code, parts = bank.clip_code, ("train", "test")
        writer = UnitWriter(
            output_dir / str(rate) / system.name,
            size=rate.size,
            n_levels=rate.n_levels,
            routed=system.router is not None,
            clip_coded=code is not None,
        )
        counts = {part: StreamCounts(rate.sizes) for part in parts}
        of_clips = {part: StreamCounts(code.sizes) for part in parts if code}
        return cls(rate, system, writer, counts, of_clips)

    def add(
        self,
        utterance: str,
        codes: np.ndarray,
        route: Route,
        clip_codes: np.ndarray | None,
        part: str | None,
    ) -> None:
        """Write a clip, and count it where its part is counted."""
        self.writer.write(utterance, codes, route, clip_codes)
        if part:
            self.counts[part].add(codes, list(route))
            if self.clip_counts:
                self.clip_counts[part].add(clip_codes, [CLIP])


def encode_conditions(
    bank: CodebookBank,
    features: FeatureStore,
    metadata: ClipMetadata,
    *,
    pairs: Sequence[tuple[Rate, System]],
    routing_banks: Mapping[str, CodebookBank],
    route_depth: int,
    beam: int,
    seed: int,
    quantizer_dir: Path,
    output_dir: Path,
    subwords: int = 0,
) -> None:
    """Write `<output_dir>/<rate>/<system>` for some systems and rates of one bank.

    Parameters
    ----------
    bank : CodebookBank
    features : FeatureStore
    metadata : ClipMetadata
    pairs : sequence of (Rate, System)
        The bank serves the rate.
    routing_banks : mapping of str to CodebookBank
        By training clip, the bank without its speaker, which routes it.
    route_depth : int
        Levels that routers look at.
    beam : int
        Code sequences kept for a frame.
    seed : int
        Of the controls random and wrong.
    quantizer_dir : Path
        Of the bank, named in the cards.
    output_dir : Path
    subwords : int, default=0
        Sequences of units that become subwords, see `units.subwords`; none for 0.

    Raises
    ------
    ValueError
        If the bank lacks a system's experts.
    """
    for _, system in pairs:
        system.experts(bank)  # an unknown expert set is reported before any work
    conditions = [Condition.make(*pair, bank, output_dir) for pair in pairs]
    with contextlib.ExitStack() as stack:
        for condition in conditions:
            stack.enter_context(condition.writer)
        lengths = ((u, features.lengths[u]) for u in features.utterances)
        what = f"encoding {quantizer_dir.name}"
        for batch in in_batches(progress(lengths, len(features), what)):
            clips = _Clips.read(batch, bank, routing_banks, features, metadata)
            for condition in conditions:
                route, weights = clips.route(condition, route_depth, seed)
                codes = clips.codes(condition, route, beam=beam)
                for row, utterance in enumerate(batch):
                    names = [bank.experts[e] for e in route[row].tolist()]
                    condition.add(
                        utterance,
                        codes[row, : features.lengths[utterance]].numpy(),
                        dict(zip(names, weights[row].tolist())),
                        clips.clip_codes(row),
                        metadata.part.get(utterance),
                    )
    for condition in conditions:
        card, rates = _cards(
            condition, bank, features.specification.frame_rate_hz, quantizer_dir
        )
        write_cards(condition.writer.directory, card, rates)
        (condition.writer.directory / SUBWORDS).unlink(missing_ok=True)
        if subwords:
            clips = {
                part: [u for u in features.utterances if metadata.part.get(u) == part]
                for part in ("train", "test")
            }
            rates["subwords"], card["n_subwords"] = add_subwords(
                condition.writer.directory,
                sizes=bank.sizes[: condition.writer.n_levels]
                * condition.system.n_streams,
                n_sequences=subwords,
                **clips,
            )
            write_cards(condition.writer.directory, card, rates)


@dataclass(frozen=True)
class _Clips:
    """A batch under the bank, and its parts under the banks that route them."""

    encoding: BatchEncoding
    routed_by: list[tuple[torch.Tensor, BatchEncoding]]  # rows of the batch
    utterances: list[str]
    metadata: ClipMetadata

    @classmethod
    def read(
        cls,
        batch: list[str],
        bank: CodebookBank,
        routing_banks: Mapping[str, CodebookBank],
        features: FeatureStore,
        metadata: ClipMetadata,
    ) -> "_Clips":
        frames = [torch.from_numpy(features[u]) for u in batch]
        x = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
        lengths = torch.tensor([len(f) for f in frames])
        speakers = [metadata.speaker[u] for u in batch]
        means = None
        if metadata.speaker_means:
            means = torch.stack([metadata.speaker_means[s] for s in speakers])

        def under(by: CodebookBank, rows: torch.Tensor) -> BatchEncoding:
            mean = None if means is None else means[rows]
            return batch_encoding(by, x[rows], lengths[rows], speaker_mean=mean)

        everyone = torch.arange(len(batch))
        encoding = under(bank, everyone)
        rows: dict[int, list[int]] = {}
        banks = [routing_banks.get(clip, bank) for clip in batch]
        for row, by in enumerate(banks):
            rows.setdefault(id(by), []).append(row)
        routed_by = [(everyone, encoding)]
        if len(rows) > 1 or banks[0] is not bank:
            routed_by = [
                (torch.tensor(r), under(banks[r[0]], torch.tensor(r)))
                for r in rows.values()
            ]
        return cls(encoding, routed_by, batch, metadata)

    def clip_codes(self, row: int) -> np.ndarray | None:
        """Return the (N, C) clip codes of a clip; None without a clip code."""
        if self.encoding.clip_codes is None:
            return None
        found = self.encoding.clip_codes[row]
        return found[found[:, 0] != PADDING].numpy()

    def codes(
        self, condition: Condition, route: torch.Tensor, *, beam: int
    ) -> torch.Tensor:
        """Return the (B, T, M * L) frame codes; (B, T, 0) where none are sent."""
        if not route.shape[1]:
            return torch.empty((*self.encoding.mask.shape, 0), dtype=torch.long)
        return self.encoding.codes(route, condition.writer.n_levels, beam=beam)

    def route(
        self, condition: Condition, route_depth: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return places in the bank's experts (B, M) and weights (B, M)."""
        shape = (len(self.utterances), condition.system.n_streams)
        route, weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        for rows, clips in self.routed_by if route.shape[1] else ():
            names = [self.utterances[row] for row in rows.tolist()]
            inputs = RoutingInputs(
                clips,
                depth=min(route_depth, condition.writer.n_levels),
                utterances=names,
                emotions=[self.metadata.emotion[name] for name in names],
                seed=seed,
                held_out=self._held_out(names),
            )
            route[rows], weights[rows] = condition.system.route(inputs)
        return route, weights

    def _held_out(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Stack the speaker-held-out posteriors by router, NaN where there are none."""
        found = {}
        for router, table in self.metadata.held_out.items():
            missing = np.full_like(next(iter(table.values())), np.nan)
            rows = np.stack([table.get(name, missing) for name in names])
            found[router] = torch.from_numpy(rows)
        return found


def _cards(
    condition: Condition, bank: CodebookBank, frame_rate: float, quantizer_dir: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `units.json` and `bitrate.json` hold."""
    counts, of_clips = condition.counts["test"], condition.clip_counts.get("test")
    n_windows = of_clips.frames / of_clips.clips if of_clips else 0.0
    found = bitrates(
        counts,
        condition.counts["train"],
        frame_rate_hz=frame_rate,
        n_streams=condition.system.n_streams,
        side_bits_per_clip=condition.system.side_bits(bank, n_windows),
        clip_test=of_clips,
        clip_train=condition.clip_counts.get("train"),
    )
    card = {
        "rate": str(condition.rate),
        "system": condition.system.name,
        "experts": condition.system.experts(bank),
        "n_levels": condition.writer.n_levels,
        "size": condition.rate.size,
        "quantizer": os.path.relpath(quantizer_dir, condition.writer.directory),
        "codebooks_sha256": bank.codebooks_sha256,
        "frame_rate_hz": frame_rate,
    }
    if bank.clip_code is not None:
        card["clip_sizes"] = bank.clip_code.sizes
        card["clip_window"] = bank.clip_code.window
    found["seconds"] = counts.frames / frame_rate
    return card, {**found, **usage(counts)}
