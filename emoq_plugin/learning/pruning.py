"""Lloyd passes without most of the search: bounds from a few principal dimensions.

Rotated to the principal axes of the codewords, frames and codewords have most of their
product in the leading coordinates, and the norms of what is left bound the rest (Cauchy
and Schwarz). With the distance to the codeword of the pass before, the bound shows for
most frames that no other codeword is nearer; what is left open is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emoq_plugin.core.bounds import (
    candidates,
    norms_of,
    pair_scores,
    rounding,
    score_error,
)
from emoq_plugin.core.nearest import (
    PAIR,
    SearchTable,
    compare,
    nearest_codewords,
    score_table,
)

# Frames that decide whether axes pay and how many.
JUDGED = 512
# Axes are tried in steps of so many.
STEP = 64
# Work by bounds, as a share of a float32 search, up to which they pay.
WORTH = 0.6
# Passes that the axes are expected to serve, and the share of the pairs of the first of
# them that a later one leaves.
SERVED = 4
LATER = 0.5
# Leading coordinates that are kept between passes, in bytes.
KEPT_BYTES = 2**26


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
        columns = torch.cat([head, rest.clamp_min(0).sqrt().float()[:, None]], dim=1)
        shift = vectors @ self.centre - 0.5 * self.centre.square().sum()
        return Heads(columns, norms, norms_of(vectors), shift)


@dataclass(frozen=True)
class Heads:
    """Vectors as the bounds need them.

    Attributes
    ----------
    columns : (N, d + 1) Tensor
        Leading coordinates, and a bound on the norm of the rest: products of columns
        bound those of centred vectors.
    norms : (N,) Tensor
        Of the centred vectors.
    whole : (N,) Tensor
        Norms of the vectors.
    shift : (N,) Tensor
        Score of the vector that is the centre.
    """

    columns: Tensor
    norms: Tensor
    whole: Tensor
    shift: Tensor

    def select(self, rows: Tensor) -> "Heads":
        """Take some of them."""
        parts = (self.columns, self.norms, self.whole, self.shift)
        return Heads(*(part.index_select(0, rows) for part in parts))


@dataclass(frozen=True)
class RotatedTable:
    """A codebook as the bounds need it.

    Attributes
    ----------
    table : SearchTable
    columns : (K, d + 1) Tensor
        What `Heads` has of it.
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
        half_norms, share = 0.5 * heads.norms.square(), 3 * rotation.error
        return cls(table, heads.columns, half_norms, heads.norms.amax(), share)

    def search(
        self, frames: Tensor, heads: Heads, before: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Search (N, D) frames whose codes in the pass before are known.

        Parameters
        ----------
        frames : (N, D) Tensor
        heads : Heads
            Of the frames.
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
        pairs = self.reached(heads, codes, scores, error)
        compare(frames, table, codes, scores, error, *pairs)
        return codes, scores

    def reached(
        self, heads: Heads, codes: Tensor, scores: Tensor, error: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Find the codewords that may be as near as known ones.

        Parameters
        ----------
        heads : Heads
            Of N frames.
        codes, scores, error : (N,) Tensors
            A codeword for each frame, its score, and what float32 can be wrong in it.

        Returns
        -------
        row, other : (P,) int64 Tensors
            Frame and codeword of each pair, in the order of frames.
        """
        bounds = score_table(heads.columns, self.columns, self.half_norms)
        width = heads.columns.shape[1]
        more = score_error(heads.norms, self.largest, width, share=self.share)
        least = scores - heads.shift - 2 * (error + more)
        return candidates(bounds, codes, least, ~least.isfinite())


@dataclass
class Pruning:
    """What the passes over a level share, also between experts.

    Attributes
    ----------
    settled : bool
        Whether it is decided if rotation pays.
    rotation : Rotation or None
        None where it does not.
    heads : dict of int to Heads
        Rotated frames of chunks by number, as far as there is room.
    tables : mapping of int to SearchTable
        Codebooks of this pass by expert.
    rotated : dict of int to RotatedTable
        The same, as far as they were needed.
    """

    settled: bool = False
    rotation: Rotation | None = None
    heads: dict[int, Heads] = field(default_factory=dict)
    tables: Mapping[int, SearchTable] = field(default_factory=dict)
    rotated: dict[int, RotatedTable] = field(default_factory=dict)

    def begin_pass(self, tables: Mapping[int, SearchTable], n_known: int) -> None:
        """Take the codebooks of a pass by expert.

        Parameters
        ----------
        tables : mapping of int to SearchTable
        n_known : int
            Frames whose codes in the pass before are known, for each expert once.
        """
        self.tables, self.rotated = tables, {}
        size, dimension = next(iter(tables.values())).codebook.shape
        # Eigenvectors cost about 30 D^3 multiplications, a pass spares half of N K D.
        if SERVED * n_known * size < 60 * dimension**2:
            self.settled = n_known > 0

    def search(
        self,
        residual: Tensor,
        before: Tensor | None,
        *,
        expert: int,
        chunk: int,
        frames: Tensor,
        rows: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Search what an expert has of a chunk, as `nearest_codewords` does.

        Parameters
        ----------
        residual : (N, D) Tensor
        before : (N,) int64 Tensor or None
            Codes in the pass before.
        expert, chunk : int
        frames : (T, D) Tensor
            The chunk.
        rows : (N,) int64 Tensor
            Frames of the expert.
        """
        table = self.tables[expert]
        if before is None or not table.bounded:
            return nearest_codewords(residual, table)
        if not self.settled:
            self.settle(residual, table, before)
        heads = self._heads(chunk, frames)
        if heads is None:
            return nearest_codewords(residual, table)
        if len(rows) < len(frames):
            heads = heads.select(rows)
        if expert not in self.rotated:
            self.rotated[expert] = RotatedTable.of(table, self.rotation)
        return self.rotated[expert].search(residual, heads, before)

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
            heads = rotation.apply(frames)
            rotated = RotatedTable.of(table, rotation)
            n_pairs = len(rotated.reached(heads, codes, scores, error)[0])
            left = LATER * n_pairs / len(frames)
            cost = n_axes / dimension + left * PAIR / size
            if cost < least:
                least, self.rotation = cost, rotation
            elif self.rotation is not None:
                break  # more axes cost more than they spare

    def _heads(self, chunk: int, frames: Tensor) -> Heads | None:
        """Rotate a chunk once; None where that does not pay or there is no room."""
        if self.rotation is None:
            return None
        if chunk not in self.heads:
            held = sum(heads.columns.nbytes for heads in self.heads.values())
            if held + 4 * len(frames) * (len(self.rotation.axes) + 1) > KEPT_BYTES:
                return None
            self.heads[chunk] = self.rotation.apply(frames)
        return self.heads[chunk]
