"""Units of a fold's clips and what they are decoded to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.batches import in_batches
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch_encoding import decode_route
from emoq_plugin.routing.base import Route
from emoq_plugin.units.store import UnitStore

DECODED_FRAMES = 1 << 16  # decoded at a time: bounds the memory


@dataclass
class Units:
    """Units of all clips of a fold, grouped by route: what conditions are decoded from.

    Attributes
    ----------
    bank : CodebookBank
    n_levels : int
    codes : dict of str to (T, M * L) int64 Tensor
    routes : dict of str to Route
    clip_codes : dict of str to (N, C) int64 Tensor
        Empty without a clip code.
    """

    bank: CodebookBank
    n_levels: int
    codes: dict[str, Tensor]
    routes: dict[str, Route]
    clip_codes: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def read(
        cls, store: UnitStore, bank: CodebookBank, clips: Iterable[str]
    ) -> "Units":
        """Read the units of clips.

        Raises
        ------
        ValueError
            If they were made with other codebooks than the bank holds.
        """
        check_codebooks(store, bank)
        codes = {u: torch.from_numpy(store[u].astype(np.int64)) for u in clips}
        routes = {u: store.routes[u] for u in codes}
        beside = store.clip_codes
        clip_codes = {u: torch.from_numpy(beside[u]) for u in codes if beside}
        return cls(bank, store.card["n_levels"], codes, routes, clip_codes)

    @cached_property
    def _frames(self) -> CodebookBank:
        """The bank that decodes frame codes alone."""
        clip_coded = self.bank.clip_code is not None
        return self.bank.of_what_is_left() if clip_coded else self.bank

    def _decode(self, codes: Tensor, route: Route, n_levels: int) -> Tensor:
        """Decode frame codes of a route; zero where none are sent."""
        if not route:
            return torch.zeros(len(codes), self.bank.dimension)
        return decode_route(self._frames, self.first_levels(codes, n_levels), route)

    def _with_clip_code(self, clip: str, frames: Tensor) -> Tensor:
        """Add what the clip code knows to the decoded frame codes of a clip."""
        code = self.bank.clip_code
        if code is None:
            return frames
        known = code.offset(self.clip_codes[clip][None], n_frames=len(frames))[0]
        return self.bank.normalization.seen(frames + known)

    def by_route(self, clips: Iterable[str]) -> list[tuple[Route, list[str]]]:
        """Group clips of one route: they are decoded together."""
        groups: dict[tuple, tuple[Route, list[str]]] = {}
        for clip in clips:
            route = self.routes[clip]
            groups.setdefault(tuple(route.items()), (route, []))[1].append(clip)
        return list(groups.values())

    def first_levels(self, codes: Tensor, n_levels: int) -> Tensor:
        """Keep the first levels of each expert's block of (T, M L) codes."""
        blocks = codes.unflatten(1, (-1, self.n_levels))
        return blocks[:, :, :n_levels].flatten(1)

    def decode(
        self, clips: Sequence[str], n_levels: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield clips with their (T, D) reconstructions, in any order."""
        for route, members in self.by_route(clips):
            sized = ((clip, len(self.codes[clip])) for clip in members)
            for batch in in_batches(sized, DECODED_FRAMES):
                codes = torch.cat([self.codes[clip] for clip in batch])
                sizes = [len(self.codes[clip]) for clip in batch]
                parts = self._decode(codes, route, n_levels).split(sizes)
                for clip, frames in zip(batch, parts):
                    yield clip, self._with_clip_code(clip, frames)

    def distinct_rows(
        self, frames: Sequence[tuple[str, np.ndarray]]
    ) -> tuple[Tensor, np.ndarray]:
        """Decode chosen frames, each combination of codes and route once.

        With a clip code no two clips have a frame in common.

        Parameters
        ----------
        frames : sequence of (clip, (F,) int array)

        Returns
        -------
        rows : (R, D) Tensor
        index : (sum of F,) int64 array
            Row of each frame, in the order given.
        """
        picked: dict[str, list[tuple[int, np.ndarray]]] = {}
        start = 0
        for clip, chosen in frames:
            picked.setdefault(clip, []).append((start, chosen))
            start += len(chosen)
        if self.bank.clip_code is not None:
            decoded = dict(self.decode([*picked], self.n_levels))
            rows = [decoded[clip][torch.from_numpy(at)] for clip, at in frames]
            return torch.cat(rows), np.arange(start)
        index = np.empty(start, dtype=np.int64)
        tables, n_rows = [], 0
        for route, members in self.by_route(picked):
            parts = [(c, s, f) for c in members for s, f in picked[c]]
            codes = torch.cat([self.codes[c][torch.from_numpy(f)] for c, _, f in parts])
            places = np.concatenate([np.arange(s, s + len(f)) for _, s, f in parts])
            codes, row = unique_codes(codes, max(self.bank.sizes))
            index[places] = row + n_rows
            tables.append(decode_route(self.bank, codes, route))
            n_rows += len(codes)
        return torch.cat(tables), index

    def streams(
        self, clips: Sequence[str], chosen: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Return (frames, L) unit ids, another one for each expert and code.

        With a soft route the expert of larger weight counts.
        """
        size = max(self.bank.sizes)
        ids = []
        for clip in clips:
            route = self.routes[clip]
            block = max(range(len(route)), key=[*route.values()].__getitem__)
            codes = self.codes[clip].unflatten(1, (-1, self.n_levels))[:, block]
            expert = self.bank.experts.index([*route][block])
            ids.append(codes.numpy() + expert * size)
            if chosen is not None:
                ids[-1] = ids[-1][chosen[clip]]
        return np.concatenate(ids)


def check_codebooks(store: UnitStore, bank: CodebookBank) -> None:
    """Refuse units that were made with other codebooks than the bank holds.

    Raises
    ------
    ValueError
    """
    if store.card["codebooks_sha256"] != bank.codebooks_sha256:
        raise ValueError(
            f"{store.directory} was encoded with other codebooks: run stage 5 again"
        )


def unique_codes(codes: Tensor, size: int) -> tuple[Tensor, np.ndarray]:
    """Return distinct rows of (N, L) codes and row of each; all if they are many."""
    if codes.shape[1] * np.log2(size) > 62:
        return codes, np.arange(len(codes))
    keys = np.zeros(len(codes), dtype=np.int64)
    for column in codes.numpy().T:
        keys = keys * size + column
    _, first, row = np.unique(keys, return_index=True, return_inverse=True)
    return codes[torch.from_numpy(first)], row
