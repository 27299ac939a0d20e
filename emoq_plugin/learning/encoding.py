"""Residual vector quantization of frames: encode and decode as pure functions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emoq_plugin.learning.nearest import half_squared_norms, nearest_codewords

# Rows at a time: the (rows, K) score table stays in the cache of a processor core.
CHUNK_FRAMES = 2048


def encode_level(
    residual: Tensor, codebook: Tensor, *, half_norms: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Quantize one level.

    Parameters
    ----------
    residual : (N, D) float32 Tensor
    codebook : (K, D) float32 Tensor
    half_norms : (K,) Tensor, optional

    Returns
    -------
    codes : (N,) int64 Tensor
    residual : (N, D) float32 Tensor
        What the codewords leave over.
    """
    codes, _ = nearest_codewords(residual, codebook, half_norms=half_norms)
    return codes, residual - codebook.index_select(0, codes)


def encode_frames(frames: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Encode frames level by level, each level on the residual of the ones before.

    Parameters
    ----------
    frames : (N, D) float32 Tensor
    codebooks : sequence of L (K_l, D) float32 Tensors

    Returns
    -------
    codes : (N, L) int64 Tensor
    """
    norms = [half_squared_norms(codebook) for codebook in codebooks]
    codes = torch.empty(
        (len(frames), len(codebooks)), dtype=torch.long, device=frames.device
    )
    for start in range(0, len(frames), CHUNK_FRAMES):
        rows = slice(start, start + CHUNK_FRAMES)
        residual = frames[rows]
        for level, (codebook, half_norms) in enumerate(zip(codebooks, norms)):
            codes[rows, level], residual = encode_level(
                residual, codebook, half_norms=half_norms
            )
    return codes


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
