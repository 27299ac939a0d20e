"""BatchEncoding: a padded batch under all experts of a bank, and what routers ask."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch import (
    PADDING,
    check_batch,
    check_codes,
    is_static,
    mask_of,
    scatter,
)
from emoq_plugin.core.encoding import decode_frames, encode_frames
from emoq_plugin.core.nearest import half_squared_norms, nearest_codewords


class BatchEncoding(ABC):
    """Clips of a batch, encoded by any experts.

    No method loops over clips. `batch_encoding` makes the kind that fits the device.

    Parameters
    ----------
    bank : CodebookBank
    x : (B, T, D) float32 Tensor
        Features, padded behind each clip.
    lengths : (B,) Tensor, optional
    speaker_mean : (B, D) Tensor, optional
        Where the bank's normalisation needs it.

    Attributes
    ----------
    normalised : (B, T, D) Tensor
        Normalised features, zero where padded.
    clip_codes : (B, N, C) int64 Tensor or None
        Where the bank has a clip code, see `ClipCode.encode_clips`.
    left : (B, T, D) Tensor
        What frame codes encode: normalised features, without what the clip code knows.
    mask : (B, T) bool Tensor
    lengths : (B,) Tensor

    Raises
    ------
    ValueError
        See `core.batch.check_batch`.
    """

    def __init__(
        self,
        bank: CodebookBank,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        speaker_mean: Tensor | None = None,
    ):
        self.bank = bank
        self.lengths = check_batch(x, lengths, bank.dimension)
        self.mask = mask_of(self.lengths, x.shape[1])
        self.normalised = bank.normalization(x, speaker_mean, mask=self.mask)
        self.clip_codes: Tensor | None = None
        self.left, self._known = self.normalised, None
        if bank.clip_code is not None:
            whole = bank.normalization(x, speaker_mean, mask=self.mask, sent=True)
            code = bank.clip_code
            self.clip_codes = code.encode_clips(whole, self.lengths)
            known = code.offset(self.clip_codes, self.lengths, n_frames=x.shape[1])
            self.left, self._known = whole - known, known

    def _time_mean(self, frames: Tensor) -> Tensor:
        return frames.sum(dim=1, dtype=torch.float64) / self.lengths[:, None]

    @abstractmethod
    def scores(self, expert: int, depth: int) -> Tensor:
        """Sum the scores of the first levels over time, (B,) float64.

        See `core.nearest.nearest_codewords` for what a score is.
        """

    @abstractmethod
    def decoded_mean(self, expert: int, depth: int) -> Tensor:
        """Average what the first levels decode to over time, (B, D)."""

    @abstractmethod
    def codes(self, route: Tensor, n_levels: int, *, beam: int = 1) -> Tensor:
        """Encode each clip by the experts of its route.

        Parameters
        ----------
        route : (B, M) int64 Tensor
            Places in ``bank.experts``.
        n_levels : int
        beam : int, default=1
            See `core.encoding.encode_frames`.

        Returns
        -------
        codes : (B, T, M * n_levels) int64 Tensor
            `PADDING` where padded.

        Raises
        ------
        ValueError
            If the bank has fewer levels.
        """

    def distortion(self, experts: Sequence[int], depth: int) -> Tensor:
        """Mean squared error per frame and dimension, (B, E) float64.

        Of what is left; ``||x||^2 - 2 sum_l score_l`` is known from the search,
        without a reconstruction.
        """
        self._check_levels(depth)
        energy = self.left.square().sum(dim=(1, 2), dtype=torch.float64)
        scores = torch.stack([self.scores(e, depth) for e in experts], dim=1)
        error = (energy[:, None] - 2 * scores).clamp_min(0)
        return error / (self.lengths[:, None] * self.bank.dimension)

    def cosine(self, experts: Sequence[int], depth: int) -> Tensor:
        """Cosine of the time means of features and reconstruction, (B, E).

        The router score of arXiv 2603.21224, in normalised features.
        """
        self._check_levels(depth)
        mean = self._time_mean(self.left)
        decoded = torch.stack([self.decoded_mean(e, depth) for e in experts], dim=1)
        if self._known is not None:
            known = self._time_mean(self._known)
            mean, decoded = mean + known, decoded + known[:, None].float()
        return torch.cosine_similarity(mean[:, None].float(), decoded, dim=2)

    def pooled(self) -> Tensor:
        """Mean and deviation over time of the normalised features, (B, 2 D)."""
        return masked_pool(self.normalised, self.mask)

    def _check_levels(self, n_levels: int) -> None:
        if not 1 <= n_levels <= self.bank.n_levels:
            raise ValueError(
                f"{n_levels} levels asked for, expected 1 to {self.bank.n_levels}"
            )


class _CachedEncoding(BatchEncoding):
    """On a CPU: padding is dropped, and each level is searched once for a clip."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._frames = self.left[self.mask]  # (N, D)
        clips = torch.arange(len(self.lengths))
        self._clip = clips.repeat_interleave(self.lengths)  # (N,)
        self._levels: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def scores(self, expert: int, depth: int) -> Tensor:
        _, scores = self._extended(expert, None, depth)
        return scores[:, :depth].sum(dim=1)

    def decoded_mean(self, expert: int, depth: int) -> Tensor:
        codes, _ = self._extended(expert, None, depth)
        decoded = decode_frames(codes[:, :depth], self._tables(expert, depth))
        sums = decoded.new_zeros((len(self.lengths), decoded.shape[1])).double()
        sums.index_add_(0, self._clip, decoded.double())
        return (sums / self.lengths[:, None]).float()

    def codes(self, route: Tensor, n_levels: int, *, beam: int = 1) -> Tensor:
        self._check_levels(n_levels)
        parts = []
        for column in route.T:  # one for each expert of a mixture
            rows = torch.full((len(self._frames), n_levels), PADDING)
            for expert in column.unique().tolist():
                clips = column == expert
                here = clips[self._clip]
                if beam > 1:
                    tables = self._tables(expert, n_levels)
                    rows[here] = encode_frames(self._frames[here], tables, beam=beam)
                else:
                    codes, _ = self._extended(expert, clips, n_levels)
                    rows[here] = codes[here, :n_levels]
            parts.append(rows)
        return scatter(torch.cat(parts, dim=1), self.mask, PADDING)

    def _tables(self, expert: int, n_levels: int) -> list[Tensor]:
        return [codebook[expert] for codebook in self.bank.codebooks[:n_levels]]

    def _extended(
        self, expert: int, clips: Tensor | None, n_levels: int
    ) -> tuple[Tensor, Tensor]:
        """Search what is missing; give codes (N, L) and summed scores (B, L).

        Parameters
        ----------
        expert : int
        clips : (B,) bool Tensor, optional
            Those that are needed, all when None.
        n_levels : int
        """
        if expert not in self._levels:
            size = self.bank.n_levels
            self._levels[expert] = (
                torch.full((len(self._frames), size), PADDING),
                torch.zeros((len(self.lengths), size), dtype=torch.float64),
                torch.zeros(len(self.lengths), dtype=torch.long),
            )
        codes, scores, done = self._levels[expert]
        tables = self._tables(expert, n_levels)
        needed = done < n_levels if clips is None else clips & (done < n_levels)
        for start in done[needed].unique().tolist():
            waiting = needed & (done == start)
            rows = waiting[self._clip].nonzero().squeeze(1)
            residual = self._frames[rows]
            if start:
                residual -= decode_frames(codes[rows, :start], tables)
            for level in range(start, n_levels):
                table = self.bank.search_table(expert, level)
                found, best = nearest_codewords(residual, table)
                codes[rows, level] = found
                scores[:, level].index_add_(0, self._clip[rows], best.double())
                if level + 1 < n_levels:
                    residual = residual - tables[level].index_select(0, found)
            done[waiting] = n_levels
        return codes, scores


class _StaticEncoding(BatchEncoding):
    """On a GPU and in exported graphs: no shape depends on a value."""

    def scores(self, expert: int, depth: int) -> Tensor:
        scores, _ = self._search(expert, depth)
        return scores

    def decoded_mean(self, expert: int, depth: int) -> Tensor:
        _, residual = self._search(expert, depth)
        decoded = torch.where(self.mask[..., None], self.left - residual, 0)
        sums = decoded.sum(dim=1, dtype=torch.float64)
        return (sums / self.lengths[:, None]).float()

    def _search(self, expert: int, depth: int) -> tuple[Tensor, Tensor]:
        """Return summed scores (B,) and what the levels leave over, (B, T, D)."""
        residual, total = self.left, 0.0
        for codebook in self.bank.codebooks[:depth]:
            table = codebook[expert]
            best = (residual @ table.T - half_squared_norms(table)).max(dim=2)
            scores = torch.where(self.mask, best.values, 0)
            total = total + scores.sum(dim=1, dtype=torch.float64)
            residual = residual - table[best.indices]
        return total, residual

    def codes(self, route: Tensor, n_levels: int, *, beam: int = 1) -> Tensor:
        self._check_levels(n_levels)
        if beam > 1:
            raise ValueError(f"beam is {beam}, expected 1 on a GPU: encode on the CPU")
        found = []
        for m in range(route.shape[1]):
            residual = self.left
            for codebook in self.bank.codebooks[:n_levels]:
                table = codebook[route[:, m]]  # (B, K, D)
                half = half_squared_norms(table)[:, None]
                best = (residual @ table.transpose(1, 2) - half).argmax(dim=2)
                found.append(torch.where(self.mask, best, PADDING))
                where = best[..., None].expand(-1, -1, table.shape[2])
                residual = residual - table.gather(1, where)
        return torch.stack(found, dim=2)


def batch_encoding(
    bank: CodebookBank,
    x: Tensor,
    lengths: Tensor | None = None,
    *,
    speaker_mean: Tensor | None = None,
) -> BatchEncoding:
    """Make the `BatchEncoding` that fits the device; see there."""
    kind = _StaticEncoding if is_static(x) else _CachedEncoding
    return kind(bank, x, lengths, speaker_mean=speaker_mean)


def decode_batch(
    bank: CodebookBank,
    codes: Tensor,
    route: Tensor,
    weights: Tensor,
    clip_codes: Tensor | None = None,
) -> Tensor:
    """Mix the reconstructions of the experts of a route, on what the clip code knows.

    Parameters
    ----------
    bank : CodebookBank
    codes : (B, T, M * L) int64 Tensor
        `PADDING` where padded.
    route : (B, M) int64 Tensor
        Places in ``bank.experts``; M is 0 where only clip codes are sent, and then all
        clips have T frames.
    weights : (B, M) Tensor
    clip_codes : (B, N, C) int64 Tensor, optional
        Where the bank has a clip code.

    Returns
    -------
    features : (B, T, D) Tensor
        Normalised features, see `Normalization.inverse`; what is padded means nothing.

    Raises
    ------
    ValueError
        For a code outside its codebook, with clip, frame and level; clip codes that are
        missing, or that nobody can decode.
    """
    if (clip_codes is None) != (bank.clip_code is None):
        raise ValueError(
            "this quantizer has no clip code, found clip_codes"
            if bank.clip_code is None
            else "the frame codes are of what the clip code leaves: give clip_codes too"
        )
    total, streams = 0.0, codes.chunk(route.shape[1], dim=2) if route.shape[1] else ()
    for m, part in enumerate(streams):
        check_codes(part, bank.sizes)
        for level, codebook in enumerate(bank.codebooks[: part.shape[2]]):
            place = part[..., level].clamp_min(0) + route[:, m, None] * len(codebook[0])
            found = codebook.flatten(0, 1)[place]  # (B, T, D)
            total = total + weights[:, m, None, None] * found
    if bank.clip_code is None:
        return total
    lengths = (codes[..., 0] != PADDING).sum(dim=1) if streams else None
    return total + bank.clip_code.offset(clip_codes, lengths, n_frames=codes.shape[1])


def decode_route(
    bank: CodebookBank,
    codes: Tensor,
    route: Mapping[str, float],
    clip_codes: Tensor | None = None,
) -> Tensor:
    """Mix the reconstructions of one clip: (T, M * L) codes to (T, D).

    Parameters
    ----------
    bank : CodebookBank
    codes : (T, M * L) integer Tensor
    route : mapping of M experts to weights
    clip_codes : (N, C) integer Tensor, optional
    """
    places = [[bank.experts.index(expert) for expert in route]]
    places = torch.tensor(places, dtype=torch.long)
    weights = torch.tensor([list(route.values())])
    beside = None if clip_codes is None else clip_codes.long()[None]
    return decode_batch(bank, codes.long()[None], places, weights, beside)[0]


def masked_pool(frames: Tensor, mask: Tensor) -> Tensor:
    """Pool (B, T, D) over time to mean and (biased) standard deviation, (B, 2 D)."""
    count = mask.sum(dim=1)[:, None]
    inside = mask[..., None]
    mean = torch.where(inside, frames, 0).sum(dim=1, dtype=torch.float64) / count
    away = torch.where(inside, frames - mean[:, None].to(frames.dtype), 0)
    variance = away.square().sum(dim=1, dtype=torch.float64) / count
    return torch.cat([mean, variance.sqrt()], dim=1).to(frames.dtype)


def pool(frames: Tensor) -> Tensor:
    """Pool (T, D) over time to mean and (biased) standard deviation, (2 D,)."""
    return torch.cat([frames.mean(dim=0), frames.std(dim=0, correction=0)])
