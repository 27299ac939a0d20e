"""What all passes over a level need again: its frames, their norms, their codes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from emoq_plugin.core.bounds import norms_of
from emoq_plugin.core.nearest import SearchTable, nearest_codewords
from emoq_plugin.learning.pruning import Pruning
from emoq_plugin.learning.sources import Chunk

# Residuals that are kept between passes, in bytes.
KEPT_BYTES = 2**27


@dataclass(frozen=True)
class Portion:
    """What an expert has of a chunk at a level.

    Attributes
    ----------
    rows : (N,) int64 Tensor or None
        Frames of the chunk with weight; None for all of them.
    weights : (N,) float32 Tensor or None
        None where all are one.
    frames : (N, D) Tensor or None
        Residual of the levels before; None where there was no room to keep it.
    norms : (N,) Tensor
        Norms of the frames.
    """

    rows: Tensor | None
    weights: Tensor | None
    frames: Tensor | None
    norms: Tensor

    def total(self, of_frames: Tensor | None) -> Tensor:
        """Sum what is known of each frame by weight, (), float64; None is one each."""
        if of_frames is None:
            if self.weights is None:
                return self.norms.new_tensor(len(self.norms), dtype=torch.float64)
            return self.weights.sum(dtype=torch.float64)
        if self.weights is not None:
            of_frames = self.weights * of_frames
        return of_frames.sum(dtype=torch.float64)


@dataclass
class LevelCache:
    """Spares the passes over a level what the first one has found.

    Where an entry is missing (after a resume, or for lack of room) it is computed
    again, with the same result.

    Attributes
    ----------
    codes : dict of (chunk, expert, level) to Tensor
        Of all levels so far: 2 bytes a code.
    kept : dict of (chunk, expert) to Portion
        Of this level.
    lower : list of dict of int to SearchTable
        Codebooks of the levels before, by expert.
    pruning : Pruning
        What spares the first level most of its search from the second pass on.
    sums : dict of int to (2, K, D) Tensor
        Exact sums of the pass before, by expert.
    moved : dict of int to float
        Share of the frames that moved in the pass before, by expert.
    """

    codes: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)
    kept: dict[tuple[int, int], Portion] = field(default_factory=dict)
    lower: list[dict[int, SearchTable]] = field(default_factory=list)
    pruning: Pruning = field(default_factory=Pruning)
    sums: dict[int, Tensor] = field(default_factory=dict)
    moved: dict[int, float] = field(default_factory=dict)
    device: torch.device = torch.device("cpu")
    _room: int = KEPT_BYTES

    @property
    def level(self) -> int:
        """The level that is learned."""
        return len(self.lower)

    def get(self, chunk: int, expert: int, level: int) -> Tensor | None:
        """Return the (N,) int64 codes, or None."""
        found = self.codes.get((chunk, expert, level))
        return None if found is None else found.long()

    def put(self, chunk: int, expert: int, level: int, codes: Tensor) -> None:
        """Keep (N,) codes; those of an earlier pass are replaced."""
        small = torch.int16 if codes.numel() and codes.max() < 2**15 else torch.int32
        self.codes[chunk, expert, level] = codes.to(small)

    def begin_pass(
        self, previous: Sequence[Tensor], tables: dict[int, SearchTable]
    ) -> None:
        """Take the codebooks of a pass.

        Parameters
        ----------
        previous : sequence of l (E, K, D) Tensors
        tables : dict of int to SearchTable
            Of the level that is learned, by active expert.
        """
        self.device = next(iter(tables.values())).codebook.device
        if len(previous) != self.level:
            self.lower = [
                {e: SearchTable.of(codebooks[e]) for e in tables}
                for codebooks in previous
            ]
            self.pruning.settled = True  # residuals have no leading axes
        known = sum(len(c) for key, c in self.codes.items() if key[2] == self.level)
        self.pruning.begin_pass(tables, known)

    def end_level(self) -> None:
        """Drop what the last update of the codebooks has made out of date."""
        self.codes = {k: c for k, c in self.codes.items() if k[2] != self.level}
        self.kept, self._room, self.pruning = {}, KEPT_BYTES, Pruning()
        self.sums, self.moved = {}, {}

    def portions(
        self, number: int, chunk: Chunk, experts: Sequence[int]
    ) -> Iterator[tuple[int, Portion]]:
        """Yield what some experts have of a chunk, those that have anything."""
        frames, device = chunk.frames.to(self.device), self.device
        for e in experts:
            portion = self.kept.get((number, e))
            if portion is None:
                weights = chunk.weights[:, e].to(device)
                rows = weights.nonzero().squeeze(1)
                if not len(rows):
                    continue
                portion = self._begin(number, e, frames, rows, weights)
            elif portion.frames is None:
                residual = self._residual(number, e, frames, portion.rows)
                portion = replace(portion, frames=residual)
            yield e, portion

    def _begin(
        self, number: int, expert: int, frames: Tensor, rows: Tensor, weights: Tensor
    ) -> Portion:
        whole = len(rows) == len(frames)
        weights = weights if whole else weights.index_select(0, rows)
        residual = self._residual(number, expert, frames, None if whole else rows)
        portion = Portion(
            None if whole else rows,
            None if bool((weights == 1).all()) else weights,
            residual,
            norms_of(residual),
        )
        self._keep(number, expert, portion, made=residual is not frames)
        return portion

    def _keep(self, number: int, expert: int, portion: Portion, *, made: bool) -> None:
        """Keep a portion as far as there is room.

        What is the chunk itself, not `made` from it, costs nothing to find again.
        """
        beside = 16 * len(portion.norms)  # rows, weights, norms
        whole = beside + portion.frames.nbytes
        if made and whole <= self._room:
            self._room -= whole
            self.kept[number, expert] = portion
        elif beside <= self._room:
            self._room -= beside
            self.kept[number, expert] = replace(portion, frames=None)

    def _residual(
        self, number: int, expert: int, frames: Tensor, rows: Tensor | None
    ) -> Tensor:
        """Return what the levels before leave of an expert's frames."""
        residual = frames if rows is None else frames.index_select(0, rows)
        for level, tables in enumerate(self.lower):
            codes = self.get(number, expert, level)
            if codes is None:
                codes, _ = nearest_codewords(residual, tables[expert])
                self.put(number, expert, level, codes)
            residual = residual - tables[expert].codebook.index_select(0, codes)
        return residual
