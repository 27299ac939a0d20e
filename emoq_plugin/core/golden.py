"""Golden codes: what the maker of a quantizer got for frames that anybody can make.

They show where a quantizer computes otherwise than where it was made: another library,
another device, a fault of this package.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.core.encoding import encode_frames
from emoq_plugin.core.normalization import Normalization
from emoq_plugin.devices import exact_float32

SEED, N_FRAMES = 0, 16
# A frame that lies between two codewords may fall to either side.
TIES = 0.02
# A linear congruential generator (Numerical Recipes): the same on every machine.
MULTIPLIER, INCREMENT, MODULUS = 1664525, 1013904223, 2**32


def draw(n: int, seed: int = SEED) -> np.ndarray:
    """Return n numbers in -1 .. 1, float64, that no library or machine changes.

    Examples
    --------
    >>> draw(3).round(3).tolist()
    [-0.528, -0.443, 0.639]
    """
    state, values = seed, np.empty(n)
    for i in range(n):
        state = (MULTIPLIER * state + INCREMENT) % MODULUS
        values[i] = state
    return values / (MODULUS / 2) - 1


@exact_float32()
def codes_by_expert(
    frames: Tensor, codebooks: Mapping[str, Sequence[Tensor]]
) -> dict[str, list[str]]:
    """Return what each expert makes of some frames.

    Parameters
    ----------
    frames : (T, D) Tensor
        As frame codes encode them: normalised.
    codebooks : mapping of str to sequence of L (K_l, D) Tensors
        By expert.

    Returns
    -------
    codes : dict of str to list of str
        The codes of each level, with blanks between them.
    """
    found = {}
    for expert, levels in codebooks.items():
        codes = encode_frames(frames, levels).T.tolist()
        found[expert] = [" ".join(map(str, level)) for level in codes]
    return found


def golden_codes(
    normalization: Normalization, codebooks: Mapping[str, Sequence[Tensor]]
) -> dict[str, list[str]]:
    """Return the codes of seeded frames that spread as those of the training.

    Parameters
    ----------
    normalization : Normalization
    codebooks : mapping of str to sequence of L (K_l, D) Tensors
        By expert.
    """
    mean, scale = normalization.mean, normalization.scale
    drawn = torch.from_numpy(draw(N_FRAMES * len(mean)).reshape(N_FRAMES, -1))
    frames = (mean.cpu() + 2 * scale.cpu() * drawn).float().to(mean.device)
    normalised = normalization(frames, frames.mean(dim=0))
    return codes_by_expert(normalised, codebooks)


def share_that_differs(
    found: Mapping[str, Sequence[str]], recorded: Mapping[str, Sequence[str]]
) -> float:
    """Return the share of codes that are others, over experts and levels of both."""
    pairs = [
        pair
        for expert in found.keys() & recorded.keys()
        for level in zip(found[expert], recorded[expert])
        for pair in zip(*map(str.split, level))
    ]
    return sum(a != b for a, b in pairs) / max(len(pairs), 1)


def check_golden_codes(
    found: Mapping[str, Sequence[str]],
    recorded: Mapping[str, Sequence[str]],
    where: str,
) -> None:
    """Refuse a quantizer that gives its golden frames other codes than its maker's.

    Parameters
    ----------
    found, recorded : mapping
        Of `golden_codes`, here and in the artifact.
    where : str
        For the message.

    Raises
    ------
    ValueError
        If more than `TIES` of the codes differ.
    """
    if (share := share_that_differs(found, recorded)) > TIES:
        raise ValueError(
            f"{where}: {100 * share:.0f} % of the codes of its golden frames are not "
            "those that its maker got, though the codebooks are the same: the "
            "arithmetic differs, so torch, the device or Emo-Q are others. "
            "check=False (--check false) loads it all the same"
        )
