"""The clip code: a few dozen bits a clip for what lasts, beside the frame codes.

Statistics over time are standardised and projected (`encoder`); in that space one token
of a small codebook comes first, then every component of what it leaves is rounded to
one of its own levels. The decoder gives the statistics back, first of all the mean
frame. Which directions are worth bits is decided where the code is learned, see
`emoq_plugin.learning.clip_code`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from emoq_plugin.core.batch import PADDING
from emoq_plugin.core.clip_statistics import (
    STATISTICS,
    checked_lengths,
    clip_statistics,
    count_windows,
    cut_windows,
)
from emoq_plugin.core.normalization import Float32Module


def entropy_bits(codes: Tensor) -> float:
    """Empirical zero-order entropy of one clip code, bits.

    Parameters
    ----------
    codes : (N, 1 + C) integer Tensor
        Codes of many clips or windows, without padding.

    Returns
    -------
    bits : float
        Summed over token and components.
    """
    counts = (torch.unique(c, return_counts=True)[1].double() for c in codes.T)
    nats = sum(float(torch.special.entr(n / n.sum()).sum()) for n in counts)
    return nats / math.log(2)


class ClipCode(Float32Module):
    """Transform coding of clip statistics; everything it holds is a buffer.

    Computes in float64, so that a code depends on its own clip alone: neither on the
    rest of the batch nor on padding or autocast.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        ``mean``, ``scale`` (S,), ``encoder`` (S, P), ``decoder`` (P, S), ``token``
        (K, P) and ``levels`` (sum of ``2 ** b``,), ascending for each component.
    component_bits : sequence of C int
        Bits b of the first C <= P components; what is left of the others is dropped.
    window : int, optional
        Frames of a window; one code a clip by default.

    Examples
    --------
    >>> tensors = {
    ...     "mean": torch.zeros(9), "scale": torch.ones(9),
    ...     "encoder": torch.eye(9)[:, :1], "decoder": torch.eye(9)[:1],
    ...     "token": torch.tensor([[0.0], [8.0]]), "levels": torch.tensor([-1.0, 1.0]),
    ... }  # fmt: skip
    >>> code = ClipCode(tensors, [1])
    >>> codes = code.encode_clips(torch.tensor([[[6.0], [8.0]]]))
    >>> codes, code.bits
    (tensor([[[1, 0]]]), 2.0)
    >>> code.offset(codes, n_frames=2).flatten()
    tensor([7., 7.])
    """

    NAMES = ("mean", "scale", "encoder", "decoder", "token", "levels")

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        component_bits: Sequence[int],
        *,
        window: int | None = None,
    ):
        super().__init__()
        for name in self.NAMES:
            self.register_buffer(name, tensors[name].float())
        self.component_bits = [int(b) for b in component_bits]
        self.window = window
        _check_shapes(self)

    @property
    def level_table(self) -> Tensor:
        """The levels of each component as a row, (C, most), filled up with infinity.

        Infinite levels are never nearest. Made from `levels` each time: a checkpoint
        may have filled them since.
        """
        sizes = self.sizes[1:]
        most = max(sizes, default=1)
        rows = [pad(v, (0, most - len(v)), value=math.inf)
                for v in self.levels.split(sizes)]  # fmt: skip
        return torch.stack(rows) if sizes else self.levels.new_empty((0, most))

    @property
    def dimension(self) -> int:
        """Dimension D of the features."""
        return len(self.mean) // STATISTICS

    @property
    def sizes(self) -> list[int]:
        """Alphabet of each symbol, the token first."""
        return [len(self.token), *(2**b for b in self.component_bits)]

    @property
    def bits(self) -> float:
        """Nominal bits of one code: the sum of log2 over the alphabets."""
        return sum(map(math.log2, self.sizes))

    def config(self) -> dict[str, Any]:
        """Give all that is not a tensor, for JSON."""
        return {"component_bits": self.component_bits, "window": self.window}

    def tensors(self) -> dict[str, Tensor]:
        """Give the tensors that the class is made from."""
        return {name: getattr(self, name) for name in self.NAMES}

    def stored(self) -> dict[str, Tensor]:
        """Give the tensors for a file, without the last statistics if none is coded.

        Of nine statistics mostly one is.
        """
        coded = (self.encoder != 0).any(dim=1) | (self.decoder != 0).any(dim=0)
        used = int(coded.nonzero().max()) + 1 if coded.any() else 0
        cut = {"encoder": self.encoder[:used], "decoder": self.decoder[:, :used]}
        return self.tensors() | cut

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> "ClipCode":
        """Build what `config` and `tensors`, as `stored` gives them, describe."""
        missing = len(tensors["mean"]) - len(tensors["encoder"])
        whole = dict(tensors)
        if missing > 0:
            whole["encoder"] = pad(tensors["encoder"], (0, 0, 0, missing))
            whole["decoder"] = pad(tensors["decoder"], (0, missing))
        return cls(whole, config["component_bits"], window=config["window"])

    def pooled(self, codes: Tensor) -> Tensor:
        """Decode what is coded at all, and average it over the windows.

        Parameters
        ----------
        codes : (B, N, 1 + C) Tensor
            From `encode_clips`.

        Returns
        -------
        pooled : (B, V) float32 Tensor
            Only statistics that differ between codes.
        """
        real = (codes[..., :1] != PADDING).float()  # (B, N, 1)
        decoded = self.decode(codes.where(real > 0, 0))[..., self.decoder.any(dim=0)]
        return (decoded * real).sum(dim=1) / real.sum(dim=1)

    def encode(self, statistics: Tensor) -> Tensor:
        """Encode statistics.

        Parameters
        ----------
        statistics : (..., S) Tensor
            As `clip_statistics` gives them.

        Returns
        -------
        codes : (..., 1 + C) int64 Tensor

        Raises
        ------
        ValueError
            For another number of statistics than the code was learned for, or values
            that are not finite.
        """
        if statistics.shape[-1] != len(self.mean):
            raise ValueError(
                f"{statistics.shape[-1]} statistics a clip, expected {len(self.mean)} "
                f"(features of {self.dimension} dimensions)"
            )
        if not torch.compiler.is_compiling() and not statistics.isfinite().all():
            raise ValueError("the statistics hold NaN or infinity: check the features")
        scaled = (statistics.double() - self.mean.double()) / self.scale.double()
        seen = scaled @ self.encoder.double()  # (..., P)
        token = self.token.double()
        scores = seen @ token.T - 0.5 * token.square().sum(dim=1)
        first = scores.argmax(dim=-1)  # the nearest codeword
        left = (seen - token[first])[..., : len(self.component_bits), None]
        table = self.level_table.double()
        thresholds = (table[:, 1:] + table[:, :-1]) / 2
        return torch.cat([first[..., None], (left > thresholds).sum(dim=-1)], dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode (..., 1 + C) codes to (..., S) float32 statistics.

        Raises
        ------
        ValueError
            For another number of symbols, or one outside its alphabet.
        """
        if not torch.compiler.is_compiling():
            self._check(codes)
        seen = self.token.double()[codes[..., 0]]
        component = torch.arange(len(self.component_bits), device=codes.device)
        values = self.level_table.double()[component, codes[..., 1:]]  # (..., C)
        seen[..., : values.shape[-1]] += values
        scaled = seen @ self.decoder.double()
        return (scaled * self.scale.double() + self.mean.double()).float()

    def encode_clips(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode a batch of clips, (B, T, D), to (B, N, 1 + C) int64 codes.

        N is the largest number of windows; shorter clips end in rows of `PADDING` (-1).

        Raises
        ------
        ValueError
            For features of another dimension, or lengths that do not fit; for windows
            where a graph is traced, in which no shape may depend on a length.
        """
        if features.shape[-1] != self.dimension:
            raise ValueError(
                f"features have {features.shape[-1]} dimensions, the clip code was "
                f"learned for {self.dimension}"
            )
        lengths = checked_lengths(features, lengths)
        if self.window is None:
            return self.encode(self._statistics(features, lengths))[:, None]
        if torch.compiler.is_compiling():
            raise ValueError(
                "a clip code of windows cannot be exported: learn one of whole clips "
                "(clip_window=None)"
            )
        if not len(lengths):
            return lengths.new_empty((0, 1, len(self.sizes)))
        windows = cut_windows(features, lengths, self.window)
        found = self.encode(self._statistics(*windows))
        count = count_windows(lengths, self.window)
        codes = found.new_full((len(count), int(count.max()), found.shape[1]), PADDING)
        window = torch.arange(codes.shape[1], device=codes.device)
        codes[window < count[:, None]] = found
        return codes

    def _statistics(self, features: Tensor, lengths: Tensor) -> Tensor:
        traced = torch.compiler.is_compiling()  # no branch may depend on a value
        means_alone = not traced and not self.encoder[self.dimension :].any()
        return clip_statistics(features, lengths, means_alone=means_alone)

    def offset(
        self, codes: Tensor, lengths: Tensor | None = None, *, n_frames: int
    ) -> Tensor:
        """Give what the clip code knows of every frame: the decoded mean of its window.

        Parameters
        ----------
        codes : (B, N, 1 + C) Tensor
            From `encode_clips`.
        lengths : (B,) Tensor, optional
            All `n_frames` long by default.
        n_frames : int
            T.

        Returns
        -------
        offset : (B, T, D) float32 Tensor
            Zero where padded.

        Raises
        ------
        ValueError
            If the windows do not fit the lengths.
        """
        if lengths is None:
            lengths = torch.full((len(codes),), n_frames)
        lengths = lengths.to(codes.device)
        count = count_windows(lengths, self.window)
        real = codes[..., 0] != PADDING  # (B, N)
        traced = torch.compiler.is_compiling()
        if not traced and not torch.equal(real.sum(dim=1), count):
            raise ValueError(
                f"clip codes have {real.sum(dim=1).tolist()} windows, expected "
                f"{count.tolist()} for clips of {lengths.tolist()} frames"
            )
        means = self.decode(codes.where(real[..., None], 0))[..., : self.dimension]
        frame = torch.arange(n_frames, device=codes.device)
        window = torch.minimum(frame // (self.window or n_frames), count[:, None] - 1)
        offset = means.gather(1, window[..., None].expand(-1, -1, means.shape[-1]))
        return offset * (frame < lengths[:, None])[..., None]

    def _check(self, codes: Tensor) -> None:
        if codes.shape[-1] != len(self.sizes):
            raise ValueError(
                f"clip codes have {codes.shape[-1]} symbols, expected {len(self.sizes)}"
            )
        sizes = torch.tensor(self.sizes, device=codes.device)
        bad = ((codes < 0) | (codes >= sizes)).nonzero()
        if len(bad):
            symbol, found = int(bad[0][-1]), int(codes[tuple(bad[0])])
            raise ValueError(
                f"clip code at {bad[0][:-1].tolist()}, symbol {symbol}: {found} is "
                f"outside the alphabet of {self.sizes[symbol]}"
            )


def _check_shapes(code: ClipCode) -> None:
    """Refuse tensors that do not fit each other, which a damaged file may hold."""
    size, width = code.encoder.shape if code.encoder.dim() == 2 else (0, 0)
    expected = {
        "mean": (size,),
        "scale": (size,),
        "decoder": (width, size),
        "token": (len(code.token), width),
        "levels": (sum(2**b for b in code.component_bits),),
    }
    for name, shape in expected.items():
        if tuple(getattr(code, name).shape) != shape:
            found = tuple(getattr(code, name).shape)
            raise ValueError(f"clip code: {name} has shape {found}, expected {shape}")
    if not size or size % STATISTICS or len(code.component_bits) > width:
        raise ValueError(
            f"clip code: encoder {tuple(code.encoder.shape)} does not fit "
            f"{STATISTICS} statistics a dimension and {len(code.component_bits)} "
            "components"
        )
