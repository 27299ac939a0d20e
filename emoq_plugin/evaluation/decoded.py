"""Units of a fold's clips and what they are decoded to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
    """

    bank: CodebookBank
    n_levels: int
    codes: dict[str, Tensor]
    routes: dict[str, Route]

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
        if store.card["codebooks_sha256"] != bank.codebooks_sha256:
            raise ValueError(
                f"{store.directory} was encoded with other codebooks: "
                "run stage 5 again"
            )
        codes = {u: torch.from_numpy(store[u].astype(np.int64)) for u in clips}
        routes = {u: store.routes[u] for u in codes}
        return cls(bank, store.card["n_levels"], codes, routes)

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
                codes = self.first_levels(codes, n_levels)
                decoded = decode_route(self.bank, codes, route)
                yield from zip(
                    batch, decoded.split([len(self.codes[c]) for c in batch])
                )

    def distinct_rows(
        self, frames: Sequence[tuple[str, np.ndarray]]
    ) -> tuple[Tensor, np.ndarray]:
        """Decode chosen frames, each combination of codes and route once.

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


def unique_codes(codes: Tensor, size: int) -> tuple[Tensor, np.ndarray]:
    """Return distinct rows of (N, L) codes and row of each; all if they are many."""
    if codes.shape[1] * np.log2(size) > 62:
        return codes, np.arange(len(codes))
    keys = np.zeros(len(codes), dtype=np.int64)
    for column in codes.numpy().T:
        keys = keys * size + column
    _, first, row = np.unique(keys, return_index=True, return_inverse=True)
    return codes[torch.from_numpy(first)], row
