"""Attentive statistics pooling that no padded frame can influence."""

import torch
from espnet2.spk.pooling.abs_pooling import AbsPooling


class AttentiveStatisticsPooling(AbsPooling):
    """Weighted mean and standard deviation over time, weights from one attention head.

    K. Okabe, T. Koshinaka, K. Shinoda, "Attentive Statistics Pooling for Deep Speaker
    Embedding", Interspeech 2018, equations 2 to 6. Unlike ESPnet's channel-wise
    variant it has no batch normalisation, whose statistics would see padded frames.

    Parameters
    ----------
    input_size : int
        Dimension D of a frame.
    attention_size : int, default=32
        Hidden dimension of the attention.
    """

    def __init__(self, input_size: int = 64, attention_size: int = 32):
        super().__init__()
        self.attention = torch.nn.Sequential(
            torch.nn.Linear(input_size, attention_size),
            torch.nn.Tanh(),
            torch.nn.Linear(attention_size, 1),
        )
        self._output_size = 2 * input_size

    def output_size(self) -> int:
        """Return the dimension of the pooled vector: mean and standard deviation."""
        return self._output_size

    def forward(
        self, input: torch.Tensor, feat_lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Pool over time.

        Parameters
        ----------
        input : (B, D, T) float
            As ESPnet's poolings take it.
        feat_lengths : (B,) int64, optional
            Frames of each utterance; all T by default.

        Returns
        -------
        pooled : (B, 2 * D) float
        """
        frames = input.transpose(1, 2)  # (B, T, D)
        score = self.attention(frames)  # (B, T, 1)
        if feat_lengths is not None:
            steps = torch.arange(frames.shape[1], device=frames.device)
            padded = steps >= feat_lengths.to(frames.device)[:, None]
            score = score.masked_fill(padded[..., None], float("-inf"))
            frames = frames.masked_fill(padded[..., None], 0.0)
        weight = score.softmax(dim=1)
        mean = (weight * frames).sum(dim=1)
        variance = (weight * (frames - mean[:, None]).square()).sum(dim=1)
        # The floor keeps the gradient of the root finite for one-frame utterances.
        deviation = variance.clamp(min=1e-6).sqrt()
        return torch.cat([mean, deviation], dim=1)
