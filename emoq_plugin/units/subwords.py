"""Subword units: frequent sequences of units become one token (byte-pair encoding)."""

import io
import logging
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import sentencepiece

from emoq_plugin.core.artifact import SUBWORDS
from emoq_plugin.files import atomic_write
from emoq_plugin.units.flat import FIRST_ID, flatten_codes
from emoq_plugin.units.store import UnitStore
from emoq_plugin.units.text import CJK_FIRST, deduplicate, to_cjk


def unit_text(codes: np.ndarray, sizes: Sequence[int]) -> str:
    """Write codes as the text that subwords are learned from.

    Frames that repeat the one before are dropped; of the others each level is one
    character, frame by frame, the characters of a level after those of the levels
    before it. The route is not in the text.

    Parameters
    ----------
    codes : (T, L) integer array
    sizes : sequence of L int
        Codebook size of each level.

    Raises
    ------
    ValueError
        For a code outside its codebook, or more codewords than characters.

    Examples
    --------
    >>> unit_text(np.array([[0, 1], [0, 1], [2, 0]]), [3, 2])
    '一丄丂七'
    """
    return to_cjk(flatten_codes(deduplicate(codes), sizes) - FIRST_ID)


def learn_subwords(texts: Iterable[str], n_units: int, n_sequences: int) -> bytes:
    """Learn a SentencePiece model of subword units.

    Every unit is in its vocabulary, whether or not a text has it.

    Parameters
    ----------
    texts : iterable of str
        From `unit_text`, of training clips.
    n_units : int
        Characters of the alphabet.
    n_sequences : int
        Sequences of units that become subwords, beside the units; fewer are learned
        where the texts repeat fewer.

    Returns
    -------
    model : bytes
        What `Subwords` and ESPnet's ``--bpemodel`` read.

    Raises
    ------
    ValueError
        For fewer than one sequence, or more units than characters.

    Notes
    -----
    SentencePiece holds all texts in memory.
    """
    if n_sequences < 1:
        raise ValueError(f"{n_sequences} sequences, expected at least 1")
    alphabet = to_cjk(range(n_units))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=chain(alphabet, texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=n_units + n_sequences + 1,  # and the unknown
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        split_by_unicode_script=False,
        bos_id=-1,
        eos_id=-1,
        unk_id=0,
        max_sentence_length=2**30,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


class Subwords:
    """Subword units of one quantizer: unit text to tokens and back.

    Parameters
    ----------
    model : bytes
        From `learn_subwords`.
    n_units : int, optional
        Characters of the quantizer's alphabet, compared with the model's.

    Attributes
    ----------
    size : int
        Subwords, without the unknown.

    Raises
    ------
    ValueError
        For bytes that are no model, or a model of another alphabet.

    Examples
    --------
    >>> subwords = Subwords(learn_subwords(["一丁丂一丁"], n_units=3, n_sequences=1))
    >>> subwords.pieces("丂一丁丂")
    ['丂', '一丁', '丂']
    >>> subwords.decode(subwords.encode("丂一丁丂"))
    '丂一丁丂'
    """

    def __init__(self, model: bytes, n_units: int | None = None):
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError(f"this is no model of subwords: {error}") from error
        self.size = self._model.get_piece_size() - 1
        found = sum(len(self._model.id_to_piece(i + 1)) == 1 for i in range(self.size))
        if n_units not in (None, found):
            raise ValueError(
                f"the subwords are of an alphabet of {found} units, the quantizer has "
                f"{n_units}: they were learned for another rate or system"
            )

    def encode(self, text: str) -> list[int]:
        """Return ids of subwords, from 1.

        Raises
        ------
        ValueError
            For a unit that is not in the alphabet, with its position.
        """
        ids = self._model.encode(text)
        if 0 in ids:
            known = {self._model.id_to_piece(i + 1) for i in range(self.size)}
            at, unit = next((n, c) for n, c in enumerate(text) if c not in known)
            raise ValueError(
                f"unit {ord(unit) - CJK_FIRST} ('{unit}') at position {at} is unknown "
                "to these subwords"
            )
        return ids

    def pieces(self, text: str) -> list[str]:
        """Return subwords as text; errors are those of `encode`."""
        return [self._model.id_to_piece(i) for i in self.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the unit text.

        Raises
        ------
        ValueError
            For an id out of range.
        """
        if bad := [i for i in ids if not 1 <= i <= self.size]:
            raise ValueError(f"subword {bad[0]}, expected 1 to {self.size}")
        return self._model.decode(list(ids))


def read_subwords(path: str | Path, n_units: int) -> Subwords:
    """Read the model beside units or in an artifact.

    Raises
    ------
    ValueError
        If there is none, or it does not fit; see `Subwords`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"{path} is missing, so there are no subword units: learn them in stage 5 "
            "(--subwords N) and pack the quantizer again (stage 9)"
        )
    try:
        return Subwords(path.read_bytes(), n_units)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def add_subwords(
    directory: str | Path,
    *,
    sizes: Sequence[int],
    n_sequences: int,
    train: Iterable[str],
    test: Iterable[str],
) -> tuple[float, int]:
    """Learn subwords of units on disk and measure them.

    Parameters
    ----------
    directory : str or Path
        Of units, all levels and streams: `subwords.model` is written here.
    sizes : sequence of int
        Codewords of each column of the codes.
    n_sequences : int
        See `learn_subwords`.
    train, test : iterable of str
        Utterances to learn from, and to measure.

    Returns
    -------
    rate : float
        Bits/s of the test clips, ``log2(size)`` for each token (durations are lost).
    size : int
        Subwords.
    """
    units = UnitStore(directory)
    texts = (unit_text(units[u], sizes) for u in train)
    model = learn_subwords(texts, sum(sizes), n_sequences)
    subwords = Subwords(model, sum(sizes))
    if (found := subwords.size - sum(sizes)) < n_sequences:
        logging.warning(
            "%s: %d sequences instead of %d: the training clips repeat no more",
            *(directory, found, n_sequences),
        )
    with atomic_write(Path(directory) / SUBWORDS, "wb") as stream:
        stream.write(model)
    tokens, frames = 0, 0
    for utterance in test:
        codes = units[utterance]
        tokens += len(subwords.encode(unit_text(codes, sizes)))
        frames += len(codes)
    seconds = frames / units.card["frame_rate_hz"]
    return tokens * math.log2(subwords.size) / seconds, subwords.size
