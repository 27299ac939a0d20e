"""Lloyd passes without most of the search: bounds from a few principal dimensions.

Rotated to the principal axes of the codewords, frames and codewords have most of their
product in the leading coordinates, and the norms of what is left bound the rest (Cauchy
and Schwarz), as well as what rounding to bfloat16 changes. With the distance to the
codeword of the pass before, the bound shows for most frames that no other codeword is
nearer; what is left open is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from emoq_plugin.core.bounds import (
    candidates,
    low_codewords,
    low_columns,
    norms_of,
    pair_scores,
    rounding,
    score_error,
    sort_keys,
)
from emoq_plugin.core.nearest import (
    PAIR,
    SearchTable,
    compare,
    nearest_codewords,
    score_table,
)

# Elements of a codebook from which axes may pay.
PRUNED_ELEMENTS = 1 << 17
# Frames that decide whether axes pay and how many.
JUDGED = 512
# Axes are tried in steps of so many.
STEP = 64
# Work by bounds, as a share of a search in bfloat16, up to which they pay.
WORTH = 0.6
# A search in bfloat16 takes so much of one in float32.
LOW = 0.5
# Passes that the axes are expected to serve, and the share of the pairs of the first of
# them that a later one leaves.
SERVED = 4
LATER = 0.5
# Leading coordinates that are kept between passes, in bytes.
KEPT_BYTES = 2**26
# Frames that are rotated at a time: what is needed for them stays small.
ROTATED_ROWS = 2048


@dataclass(frozen=True)
class Rotation:
    """Leading principal axes, not quite orthonormal in float32.

    Attributes
    ----------
    centre : (D,) Tensor
    axes : (d, D) Tensor
    error : float
        What is wrong with rotated coordinates, as a share of the norm: the rounding of
        the product, and what the axes lack of orthonormal ones.
    """

    centre: Tensor
    axes: Tensor
    error: float = 0.0

    @classmethod
    def of(cls, vectors: Tensor) -> "Rotation":
        """Take all principal axes of (N, D) vectors, the largest first."""
        centre = vectors.mean(dim=0)
        centred = vectors - centre
        _, axes = torch.linalg.eigh(centred.T @ centred)
        return cls(centre, axes.T.flip(0))

    def leading(self, n_axes: int) -> "Rotation":
        """Keep the first axes."""
        exact = self.axes[:n_axes].double()
        gram = exact @ exact.T
        defect = torch.linalg.norm(gram - torch.eye(n_axes, dtype=gram.dtype))
        error = rounding(self.axes.shape[1]) * (1 + n_axes**0.5) + float(defect)
        return Rotation(self.centre, self.axes[:n_axes].contiguous(), error)

    def apply(self, vectors: Tensor) -> "Heads":
        """Rotate (N, D) vectors."""
        centred = vectors - self.centre
        norms = norms_of(centred)
        head = score_table(centred, self.axes, self.axes.new_zeros(len(self.axes)))
        inner = torch.linalg.vector_norm(head, dim=1, dtype=torch.float64)
        rest = norms.double().square() * (1 + 3 * self.error) - inner.square()
        rest = rest.clamp_min(0).sqrt().float()
        shift = vectors @ self.centre - 0.5 * self.centre.square().sum()
        return Heads(head, rest, norms, norms_of(vectors), shift)


@dataclass(frozen=True)
class Heads:
    """Rotated vectors.

    Attributes
    ----------
    head : (N, d) Tensor
        Leading coordinates.
    rest : (N,) Tensor
        Bound on the norm of the others.
    norms : (N,) Tensor
        Of the centred vectors.
    whole : (N,) Tensor
        Norms of the vectors.
    shift : (N,) Tensor
        Score of the vector that is the centre.
    """

    head: Tensor
    rest: Tensor
    norms: Tensor
    whole: Tensor
    shift: Tensor


@dataclass(frozen=True)
class RotatedFrames:
    """Frames as the bounds need them: products with a table bound scores.

    Attributes
    ----------
    columns : (N, d + 2) bfloat16 Tensor
    norms, whole, shift : (N,) Tensors
        See `Heads`.
    """

    columns: Tensor
    norms: Tensor
    whole: Tensor
    shift: Tensor

    @classmethod
    def of(cls, frames: Tensor, rotation: Rotation) -> "RotatedFrames":
        """Rotate (N, D) frames."""
        found = rotation.apply(frames)
        columns = low_columns(found.head, found.norms, found.rest)
        return cls(columns, found.norms, found.whole, found.shift)

    @classmethod
    def room(cls, n_rows: int, rotation: Rotation) -> "RotatedFrames":
        """Make room for so many, in one piece: memory is touched when it is used."""
        columns = torch.empty((n_rows, len(rotation.axes) + 2), dtype=torch.bfloat16)
        return cls(columns, *torch.empty((3, n_rows)))

    def put(self, start: int, frames: Tensor, rotation: Rotation) -> "RotatedFrames":
        """Rotate frames into a part of the room, in short blocks; give it."""
        place = slice(start, start + len(frames))
        part = RotatedFrames(*(column[place] for column in vars(self).values()))
        blocks = [column.split(ROTATED_ROWS) for column in vars(part).values()]
        for block, *columns in zip(frames.split(ROTATED_ROWS), *blocks, strict=True):
            found = vars(self.of(block, rotation)).values()
            for column, values in zip(columns, found, strict=True):
                column.copy_(values)
        return part


@dataclass(frozen=True)
class RotatedTable:
    """A codebook as the bounds need it.

    Attributes
    ----------
    table : SearchTable
    columns : (K, d + 2) bfloat16 Tensor
        Products with those of frames bound those of centred vectors.
    half_norms : (K,) Tensor
        Of the centred codewords.
    largest : () Tensor
        Their largest norm.
    share : float
        What is wrong with a product, as a share of both norms.
    """

    table: SearchTable
    columns: Tensor
    half_norms: Tensor
    largest: Tensor
    share: float

    @classmethod
    def of(cls, table: SearchTable, rotation: Rotation) -> "RotatedTable":
        """Rotate a codebook."""
        heads = rotation.apply(table.codebook)
        columns = low_codewords(heads.head, heads.rest)
        half_norms, share = 0.5 * heads.norms.square(), 3 * rotation.error
        return cls(table, columns, half_norms, heads.norms.amax(), share)

    def search(
        self, frames: Tensor, heads: RotatedFrames, before: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Search (N, D) frames whose codes in the pass before are known.

        Parameters
        ----------
        frames : (N, D) Tensor
        heads : RotatedFrames
            The same frames.
        before : (N,) int64 Tensor
            Codes, the better the faster.

        Returns
        -------
        codes, scores : (N,) Tensors
            Exactly those of `nearest_codewords`.
        """
        table, codes = self.table, before.clone()
        scores = pair_scores(frames, table.codebook, table.half_norms, codes)
        error = score_error(heads.whole, table.largest, frames.shape[1])
        pairs, unknown = self.reached(heads, codes, scores, error)
        crowded = partial(nearest_codewords, codebook=table)
        compare(frames, table, codes, scores, error, pairs, unknown, crowded)
        return codes, scores

    def reached(
        self, heads: RotatedFrames, codes: Tensor, scores: Tensor, error: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Find the codewords that may be as near as known ones.

        Parameters
        ----------
        heads : RotatedFrames
            N frames.
        codes, scores, error : (N,) Tensors
            A codeword for each frame, its score, and what float32 can be wrong in it.

        Returns
        -------
        pairs : tuple of (P,) int64 Tensors
            Frame and codeword of each, in the order of frames.
        unknown : (N,) bool Tensor
            Frames of which all codewords are given, as their bounds are not finite.
        """
        bounds = sort_keys(score_table(heads.columns, self.columns, self.half_norms))
        width = heads.columns.shape[1]
        more = score_error(heads.norms, self.largest, width, share=self.share)
        least = scores - heads.shift - 2 * (error + more)
        # What rounds to less than the least is less.
        keys = sort_keys(least.bfloat16())
        unknown = ~least.isfinite()
        return candidates(bounds, codes, keys, unknown), unknown


@dataclass
class Pruning:
    """What the passes over a level share, also between experts.

    Attributes
    ----------
    settled : bool
        Whether it is decided if rotation pays.
    rotation : Rotation or None
        None where it does not.
    room : RotatedFrames or None
        Holds the rotated frames; the first `used` rows of it do.
    heads : dict of (chunk, expert) to RotatedFrames
        Parts of the room.
    tables : mapping of int to SearchTable
        Codebooks of this pass by expert.
    bounded : dict of int to SearchTable
        The same with bounds, where axes may pay.
    rotated : dict of int to RotatedTable
        The same, as far as they were needed.
    """

    settled: bool = False
    rotation: Rotation | None = None
    room: RotatedFrames | None = None
    used: int = 0
    heads: dict[tuple[int, int], RotatedFrames] = field(default_factory=dict)
    tables: Mapping[int, SearchTable] = field(default_factory=dict)
    bounded: dict[int, SearchTable] = field(default_factory=dict)
    rotated: dict[int, RotatedTable] = field(default_factory=dict)

    def begin_pass(self, tables: Mapping[int, SearchTable], n_known: int) -> None:
        """Take the codebooks of a pass by expert.

        Parameters
        ----------
        tables : mapping of int to SearchTable
        n_known : int
            Frames whose codes in the pass before are known, for each expert once.
        """
        self.tables, self.bounded, self.rotated = tables, {}, {}
        size, dimension = next(iter(tables.values())).codebook.shape
        # Eigenvectors cost about 30 D^3 multiplications, a pass spares half of N K D.
        if SERVED * n_known * size < 60 * dimension**2:
            self.settled = n_known > 0
        if n_known and not (self.settled and self.rotation is None):
            for expert, table in tables.items():
                if not table.bounded:
                    table = SearchTable.of(table.codebook, PRUNED_ELEMENTS)
                if table.bounded:
                    self.bounded[expert] = table

    def search(
        self, frames: Tensor, before: Tensor | None, *, expert: int, chunk: int
    ) -> tuple[Tensor, Tensor]:
        """Search what an expert has of a chunk, as `nearest_codewords` does.

        Parameters
        ----------
        frames : (N, D) Tensor
            The same in every pass.
        before : (N,) int64 Tensor or None
            Codes in the pass before.
        expert, chunk : int
        """
        if before is None or expert not in self.bounded:
            return nearest_codewords(frames, self.tables[expert])
        if not self.settled:
            self.settle(frames, self.bounded[expert], before)
        heads = self._heads(chunk, expert, frames)
        if heads is None:
            return nearest_codewords(frames, self.tables[expert])
        if expert not in self.rotated:
            table = self.bounded[expert]
            self.rotated[expert] = RotatedTable.of(table, self.rotation)
        return self.rotated[expert].search(frames, heads, before)

    def settle(self, frames: Tensor, table: SearchTable, before: Tensor) -> None:
        """Choose the number of axes by what they would save on some frames."""
        self.settled = True
        step = -(-len(frames) // JUDGED)
        frames, codes = frames[::step], before[::step]
        scores = pair_scores(frames, table.codebook, table.half_norms, codes)
        error = score_error(norms_of(frames), table.largest, frames.shape[1])
        largest = Rotation.of(torch.cat([t.codebook for t in self.tables.values()]))
        size, dimension = table.codebook.shape
        least = WORTH
        for n_axes in range(STEP, int(WORTH * dimension), STEP):
            rotation = largest.leading(n_axes)
            heads = RotatedFrames.of(frames, rotation)
            rotated = RotatedTable.of(table, rotation)
            (row, _), _ = rotated.reached(heads, codes, scores, error)
            left = LATER * len(row) / len(frames)
            cost = n_axes / dimension + left * PAIR / size / LOW
            if cost < least:
                least, self.rotation = cost, rotation
            elif self.rotation is not None:
                break  # more axes cost more than they spare

    def _heads(self, chunk: int, expert: int, frames: Tensor) -> RotatedFrames | None:
        """Rotate frames once; None where that does not pay or there is no room."""
        if self.rotation is None:
            return None
        if self.room is None:
            row = 2 * (len(self.rotation.axes) + 2) + 12  # bytes
            self.room = RotatedFrames.room(KEPT_BYTES // row, self.rotation)
        if (chunk, expert) not in self.heads:
            if self.used + len(frames) > len(self.room.norms):
                return None
            part = self.room.put(self.used, frames, self.rotation)
            self.heads[chunk, expert] = part
            self.used += len(frames)
        return self.heads[chunk, expert]
