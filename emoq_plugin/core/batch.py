"""Padded batches of clips: lengths, masks, and frames without their padding."""

import torch
from torch import Tensor

# Stands where a batch is padded; no codeword has this index.
PADDING = -1


def is_static(x: Tensor) -> bool:
    """Tell whether shapes must not depend on values.

    They must not in an exported graph, and on a GPU, where finding out the number of
    frames would wait for everything before it.
    """
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def check_batch(x: Tensor, lengths: Tensor | None, dimension: int) -> Tensor:
    """Give the lengths of a batch that fits a quantizer.

    Parameters
    ----------
    x : (B, T, D) Tensor
    lengths : (B,) Tensor, optional
        Frames of each clip; all T when None.
    dimension : int
        D of the quantizer.

    Returns
    -------
    lengths : (B,) int64 Tensor
        On the device of `x`.

    Raises
    ------
    ValueError
        For another rank or dimension, lengths that do not fit, or a clip without
        frames.
    """
    if x.dim() != 3:
        raise ValueError(f"expected a (B, T, D) batch, found shape {tuple(x.shape)}")
    if x.shape[2] != dimension:
        raise ValueError(
            f"features have shape {tuple(x.shape)}, expected (clips, frames, "
            f"{dimension})"
        )
    if lengths is None:
        lengths = torch.full((x.shape[0],), x.shape[1], device=x.device)
    if torch.compiler.is_compiling():
        return lengths
    lengths = torch.as_tensor(lengths)
    found = lengths.tolist()  # before it may move to a GPU
    if lengths.shape != (len(x),) or max(found, default=0) > x.shape[1]:
        raise ValueError(f"lengths {found} do not fit a batch {tuple(x.shape)}")
    if min(found, default=1) < 1:
        raise ValueError(
            f"clip {found.index(min(found))} of the batch has {min(found)} frames, "
            "expected at least one frame"
        )
    return lengths.to(x.device, torch.long)


def mask_of(lengths: Tensor, n_frames: int) -> Tensor:
    """Give a (B, T) mask that is true where a clip has a frame."""
    time = torch.arange(n_frames, device=lengths.device)
    return time < lengths[:, None]


def scatter(rows: Tensor, mask: Tensor, value: float) -> Tensor:
    """Put rows (N, X) back into a batch (B, T, X) filled up with `value`."""
    batch = rows.new_full((*mask.shape, rows.shape[1]), value)
    batch[mask] = rows
    return batch
