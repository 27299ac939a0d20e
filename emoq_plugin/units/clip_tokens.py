"""Clip codes as tokens beside the units of another tokenizer, in one vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from emoq_plugin.files import errors_of, read_table
from emoq_plugin.units.text import CJK_FIRST, to_cjk

# Lines of unit streams: `<utt> 5 5 2 6`, or one CJK character a unit.
UnitForm = Literal["pseudo_labels", "cjk"]


@dataclass(frozen=True)
class ClipVocabulary:
    """Numbers of units and, behind them, of the symbols of clip codes.

    Symbol i of a clip code, of value c, is ``n_units + sizes[0] + ... + sizes[i - 1] +
    c``. So each symbol has tokens of its own, and where clip codes end and units begin
    is seen from the tokens.

    Attributes
    ----------
    n_units : int
        Units are 0 to ``n_units - 1``.
    sizes : list of C int
        Alphabet of each symbol.

    Examples
    --------
    >>> vocabulary = ClipVocabulary(500, [8, 4])
    >>> tokens = vocabulary.join(np.array([[7, 0]]), np.array([3, 3, 499]))
    >>> tokens.tolist(), len(vocabulary)
    ([507, 508, 3, 3, 499], 512)
    >>> [part.tolist() for part in vocabulary.split(tokens)]
    [[[7, 0]], [3, 3, 499]]
    """

    n_units: int
    sizes: list[int]

    def __len__(self) -> int:
        return self.n_units + sum(self.sizes)

    @property
    def first(self) -> np.ndarray:
        """Return the first token of each symbol, (C,)."""
        return self.n_units + np.cumsum(self.sizes) - self.sizes

    def tokens(self, clip_codes: np.ndarray) -> np.ndarray:
        """Return the tokens of (N, C) clip codes, window after window, (N C,)."""
        return (clip_codes + self.first).ravel()

    def join(self, clip_codes: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Put the tokens of clip codes in front of units."""
        return np.concatenate([self.tokens(clip_codes), units])

    def split(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take a joined stream apart.

        Returns
        -------
        clip_codes : (N, C) int64 array
        units : (T,) int64 array

        Raises
        ------
        ValueError
            Where the stream does not begin with whole clip codes, or holds other
            tokens.
        """
        n_clip = int((np.cumsum(tokens < self.n_units) == 0).sum())
        if n_clip == 0 or n_clip % len(self.sizes):
            raise ValueError(
                f"{n_clip} clip tokens in front, expected {len(self.sizes)} for each "
                "window"
            )
        clip_codes = tokens[:n_clip].reshape(-1, len(self.sizes)) - self.first
        units = tokens[n_clip:]
        wrong = (clip_codes < 0) | (clip_codes >= self.sizes)
        if wrong.any() or (units >= self.n_units).any() or (units < 0).any():
            raise ValueError(
                f"tokens {tokens.tolist()[: n_clip + 5]}... are not clip codes of "
                f"alphabets {self.sizes} and then units below {self.n_units}"
            )
        return clip_codes, units


def with_clip_tokens(
    vocabulary: ClipVocabulary, clip_codes: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    """Put clip tokens before (T, L) frames, each as a frame of L equal ids."""
    tokens = np.repeat(vocabulary.tokens(clip_codes)[:, None], codes.shape[1], axis=1)
    return np.concatenate([tokens, codes])


def read_unit_lines(
    path: Path, form: UnitForm, *, n_units: int
) -> dict[str, np.ndarray]:
    """Read a stream of units, one utterance a line.

    Parameters
    ----------
    path : Path
    form : {"pseudo_labels", "cjk"}
        Numbers divided by blanks, or ESPnet's characters (from U+4E00 on).
    n_units : int
        Size of their vocabulary.

    Raises
    ------
    ValueError
        For what is no unit, or an utterance without any, with file and line.
    """
    found = {}
    for number, (name, text) in enumerate(read_table(path).items(), 1):
        with errors_of(f"{path}:{number}: '{name}'"):
            found[name] = units = parse_units(text, form)
            if not len(units):
                raise ValueError("no units")
            bad = (units < 0) | (units >= n_units)
            if bad.any():
                at = int(bad.argmax())
                raise ValueError(
                    f"unit {at} is {units[at]}, expected 0 to {n_units - 1} "
                    f"(--n_units {n_units})"
                )
    return found


def parse_units(text: str, form: UnitForm) -> np.ndarray:
    """Read the units of one utterance, (T,) int64.

    Raises
    ------
    ValueError
        For what is no number in `pseudo_labels`.
    """
    if form == "cjk":
        return np.array([ord(c) - CJK_FIRST for c in "".join(text.split())], np.int64)
    try:
        return np.array([int(word) for word in text.split()], np.int64)
    except (ValueError, OverflowError):
        raise ValueError(
            "expected units as numbers divided by blanks; characters are read with "
            "--form cjk"
        ) from None


def unit_line(tokens: np.ndarray, form: UnitForm) -> str:
    """Write tokens as `read_unit_lines` reads them."""
    return to_cjk(tokens) if form == "cjk" else " ".join(map(str, tokens))


def check_same_utterances(
    audio: Mapping[str, object], units: Mapping[str, object], path: Path
) -> None:
    """Refuse utterances that only one of the two has.

    Raises
    ------
    ValueError
        With how many and the first of them.
    """
    for what, missing in (
        (f"units in {path}, but no audio", sorted(set(units) - set(audio))),
        (f"audio, but no units in {path}", sorted(set(audio) - set(units))),
    ):
        if missing:
            raise ValueError(
                f"{len(missing)} utterances have {what}, the first '{missing[0]}': "
                "names of audio are those of its files, or of a list '<name> <path>' "
                "(such as wav.scp) on standard input"
            )
