"""ResidualQuantizer: one expert's codebooks with its normalisation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emoq_plugin.core.batch import PADDING, check_batch, check_codes, mask_of, scatter
from emoq_plugin.core.encoding import decode_frames, encode_frames
from emoq_plugin.core.normalization import Float32Module, Normalization
from emoq_plugin.devices import exact_float32


@dataclass
class Quantized:
    """What a quantizer makes of a batch.

    Attributes
    ----------
    features : (B, T, D) Tensor
        Reconstruction in the scale of the features, zero where padded.
    codes : (B, T, M * L) int64 Tensor
        `PADDING` where padded. M experts are mixed (1 unless the route is soft).
    route : (B, M) int64 Tensor
        Index of the expert(s) of each clip.
    weights : (B, M) Tensor
        Mixing weights, rows sum to one.
    bits : (B,) float64 Tensor
        Nominal bits of each clip: codes, route and clip codes.
    clip_codes : (B, N, C) int64 Tensor, optional
        Of the N windows of each clip, `PADDING` where a clip has fewer; None without
        a clip code.
    """

    features: Tensor
    codes: Tensor
    route: Tensor
    weights: Tensor
    bits: Tensor
    clip_codes: Tensor | None = None


class ResidualQuantizer(Float32Module):
    """Residual vector quantizer over normalised features.

    Each level quantizes what the levels before left over (Juang and Gray 1982,
    "Multiple stage vector quantization for speech coding").

    Parameters
    ----------
    codebooks : sequence of L (K_l, D) Tensors
        Kept as buffers: no optimiser and no initialiser changes them.
    normalization : Normalization

    Examples
    --------
    >>> norm = Normalization("corpus", torch.zeros(1), torch.ones(1))
    >>> coarse, fine = torch.tensor([[0.0], [8.0]]), torch.tensor([[-1.0], [1.0]])
    >>> quantizer = ResidualQuantizer([coarse, fine], norm)
    >>> codes = quantizer.encode(torch.tensor([[[0.9], [7.2]]]))
    >>> codes
    tensor([[[0, 1],
             [1, 0]]])
    >>> quantizer.decode(codes).flatten()
    tensor([1., 7.])
    """

    def __init__(self, codebooks: Sequence[Tensor], normalization: Normalization):
        super().__init__()
        self.normalization = normalization
        self.n_levels = len(codebooks)
        for level, codebook in enumerate(codebooks):
            self.register_buffer(f"codebook_{level}", codebook)

    @property
    def codebooks(self) -> list[Tensor]:
        """List of (K_l, D) codebooks."""
        return [getattr(self, f"codebook_{i}") for i in range(self.n_levels)]

    def bits_per_frame(self, n_levels: int | None = None) -> float:
        """Nominal bits of a frame: the sum of log2 K over the levels."""
        return sum(math.log2(len(c)) for c in self.first_levels(n_levels))

    def first_levels(self, n_levels: int | None) -> list[Tensor]:
        """Return the first `n_levels` codebooks, all of them for None.

        Raises
        ------
        ValueError
            If there are fewer levels, or none is asked for.
        """
        if n_levels is None:
            return self.codebooks
        if not 1 <= n_levels <= self.n_levels:
            raise ValueError(
                f"n_levels is {n_levels}, expected 1 to {self.n_levels} "
                "(levels learned)"
            )
        return self.codebooks[:n_levels]

    def encode_clip(
        self,
        frames: Tensor,
        *,
        n_levels: int | None = None,
        speaker_mean: Tensor | None = None,
    ) -> Tensor:
        """Encode one clip: (T, D) to (T, L) int64."""
        mean = None if speaker_mean is None else speaker_mean[None]
        return self.encode(frames[None], n_levels=n_levels, speaker_mean=mean)[0]

    def decode_clip(self, codes: Tensor) -> Tensor:
        """Decode (T, L) codes to (T, D) features; L may be below `n_levels`.

        Raises
        ------
        ValueError
            For a code outside its codebook, with frame and level.
        """
        return self.decode(codes[None])[0]

    @exact_float32()
    def encode(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        n_levels: int | None = None,
        speaker_mean: Tensor | None = None,
    ) -> Tensor:
        """Encode a batch.

        Parameters
        ----------
        x : (B, T, D) float Tensor
            B may be 0.
        lengths : (B,) Tensor, optional
            Frames of each clip; what lies behind is padding and changes nothing.
        n_levels : int, optional
            Levels to use; the same in training and evaluation mode.
        speaker_mean : (B, D) Tensor, optional

        Returns
        -------
        codes : (B, T, L) int64 Tensor
            `PADDING` (-1) where padded.

        Raises
        ------
        ValueError
            For frames that are NaN or infinite, with clip and frame.
        """
        lengths = check_batch(x, lengths, len(self.normalization.mean))
        mask = mask_of(lengths, x.shape[1])
        normalised = self.normalization(x, speaker_mean, mask=mask)
        codes = encode_frames(normalised[mask], self.first_levels(n_levels))
        return scatter(codes, mask, PADDING)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode (B, T, L) codes to (B, T, D) features, zero where padded.

        L may be below `n_levels`.

        Raises
        ------
        ValueError
            For a code outside its codebook, with frame and level.
        """
        check_codes(codes, list(map(len, self.codebooks)))
        mask = codes[..., 0] != PADDING
        decoded = decode_frames(codes[mask], self.codebooks)
        decoded = self.normalization.inverse(decoded)
        return scatter(decoded, mask, 0.0)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        n_levels: int | None = None,
        speaker_mean: Tensor | None = None,
    ) -> Quantized:
        """Encode and decode a batch; see `encode` for the parameters."""
        codes = self.encode(x, lengths, n_levels=n_levels, speaker_mean=speaker_mean)
        frames = (codes[..., 0] != PADDING).sum(dim=1)
        return Quantized(
            features=self.decode(codes),
            codes=codes,
            route=codes.new_zeros((len(x), 1)),
            weights=torch.ones((len(x), 1), device=x.device),
            bits=frames.double() * self.bits_per_frame(n_levels),
        )
