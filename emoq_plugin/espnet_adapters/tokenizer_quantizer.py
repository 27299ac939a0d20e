"""Quantizer `emoq` of ESPnet's trainable speech tokenizers (gan_tok)."""

import torch
from espnet2.tok.abs_quantizer import AbsSpeechTokenizerQuantizer
from espnet2.tok.output import SpeechTokenizerOutput
from torch.nn.functional import one_hot

from emoq_plugin.core.batch import mask_of
from emoq_plugin.espnet_adapters.portable import PortableQuantizer


class TokenizerQuantizer(AbsSpeechTokenizerQuantizer):
    """Assign frames to the first-level codewords of the expert that is routed to.

    The interface has one stream, so a token is ``expert * K + code`` and holds the
    route. `quantized_features` is the reconstruction from `n_levels`. The codebooks
    stay as they are; gradients reach the frontend through soft assignments and
    straight through the reconstruction.

    Parameters
    ----------
    quantizer : dict
        ``{path: <directory or hub name>, system: specific-distortion}``, see
        `PortableQuantizer`.
    n_levels : int, optional
        Of the reconstruction; all that were learned when left out.
    temperature : float, default=1.0
        Of the soft assignment ``softmax(-distance / temperature)`` with squared
        distances in normalised features.

    Raises
    ------
    ValueError
        For a soft router, which sends two streams, a clip code, or a temperature not
        above zero.
    """

    def __init__(
        self,
        quantizer: dict,
        n_levels: int | None = None,
        temperature: float = 1.0,
    ):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, expected above 0")
        self.quantizer = PortableQuantizer(quantizer)
        self.quantizer.routed.system.check_frame_codes_alone("a tokenizer")
        if self.quantizer.routed.system.n_streams > 1:
            raise ValueError("a soft route sends two streams, a tokenizer has one")
        known = self.quantizer.routed.bank.n_levels
        default = self.quantizer.routed.n_levels
        self.n_levels = default if n_levels is None else n_levels
        if not 1 <= self.n_levels <= known:
            raise ValueError(f"n_levels is {n_levels}, expected 1 to {known}")
        self.temperature = float(temperature)

    @property
    def feature_dim(self) -> int:
        """D of the features."""
        return self.quantizer.dimension

    @property
    def num_clusters(self) -> int:
        """Tokens: experts times codewords of the first level."""
        bank = self.quantizer.routed.bank
        return len(bank.experts) * bank.sizes[0]

    def _soft(
        self, features: torch.Tensor, lengths: torch.Tensor, experts: torch.Tensor
    ) -> torch.Tensor:
        """Return the soft assignments (B, T, E K), zero outside the routed expert."""
        bank = self.quantizer.routed.bank
        mask = mask_of(lengths, features.shape[1])
        normalised = bank.normalization(features.float(), mask=mask)
        distance = torch.cdist(normalised, bank.codebooks[0][experts]).square()
        shares = (-distance / self.temperature).softmax(dim=-1)  # (B, T, K)
        shares = torch.where(mask[..., None], shares, 0)
        chosen = torch.nn.functional.one_hot(experts, len(bank.experts))
        return (chosen[:, None, :, None] * shares[:, :, None]).flatten(2)

    def forward(
        self, features: torch.Tensor, feature_lengths: torch.Tensor
    ) -> SpeechTokenizerOutput:
        """Quantize a batch.

        Parameters
        ----------
        features : (B, T, D) float
        feature_lengths : (B,) int64

        Returns
        -------
        output : SpeechTokenizerOutput
            Hard assignments with the gradient of the soft ones; token 0 and zero
            assignments where padded.
        """
        quantized = self.quantizer(features, feature_lengths, n_levels=self.n_levels)
        codes, experts = quantized.codes[..., 0], quantized.route[:, 0]
        valid = (codes >= 0)[..., None]
        size = self.quantizer.routed.bank.sizes[0]
        tokens = (codes + experts[:, None] * size).masked_fill(~valid[..., 0], 0)
        soft = self._soft(features, feature_lengths, experts)
        hard = one_hot(tokens, self.num_clusters).to(soft) * valid
        reconstruction = quantized.features.to(features.dtype)
        straight = (features - features.detach()) * valid
        return SpeechTokenizerOutput(
            continuous=features,
            assignment=hard + soft - soft.detach(),
            token_ids=tokens,
            lengths=feature_lengths,
            soft_assignment=soft,
            quantized_features=reconstruction + straight,
        )

    def encode(
        self, features: torch.Tensor, feature_lengths: torch.Tensor
    ) -> SpeechTokenizerOutput:
        """Quantize a batch; `forward` is deterministic already."""
        return self(features, feature_lengths)
