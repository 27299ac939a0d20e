"""Residual vector quantization of frames: encode and decode as pure functions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emoq_plugin.core.nearest import (
    half_squared_norms,
    nearest_codewords,
    score_table,
)

# Rows at a time: the (rows, K) score table stays in the cache of a processor core.
CHUNK_FRAMES = 1024


def encode_frames(
    frames: Tensor, codebooks: Sequence[Tensor], *, beam: int = 1
) -> Tensor:
    """Encode frames level by level, each level on the residual of the ones before.

    Parameters
    ----------
    frames : (N, D) float32 Tensor
    codebooks : sequence of L (K_l, D) float32 Tensors
    beam : int, default=1
        Code sequences kept for a frame while levels are added (Babenko and Lempitsky
        2014, "Additive quantization for extreme vector compression"); more cost time in
        proportion and never raise the distortion of the best one kept at a level.

    Returns
    -------
    codes : (N, L) int64 Tensor

    Raises
    ------
    ValueError
        If the beam is smaller than one.
    """
    if beam < 1:
        raise ValueError(f"beam is {beam}, expected at least 1")
    norms = [half_squared_norms(codebook) for codebook in codebooks]
    codes = torch.empty(
        (len(frames), len(codebooks)), dtype=torch.long, device=frames.device
    )
    rows = max(1, CHUNK_FRAMES // beam)
    for start in range(0, len(frames), rows):
        part = slice(start, start + rows)
        if beam > 1:
            codes[part] = _encode_beam(frames[part], codebooks, norms, beam)
            continue
        residual = frames[part]
        picked = torch.empty_like(residual)
        rest = torch.empty_like(residual)
        for level, (codebook, half_norms) in enumerate(zip(codebooks, norms)):
            if level:  # no residual is computed behind the last level
                torch.sub(residual, picked, out=rest)
                residual = rest
            found, _ = nearest_codewords(residual, codebook, half_norms=half_norms)
            codes[part, level] = found
            torch.index_select(codebook, 0, found, out=picked)
    return codes


def _encode_beam(
    frames: Tensor, codebooks: Sequence[Tensor], norms: Sequence[Tensor], beam: int
) -> Tensor:
    """Encode (N, D) frames keeping `beam` hypotheses: (N, L) codes of the best."""
    residual = frames[:, None]  # (N, B, D), one hypothesis at first
    error = frames.square().sum(dim=1, keepdim=True)  # (N, B)
    codes = torch.empty((len(frames), 1, 0), dtype=torch.long, device=frames.device)
    for codebook, half_norms in zip(codebooks, norms):
        n, width, dimension = residual.shape
        scores = score_table(residual.reshape(-1, dimension), codebook, half_norms)
        after = error[:, :, None] - 2 * scores.view(n, width, -1)  # (N, B, K)
        size = len(codebook)
        kept = min(beam, width * size)
        error, place = after.flatten(1).topk(kept, dim=1, largest=False)  # (N, B')
        parent, code = place // size, place % size
        row = torch.arange(n, device=frames.device)[:, None]
        residual = residual[row, parent] - codebook[code]
        codes = torch.cat([codes[row, parent], code[:, :, None]], dim=2)
    return codes[:, 0]


def decode_frames(codes: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Sum the codewords of all levels.

    Parameters
    ----------
    codes : (N, L) integer Tensor
        L may be smaller than the number of codebooks: the first L are used.
    codebooks : sequence of (K_l, D) Tensors

    Returns
    -------
    frames : (N, D) Tensor
    """
    frames = codebooks[0].new_zeros((len(codes), codebooks[0].shape[1]))
    for level in range(codes.shape[1]):
        frames += codebooks[level].index_select(0, codes[:, level].long())
    return frames
