"""Residual vector quantization of frames: encode and decode as pure functions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emoq_plugin.core.nearest import SearchTable, nearest_codewords, score_table

# Rows at a time: the (rows, K) score table stays in the cache of a processor core.
CHUNK_FRAMES = 4096


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
    tables = [SearchTable.of(codebook) for codebook in codebooks]
    codes = torch.empty(
        (len(frames), len(codebooks)), dtype=torch.long, device=frames.device
    )
    rows = max(1, CHUNK_FRAMES // beam)
    # Residuals take turns in two buffers: fresh memory is slow.
    buffers = frames.new_empty((2, min(rows, len(frames)), frames.shape[1]))
    for start in range(0, len(frames), rows):
        residual, part = frames[start : start + rows], slice(start, start + rows)
        if beam > 1:
            codes[part] = _encode_beam(residual, tables, beam)
            continue
        for level, table in enumerate(tables):
            last = level == len(tables) - 1  # no residual is needed behind it
            rest = None if last else buffers[level % 2, : len(residual)]
            codes[part, level], _ = nearest_codewords(residual, table, rest=rest)
            residual = rest
    return codes


def _encode_beam(frames: Tensor, tables: Sequence[SearchTable], beam: int) -> Tensor:
    """Encode (N, D) frames keeping `beam` hypotheses: (N, L) codes of the best."""
    residual = frames[:, None]  # (N, B, D), one hypothesis at first
    error = frames.square().sum(dim=1, keepdim=True)  # (N, B)
    codes = torch.empty((len(frames), 1, 0), dtype=torch.long, device=frames.device)
    for table in tables:
        codebook = table.codebook
        n, width, dimension = residual.shape
        flat = residual.reshape(-1, dimension)
        scores = score_table(flat, codebook, table.half_norms)
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
