"""Flat unit ids: L levels side by side in one stream, the route inside the ids."""

from collections.abc import Sequence

import numpy as np

# ESPnet's token lists begin with <blank> and <unk> and end with <sos/eos>.
FIRST_ID = 2


def flatten_codes(
    codes: np.ndarray, sizes: Sequence[int], *, expert: int = 0
) -> np.ndarray:
    """Write (T, L) codes frame by frame as ids of one vocabulary.

    ``id = 2 + expert * sum(K) + K_1 + ... + K_(l-1) + code``; with one expert and equal
    sizes this is ESPnet's ``code + level * K + 2`` for multi-stream units.

    Parameters
    ----------
    codes : (T, L) integer array
    sizes : sequence of L int
        Codebook size of each level.
    expert : int, default=0
        Place of the clip's expert in the quantizer's list.

    Returns
    -------
    ids : (T * L,) int64 array

    Raises
    ------
    ValueError
        For a code outside its codebook, with level, frame and K.

    Examples
    --------
    >>> flatten_codes(np.array([[0, 1], [3, 0]]), [4, 2], expert=1)
    array([ 8, 13, 11, 12])
    """
    sizes = np.asarray(sizes)
    if codes.ndim != 2 or codes.shape[1] != len(sizes):
        raise ValueError(
            f"codes have shape {codes.shape}, expected (T, {len(sizes)}): one expert "
            "(no soft route) and as many levels as sizes"
        )
    bad = np.argwhere((codes < 0) | (codes >= sizes))
    if len(bad):
        frame, level = bad[0]
        raise ValueError(
            f"level {level}, frame {frame}: id {codes[frame, level]} is outside the "
            f"codebook of K={sizes[level]} codewords"
        )
    starts = np.cumsum(sizes) - sizes
    return (codes.astype(np.int64) + starts + FIRST_ID + expert * sizes.sum()).ravel()


def token_list(
    sizes: Sequence[int], *, n_experts: int = 1, clip_sizes: Sequence[int] = ()
) -> list[str]:
    """Return the token list that `flatten_codes` counts in, for `--src_token_list`.

    Behind the units come the tokens of a clip code, see `clip_tokens.ClipVocabulary`.

    Examples
    --------
    >>> token_list([2, 1], n_experts=2)[:5]
    ['<blank>', '<unk>', 'e0l0c0', 'e0l0c1', 'e0l1c0']
    >>> token_list([2], clip_sizes=[2])[3:]
    ['e0l0c1', 'clip0c0', 'clip0c1', '<sos/eos>']
    """
    units = [
        f"e{expert}l{level}c{code}"
        for expert in range(n_experts)
        for level, size in enumerate(sizes)
        for code in range(size)
    ]
    clip = [
        f"clip{symbol}c{value}"
        for symbol, size in enumerate(clip_sizes)
        for value in range(size)
    ]
    return ["<blank>", "<unk>", *units, *clip, "<sos/eos>"]
