"""Phone labels: EMO-DB's files, tables, and labels by frame."""

import numpy as np
import pytest

from emoq_plugin.data.alignments import (
    SILENCE,
    alignment_files,
    frame_labels,
    label_clips,
    read_alignments,
    read_lablaut,
    read_segments,
)

HEADER = "signal 03a01Fa\ntype 0\nseparator ;\nnfields 1\n#\n"
LABELS = """    0.100000   -1 _t
    0.200000   -1 !t\t+asp
    0.300000   -1 a\t+lar\t2
    0.400000   -1 \t+hoe
    0.500000   -1\t-tie
    0.600000   -1 d+nas
    0.700000   -1 m +sil
    0.800000   -1 .
"""


@pytest.fixture
def lablaut(tmp_path):
    """Return a function that writes a label file of EMO-DB and reads it."""

    def read(text, name="03a01Faxx.lablaut"):
        path = tmp_path / name
        path.write_bytes(text.encode("iso-8859-1"))
        return read_lablaut(path)

    return read


def test_the_time_is_the_start_and_diacritics_go_on_with_their_phone(lablaut):
    found = lablaut(HEADER.replace("signal", "größe") + LABELS)
    assert found.phones.tolist() == [SILENCE, "!t", *"aaadm", SILENCE]
    assert found.starts.tolist() == [i / 10 for i in range(1, 9)]
    at = found.at(np.array([0.05, 0.15, 0.2, 0.29, 0.31, 0.59, 0.61, 9.0]))
    assert at.tolist() == [SILENCE, SILENCE, "!t", "!t", "a", "a", "d", SILENCE]


def test_a_file_without_segments_is_no_alignment(lablaut, tmp_path):
    assert len(lablaut(HEADER).starts) == 0
    with pytest.raises(ValueError, match="phones of none of 1 utterances.*'x-03a01Fa'"):
        read_alignments(tmp_path, ["x-03a01Fa"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("0.1 -1 a\n", "03a01Faxx.lablaut: no line '#'"),
        (HEADER + "0.1 -1 a\nsoon -1 t\n", "lablaut:7: 'soon -1 t', expected"),
        (HEADER + "0.3 -1 a\n0.2 -1 t\n", "lablaut:7: .*not before"),
    ],
)
def test_a_faulty_label_file_is_named_with_its_line(lablaut, text, message):
    with pytest.raises(ValueError, match=message):
        lablaut(text)


def test_label_files_belong_to_utterances_by_the_end_of_their_names(lablaut, tmp_path):
    lablaut(HEADER + LABELS)
    found = read_alignments(tmp_path, ["emodb03-03a01Fa", "emodb03-03a02Fa"])
    assert set(found) == {"emodb03-03a01Fa"}
    assert alignment_files(tmp_path) == [tmp_path / "03a01Faxx.lablaut"]


def test_label_files_and_utterances_belong_together_one_to_one(lablaut, tmp_path):
    for name in ("03a01Faxx.lablaut", "03a02Faxx.lablaut"):
        lablaut(HEADER + LABELS, name)
    read_alignments(tmp_path, ["a-03a01Fa", "a-x", "b-x"])
    with pytest.raises(ValueError, match="a-03a01Fa and b-03a01Fa: both are called"):
        read_alignments(tmp_path, ["a-03a01Fa", "b-03a01Fa"])
    (tmp_path / "again").mkdir()
    lablaut(HEADER + LABELS, "again/03a01Faxx.lablaut")
    with pytest.raises(ValueError, match="03a01Faxx.lablaut and .*03a01Faxx.lablaut"):
        read_alignments(tmp_path, ["a-03a01Fa"])


def test_of_two_spellings_of_a_label_file_that_of_the_corpus_counts(
    lablaut, tmp_path, caplog
):
    caplog.set_level("INFO")
    lablaut(HEADER + LABELS, "14b09Eaxx.lablaut")
    (tmp_path / "14b09Ea.lablaut").write_text("not read")  # as in EMO-DB
    assert set(read_alignments(tmp_path, ["a-14b09Ea"])) == {"a-14b09Ea"}
    assert "1 phones not asked for (14b09Ea.lablaut)" in caplog.text


def test_how_many_utterances_have_phones_is_reported(lablaut, tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("03a01Faxx.lablaut", "03a02Faxx.lablaut"):
        lablaut(HEADER + LABELS, name)
    (tmp_path / "._03a01Faxx.lablaut").write_bytes(b"\0\5")  # macOS
    read_alignments(tmp_path, ["a-03a01Fa", "a-03a03Fa"])
    assert "phones of 1 of 2 utterances; 1 utterances without" in caplog.text
    assert "(a-03a03Fa), 1 phones not asked for (03a02Faxx.lablaut)" in caplog.text


def test_a_table_with_a_byte_order_mark_names_its_first_utterance(tmp_path):
    path = tmp_path / "phones"
    path.write_text("u 0 1 a\n", "utf-8-sig")
    assert set(read_segments(path)) == {"u"}
    path.write_bytes(b"u 0 1 a\nu 1 2 \xe9\n")
    with pytest.raises(ValueError, match="phones:2: not UTF-8"):
        read_segments(path)


def test_a_table_and_a_ctm_say_the_same(tmp_path):
    table, ctm = tmp_path / "utt2phones", tmp_path / "ctm"
    table.write_text("u 0.5 0.7 SIL\nu 0.1 0.3 a_B\nu 0.3 0.5 t\nv 0 1 o\n")
    ctm.write_text("u 1 0.1 0.2 a\nu 1 0.3 0.2 t 0.9\nu 1 0.5 0.2 sil\nv 1 0 1 o\n")
    seconds = np.array([0.0, 0.2, 0.4, 0.6, 0.8])
    for path in (table, ctm):
        found = read_alignments(path, ["u", "w"])
        assert set(found) == {"u"}
        assert found["u"].at(seconds).tolist() == ["", "a", "t", "", ""]


@pytest.mark.parametrize(
    "text, message",
    [
        ("u 0 1 a\nu 1 a\n", "phones:2: 'u 1 a' .3 fields., expected"),
        ("u 0 x a\n", "phones:1: .*could not convert"),
        ("u 2 1 a\n", "phones:1: .*from 2 to 1 s"),
        ("u 0 nan a\n", "phones:1: .*from 0 to nan s"),
        (
            "u 0 2 a\nu 1 3 b\n",
            "phones:2: .* of 'u' begins at 1 s, before .* line 1 ends",
        ),
    ],
)
def test_a_faulty_table_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "phones"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_segments(path)


def test_a_missing_place_says_what_could_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is missing: give a directory"):
        read_alignments(tmp_path / "nowhere", ["u"])


def test_a_frame_has_the_phone_at_its_centre_and_rare_phones_are_one(tmp_path):
    path = tmp_path / "phones"
    path.write_text("u 0 0.05 a\nu 0.05 0.1 x\nu 0.1 0.2 a\nv 0 0.1 b\nv 0.1 0.2 b\n")
    alignments = read_alignments(path, ["u", "v"])
    options = {"frame_rate_hz": 50, "min_count": 2}
    phones, labels = label_clips(alignments, {"u": 12, "v": 3}, **options)
    assert phones == ["a", "b", "rare"]
    assert labels["u"].tolist() == [0, 0, 2, 2, 2, 0, 0, 0, 0, 0, -1, -1]
    assert labels["v"].tolist() == [1, 1, 1]
    index = {"a": 5, "rare": 7}
    coarse = frame_labels(alignments["u"], 2, frame_rate_hz=10, phones=index)
    assert coarse.tolist() == [7, 5]
