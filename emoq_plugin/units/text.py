"""Text forms of codes: ESPnet's pseudo labels and CJK characters."""

from collections.abc import Sequence
from urllib.parse import quote

import numpy as np

# ESPnet's asr2 maps unit i to this character plus i; its alphabet holds this many.
CJK_FIRST = 0x4E00
CJK_SIZE = 20900


def pseudo_label_file(size: int, level: int, n_levels: int) -> str:
    """Return ESPnet's name of the label file of a level.

    Examples
    --------
    >>> pseudo_label_file(64, 0, 1)
    'pseudo_labels_km64.txt'
    >>> pseudo_label_file(64, 1, 4)
    'pseudo_labels_RVQ_1_km64.txt'
    """
    if n_levels == 1:
        return f"pseudo_labels_km{size}.txt"
    return f"pseudo_labels_RVQ_{level}_km{size}.txt"


def deduplicate(codes: np.ndarray) -> np.ndarray:
    """Drop the frames that repeat the one before.

    Parameters
    ----------
    codes : (T,) or (T, L) array

    Examples
    --------
    >>> deduplicate(np.array([3, 3, 5, 3]))
    array([3, 5, 3])
    """
    rows = codes.reshape(len(codes), -1)
    keep = np.ones(len(codes), dtype=bool)
    keep[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return codes[keep]


def to_cjk(codes: Sequence[int] | np.ndarray) -> str:
    """Write one character for each unit, as ESPnet's asr2 does.

    Raises
    ------
    ValueError
        For ids outside the alphabet, with the id and its position.

    Examples
    --------
    >>> to_cjk([0, 1])
    '一丁'
    """
    ids = np.asarray(codes)
    bad = (ids < 0) | (ids >= CJK_SIZE)
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(
            f"unit {int(ids[at])} at position {at} is outside the CJK alphabet of "
            f"{CJK_SIZE} units: use fewer codewords or multi-stream ids"
        )
    return "".join(map(chr, ids + CJK_FIRST))


def escape_name(name: str) -> str:
    """Write a name as one word, one to one: blanks and ``%`` as addresses have them.

    Examples
    --------
    >>> escape_name("a b/100%")
    'a%20b/100%25'
    """
    return "".join(quote(c) if c.isspace() or c == "%" else c for c in name)
