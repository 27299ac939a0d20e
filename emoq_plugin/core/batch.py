"""Padded batches of clips: lengths, masks, and frames without their padding."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Where a batch is padded; no codeword has this index.
PADDING = -1


def is_static(x: Tensor) -> bool:
    """Return whether shapes must not depend on values.

    They must not in an exported graph, and on a GPU, where finding out the number of
    frames would wait for everything before it.
    """
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def check_batch(x: Tensor, lengths: Tensor | None, dimension: int) -> Tensor:
    """Return the lengths of a batch that fits a quantizer.

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
    fit = all(0 <= n <= x.shape[1] for n in found)
    if lengths.shape != (len(x),) or not fit:
        raise ValueError(f"lengths {found} do not fit a batch {tuple(x.shape)}")
    if 0 in found:
        raise ValueError(
            f"clip {found.index(0)} of the batch has no frame, expected at least one "
            "frame"
        )
    return lengths.to(x.device, torch.long)


def check_codes(codes: Tensor, sizes: Sequence[int]) -> None:
    """Refuse codes that no codeword has.

    Parameters
    ----------
    codes : (B, T, L) integer Tensor
        Frames whose first code is `PADDING` are padding.
    sizes : sequence of int
        Codewords of each level; L or more.

    Raises
    ------
    ValueError
        With clip, frame, level, code and codebook size.
    """
    n_levels = codes.shape[2]
    if n_levels > len(sizes):
        raise ValueError(f"codes have {n_levels} levels, expected {len(sizes)}")
    if torch.compiler.is_compiling():
        return
    limits = torch.tensor(sizes[:n_levels], device=codes.device)
    bad = (codes >= limits) | (codes < 0) & (codes[..., :1] != PADDING)
    if bad.any():
        clip, frame, level = bad.nonzero()[0].tolist()
        raise ValueError(
            f"clip {clip}, frame {frame}, level {level}: code "
            f"{int(codes[clip, frame, level])} is outside the codebook of "
            f"{sizes[level]} codewords"
        )


def mask_of(lengths: Tensor, n_frames: int) -> Tensor:
    """Return a (B, T) mask that is true where a clip has a frame."""
    time = torch.arange(n_frames, device=lengths.device)
    return time < lengths[:, None]


def scatter(rows: Tensor, mask: Tensor, value: float) -> Tensor:
    """Put rows (N, X) back into a batch (B, T, X) filled up with `value`."""
    batch = rows.new_full((*mask.shape, rows.shape[1]), value)
    batch[mask] = rows
    return batch


def as_batch(
    features: Any, lengths: Any = None
) -> tuple[Tensor, Tensor | None, Callable[[Tensor], Any]]:
    """Make a padded batch of clips in any form.

    Parameters
    ----------
    features : (B, T, D) Tensor or array, or sequence of (T, D)
        Of any type of numbers; clips of a sequence may differ in T.
    lengths : (B,) Tensor, array or sequence, optional
        Only for a batch.

    Returns
    -------
    x : (B, T, D) float32 Tensor
    lengths : (B,) Tensor or None
    back : callable
        Gives a tensor in the kind that came in: a NumPy array unless it was a Tensor.

    Raises
    ------
    ValueError
        For clips that are no (T, D) arrays of one dimension, with the number of the
        clip, or lengths beside a sequence.
    """
    if isinstance(features, Tensor | np.ndarray):
        back = _same if isinstance(features, Tensor) else _to_numpy
        lengths = None if lengths is None else torch.as_tensor(lengths)
        return torch.as_tensor(features).float(), lengths, back
    if lengths is not None:
        raise ValueError("lengths belong to a padded batch, found a sequence of clips")
    clips = [torch.as_tensor(np.asarray(c) if isinstance(c, list) else c)
             for c in features]  # fmt: skip
    if not clips:
        raise ValueError("found no clips, expected at least one")
    for number, clip in enumerate(clips):
        if clip.dim() != 2 or clip.shape[1] != clips[0].shape[-1]:
            raise ValueError(
                f"clip {number} has shape {tuple(clip.shape)}, expected (frames, "
                f"{clips[0].shape[-1]}) as clip 0"
            )
    back = _same if isinstance(features[0], Tensor) else _to_numpy
    x = torch.nn.utils.rnn.pad_sequence([c.float() for c in clips], batch_first=True)
    return x, torch.tensor([len(clip) for clip in clips]), back


def _same(x: Tensor) -> Tensor:
    return x


def _to_numpy(x: Tensor) -> np.ndarray:
    return x.cpu().numpy()
