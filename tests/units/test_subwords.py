"""Subword units lose nothing but durations, and never make a text longer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoq_plugin.units.store import UnitStore, UnitWriter, write_cards
from emoq_plugin.units.subwords import (
    Subwords,
    add_subwords,
    learn_subwords,
    read_subwords,
    unit_text,
)
from emoq_plugin.units.text import deduplicate, to_cjk

SIZES = [5, 3]
TEXTS = [unit_text(np.array([[0, 1], [4, 2], [0, 1]] * 4), SIZES)] * 3
SUBWORDS = Subwords(learn_subwords(TEXTS, n_units=8, n_sequences=4))

clips = st.lists(
    st.tuples(*(st.integers(0, k - 1) for k in SIZES)), min_size=1, max_size=40
)


@settings(deadline=None)
@given(clips)
def test_decoding_gives_the_text_back_and_no_text_gets_longer(frames):
    codes = np.array(frames)
    text = unit_text(codes, SIZES)
    ids = SUBWORDS.encode(text)
    assert SUBWORDS.decode(ids) == "".join(SUBWORDS.pieces(text)) == text
    assert len(ids) <= deduplicate(codes).size
    # Units that no training text has are in the vocabulary all the same.
    assert min(ids) >= 1
    assert max(ids) <= SUBWORDS.size


@given(clips)
def test_a_text_is_its_codes_without_repetitions(frames):
    codes = np.array(frames)
    text = [ord(c) - ord(to_cjk([0])) for c in unit_text(codes, SIZES)]
    found = np.array(text).reshape(-1, 2) - [0, SIZES[0]]
    np.testing.assert_array_equal(found, deduplicate(codes))


def test_a_frequent_sequence_is_one_token():
    assert len(SUBWORDS.encode(TEXTS[0])) < len(TEXTS[0]) / 2


def test_the_same_texts_give_the_same_model():
    assert learn_subwords(TEXTS, n_units=8, n_sequences=4) == learn_subwords(
        iter(TEXTS), n_units=8, n_sequences=4
    )


def test_long_clips_are_learned_from():
    """SentencePiece skips lines above 4192 bytes unless an option says otherwise."""
    long = "一丁丂" * 3000
    assert "一丁丂" in Subwords(learn_subwords([long], 3, 3)).pieces("一丁丂丂")


def test_unknown_units_are_refused_with_their_place():
    with pytest.raises(ValueError, match=r"unit 8 \('.'\) at position 2 is unknown"):
        SUBWORDS.encode(to_cjk([0, 1, 8, 2]))
    with pytest.raises(ValueError, match=f"subword 0, expected 1 to {SUBWORDS.size}"):
        SUBWORDS.decode([1, 0])


def test_what_cannot_be_learned_or_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match="0 sequences, expected at least 1"):
        learn_subwords(TEXTS, n_units=8, n_sequences=0)
    with pytest.raises(ValueError, match="alphabet of 8 units, the quantizer has 9"):
        Subwords(learn_subwords(TEXTS, n_units=8, n_sequences=4), 9)
    with pytest.raises(ValueError, match=r"none is missing.*--subwords N"):
        read_subwords(tmp_path / "none", 8)
    (tmp_path / "garbage").write_bytes(b"no model")
    with pytest.raises(ValueError, match="garbage: this is no model of subwords"):
        read_subwords(tmp_path / "garbage", 8)


def test_the_rate_counts_the_tokens_of_test_clips_only(tmp_path):
    train = np.array([[1], [2], [3], [3]] * 8)
    test = np.array([[1], [2], [2], [3], [0]])
    with UnitWriter(tmp_path, size=4, n_levels=1, routed=False) as writer:
        for name, codes in (("a", train), ("b", test)):
            writer.write(name, codes, {"balanced": 1.0})
    card = {"experts": ["balanced"], "n_levels": 1, "frame_rate_hz": 50.0}
    write_cards(tmp_path, card, {})
    rate, size = add_subwords(
        tmp_path, sizes=[4], n_sequences=3, train=["a"], test=["b"]
    )
    model = read_subwords(tmp_path / "subwords.model", 4)
    assert model.size == size == 7
    tokens = model.encode(unit_text(UnitStore(tmp_path)["b"], [4]))
    assert len(tokens) == 2  # 123 and 0
    assert rate == pytest.approx(2 * np.log2(7) / (5 / 50))


def test_fewer_sequences_are_learned_where_no_more_are_repeated(tmp_path, caplog):
    with UnitWriter(tmp_path, size=4, n_levels=1, routed=False) as writer:
        writer.write("a", np.array([[0], [1], [2]]), {"balanced": 1.0})
    card = {"experts": ["balanced"], "n_levels": 1, "frame_rate_hz": 50.0}
    write_cards(tmp_path, card, {})
    _, size = add_subwords(tmp_path, sizes=[4], n_sequences=90, train=["a"], test=["a"])
    assert 4 < size < 94
    assert "sequences instead of 90" in caplog.text
