"""Clip codes as tokens in front of the frames of a clip."""

from collections.abc import Sequence

import torch


class ClipTokens(torch.nn.Module):
    """Embed clip codes, one token a window, and put them before the frames.

    Parameters
    ----------
    sizes : sequence of C int
        Alphabet of each symbol; a token is the sum of the vectors of its symbols.
    output_size : int
        Dimension of the frames.

    Examples
    --------
    >>> tokens = ClipTokens([4, 2], 8)
    >>> codes = torch.tensor([[[3, 1]], [[0, 0]]])
    >>> frames, lengths = torch.ones(2, 5, 8), torch.tensor([5, 2])
    >>> out, lengths = tokens(codes, torch.tensor([1, 1]), frames, lengths)
    >>> out.shape, lengths.tolist()
    (torch.Size([2, 6, 8]), [6, 3])
    """

    def __init__(self, sizes: Sequence[int], output_size: int):
        super().__init__()
        first = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("first", first, persistent=False)
        self.vectors = torch.nn.Embedding(sum(sizes), output_size)

    def forward(
        self,
        codes: torch.Tensor,
        codes_lengths: torch.Tensor,
        frames: torch.Tensor,
        lengths: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Join tokens and frames.

        Parameters
        ----------
        codes : (B, N, C) int64
            Padded with -1.
        codes_lengths, lengths : (B,) int64
        frames : (B, T, D) float

        Returns
        -------
        joined : (B, N + T, D) float
            Tokens, frames, then zeros where padded.
        lengths : (B,) int64
        """
        tokens = self.vectors(codes.clamp_min(0) + self.first).sum(dim=2)
        joined = torch.cat([tokens, frames], dim=1)
        valid = torch.cat(
            [
                torch.arange(part.shape[1], device=part.device)
                < n[:, None].to(part.device)
                for part, n in ((tokens, codes_lengths), (frames, lengths))
            ],
            dim=1,
        )
        joined = joined.masked_fill(~valid[..., None], 0.0)
        order = (~valid).sort(dim=1, stable=True).indices  # padding goes to the end
        joined = joined.gather(1, order[..., None].expand_as(joined))
        return joined, valid.sum(dim=1)
