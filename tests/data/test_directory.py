"""Data directories: round trip, targets, and every fault named with its line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoq_plugin.data.directory import DataDirectory, read_emotions
from emoq_plugin.data.names import AUDIO_SUFFIX, MAX_ID, id_fault
from emoq_plugin.data.votes import format_votes, majority, parse_votes
from emoq_plugin.files import atomic_write

EMOTIONS = ["angry", "happy", "sad"]


def test_writing_and_reading_again_gives_the_same(corpus, tmp_path):
    corpus.table("utt2votes", [f"{u} angry=1 sad=2.5" for u in corpus.utterances])
    corpus.table("utt2agreement", [f"{u} 0.9" for u in corpus.utterances])
    corpus.table("utt2avd", [f"{u} valence=2.5" for u in corpus.utterances[1:]])
    corpus.table("avd_scale", ["1 5"])
    corpus.table("segments", [f"{u} {u} 0.1 0.25" for u in corpus.utterances])
    corpus.table("text", [f"{u} some words" for u in corpus.utterances])
    data = DataDirectory.read(corpus.path, EMOTIONS)
    data.write(tmp_path / "copy")
    again = DataDirectory.read(tmp_path / "copy", EMOTIONS)
    again.path = data.path
    tables = [(data.votes, again.votes), (data.ratings, again.ratings)]
    data.votes = again.votes = data.ratings = again.ratings = {}
    assert again == data and again.rating_scale == (1, 5)
    for before, after in tables:
        assert list(after) == list(before)
        for u in before:
            np.testing.assert_array_equal(after[u], before[u])
    spoken = (tmp_path / "copy" / "spk2utt").read_text().splitlines()
    assert spoken[0] == "s0 s0-u0 s0-u1"


def test_a_part_keeps_its_ratings_and_no_ratings_leave_no_scale(corpus, tmp_path):
    first, second, *_ = corpus.utterances
    corpus.table("utt2avd", [f"{first} arousal=-1 dominance=0.5"])
    corpus.table("avd_scale", ["-1 1"])
    data = DataDirectory.read(corpus.path, EMOTIONS)
    rated = data.subset([first])
    np.testing.assert_array_equal(rated.ratings[first], [-1, np.nan, 0.5])
    rated.write(tmp_path / "part")
    assert (tmp_path / "part" / "avd_scale").read_text() == "-1 1\n"
    data.subset([second]).write(tmp_path / "part")
    left = {path.name for path in (tmp_path / "part").iterdir()}
    assert not left & {"utt2avd", "avd_scale"}


@pytest.mark.parametrize(
    "rating, fault",
    [
        ("arousal=0.9", "arousal 0.9 is outside the scale, expected 1 to 5"),
        ("valence=5.1", "valence 5.1 is outside the scale"),
        ("valence=nan", "valence nan is outside the scale"),
        ("valence=two", "valence 'two', expected a number"),
        ("anger=2", "rating 'anger=2', expected some of: arousal=<number> valence"),
        ("3 2 4", "rating '3', expected some of"),
        ("arousal=1 arousal=2", "arousal is rated twice"),
        ("", "ratings '', expected at least one"),
    ],
)
def test_a_rating_that_is_none_is_a_fault_with_its_line(corpus, rating, fault):
    first, second, *_ = corpus.utterances
    corpus.table("utt2avd", [f"{first} arousal=1 valence=5", f"{second} {rating}"])
    corpus.table("avd_scale", ["1 5"])
    with pytest.raises(ValueError) as caught:
        DataDirectory.read(corpus.path, EMOTIONS)
    assert f"utt2avd:2: {second}: {fault}" in str(caught.value)


@pytest.mark.parametrize("scale", [None, "5 1", "1", "1 high", ""])
def test_ratings_need_a_scale(corpus, scale):
    corpus.table("utt2avd", [f"{corpus.utterances[0]} arousal=1"])
    if scale is not None:
        corpus.table("avd_scale", [scale])
    found = "no avd_scale beside it" if scale is None else "avd_scale:1: rating scale '"
    with pytest.raises(ValueError, match=f"{found}.*two ends"):
        DataDirectory.read(corpus.path, EMOTIONS)


def test_targets_are_vote_shares_where_votes_exist_else_one_hot(corpus):
    first, second, *_ = corpus.utterances
    corpus.table("utt2votes", [f"{first} angry=3 happy=0 sad=1"])
    data = DataDirectory.read(corpus.path, EMOTIONS)
    targets = data.targets([first, second], EMOTIONS)
    np.testing.assert_allclose(targets, [[0.75, 0, 0.25], [0, 0, 1]])
    # The order asked for counts, not the order of the file.
    np.testing.assert_allclose(
        data.targets([first], ["sad", "happy", "angry"]), [[0.25, 0, 0.75]]
    )
    assert data.targets([], EMOTIONS).shape == (0, 3)


def test_votes_without_a_majority_need_no_hard_label(corpus):
    first, *rest = corpus.utterances
    corpus.table("utt2emo", [f"{u} happy" for u in rest])
    corpus.table("utt2votes", [f"{first} angry=2 sad=2"])
    data = DataDirectory.read(corpus.path, EMOTIONS)
    assert data.labels([first, rest[0]], EMOTIONS).tolist() == [-1, 1]
    np.testing.assert_allclose(data.targets([first], EMOTIONS), [[0.5, 0, 0.5]])


def test_targets_outside_the_classes_are_refused(corpus):
    data = DataDirectory.read(corpus.path, EMOTIONS)
    with pytest.raises(ValueError, match="'s0-u0' has no emotion or vote among: angry"):
        data.targets(["s0-u0"], ["angry", "happy"])


def test_all_faults_are_listed_at_once_with_file_and_line(corpus):
    u = corpus.utterances
    corpus.table("wav.scp", [*corpus.lines("wav.scp")[:-1], corpus.lines("wav.scp")[0]])
    corpus.table("utt2spk", corpus.lines("utt2spk")[1:])
    corpus.table("utt2emo", [f"{u[0]} furious", *corpus.lines("utt2emo")[2:], "x sad"])
    corpus.table(
        "utt2votes", [f"{u[2]} sad=-1", f"{u[3]} angry=0 sad=0", f"{u[4]} joy=1"]
    )
    corpus.table("spk2utt", [f"s1 {u[0]}"])
    with pytest.raises(ValueError) as caught:
        DataDirectory.read(corpus.path, EMOTIONS)
    message = str(caught.value)
    for expected in (
        f"wav.scp:8: duplicate id '{u[0]}', it is in line 1 too",
        f"utt2spk:7: utterance '{u[7]}' is not in wav.scp",
        f"wav.scp:1: utterance '{u[0]}' is not in utt2spk",
        f"utt2emo:1: unknown emotion 'furious' of '{u[0]}', expected one of: angry",
        "utt2emo:8: utterance 'x' is not in wav.scp",
        f"wav.scp:2: utterance '{u[1]}' is not in utt2emo or utt2votes",
        f"utt2votes:1: {u[2]}: votes 'sad=-1': a count must be finite and >= 0",
        f"utt2votes:2: {u[3]}: votes 'angry=0 sad=0' sum to zero",
        f"utt2votes:3: {u[4]}: unknown emotion 'joy'",
        f"spk2utt:1: utterance '{u[0]}' of speaker 's1'",
    ):
        assert expected in message
    assert "11 fault(s)" in message  # the seventh label has no audio either


@pytest.mark.parametrize(
    "table, line, message",
    [
        ("segments", "s0-u0 s0-u0 0.4 0.1", "segments:1: s0-u0: segment"),
        ("segments", "s0-u0 s0-u0 zero one", "segments:1: s0-u0: segment"),
        ("segments", "s0-u0 radio 0 1", "segments:1: recording 'radio'"),
        ("text", "who words", "text:1: utterance 'who' is not in wav.scp"),
        ("utt2agreement", "who 1", "utt2agreement:1: utterance 'who'"),
        ("utt2votes", "s0-u0 sad=nan", "utt2votes:1: .*finite"),
        ("utt2votes", "s0-u0 sad=two", "utt2votes:1: .*'two' is not a number"),
        ("utt2votes", "s0-u0 sad", "utt2votes:1: .*<emotion>=<count>"),
        ("utt2votes", "s0-u0 sad=1 sad=1", "utt2votes:1: .*occurs twice"),
    ],
)
def test_a_fault_of_an_optional_table_is_named(corpus, table, line, message):
    corpus.table(table, [line])
    with pytest.raises(ValueError, match=message):
        DataDirectory.read(corpus.path, EMOTIONS)


def test_an_id_that_cannot_be_a_file_name_is_refused(corpus):
    for name in ("wav.scp", "utt2spk", "utt2emo"):
        corpus.table(name, ["../s0-u0 x"])
    with pytest.raises(ValueError, match=r"'/' in '\.\./s0-u0'"):
        DataDirectory.read(corpus.path)


def test_empty_lines_and_bytes_that_are_no_text_are_refused(corpus):
    (corpus.path / "text").write_bytes(b"s0-u0 a\n\ns0-u1 \xff\n")
    with pytest.raises(ValueError, match="(?s)text:2: empty line.*text:3: not UTF-8"):
        DataDirectory.read(corpus.path, EMOTIONS)


def test_a_byte_order_mark_is_no_part_of_the_first_id_or_name(corpus):
    plain = DataDirectory.read(corpus.path, EMOTIONS)
    corpus.table("text", ["s0-u0 words"])
    for name in ("wav.scp", "utt2spk", "utt2emo", "text"):
        (corpus.path / name).write_text(
            (corpus.path / name).read_text(), encoding="utf-8-sig"
        )
    corpus.emotions_file.write_text("angry\nhappy\nsad\n", encoding="utf-8-sig")
    marked = DataDirectory.read(corpus.path, read_emotions(corpus.emotions_file))
    assert marked.wav == plain.wav and marked.text == {"s0-u0": "words"}
    assert marked.lines["wav.scp"]["s0-u0"] == 1


def test_a_table_in_utf_16_is_named_once(corpus):
    table = corpus.path / "text"
    table.write_text("s0-u0 words\ns0-u1 words\n", encoding="utf-16")
    with pytest.raises(ValueError, match="text:1: UTF-16, expected UTF-8.*iconv") as e:
        DataDirectory.read(corpus.path, EMOTIONS)
    assert "1 fault" in str(e.value)


@pytest.mark.parametrize(
    "name", ["utt2spk.bak", "utt2spk~", "utt2emo.orig", "utt2spk (copy)", "utt2spk_old"]
)
def test_copies_beside_the_tables_are_passed_over_with_a_word(corpus, caplog, name):
    corpus.table("utt2num_frames", ["s0-u0 5"])
    corpus.table(name, ["nobody x", "nobody y"])
    data = DataDirectory.read(corpus.path, EMOTIONS)
    assert [*data.extra] == ["utt2num_frames"]
    assert f"1 files passed over that are no tables by their names: {name}" in (
        caplog.text
    )


@given(st.text("aé-", min_size=1, max_size=300))
def test_an_id_is_refused_where_its_file_could_not_be_written(name):
    longest = 255 - len(f".{AUDIO_SUFFIX}.01234567.part")
    assert bool(id_fault(name)) == (len(name.encode()) > longest)


def test_the_longest_id_can_be_written_and_a_longer_one_is_refused(corpus, tmp_path):
    with atomic_write(tmp_path / f"{'x' * MAX_ID}{AUDIO_SUFFIX}") as stream:
        stream.write("")
    for name in ("wav.scp", "utt2spk", "utt2emo"):
        corpus.table(name, [f"{'x' * (MAX_ID + 1)} x"])
    with pytest.raises(ValueError, match=f"wav.scp:1: id .* at most {MAX_ID}"):
        DataDirectory.read(corpus.path)


def test_a_missing_table_and_a_missing_directory_are_named(corpus):
    (corpus.path / "utt2spk").unlink()
    (corpus.path / "utt2emo").unlink()
    with pytest.raises(FileNotFoundError, match="missing utt2spk, utt2emo"):
        DataDirectory.read(corpus.path, EMOTIONS)
    with pytest.raises(FileNotFoundError, match="no such data directory"):
        DataDirectory.read(corpus.path / "gone", EMOTIONS)


def test_validate_finds_missing_audio_and_commands(corpus):
    first, second, *_ = corpus.utterances
    corpus.audio[second].unlink()
    corpus.table("wav.scp", [f"{first} cat x |", *corpus.lines("wav.scp")[1:]])
    data = DataDirectory.read(corpus.path, EMOTIONS)
    with pytest.raises(ValueError, match="(?s)wav.scp:1: .*refused.*wav.scp:2: .*miss"):
        data.validate(EMOTIONS)
    with pytest.raises(ValueError, match="1 fault"):
        data.validate(EMOTIONS, allow_pipe=True)


def test_a_subset_leaves_nothing_of_the_others(corpus, tmp_path):
    corpus.table("utt2agreement", [f"{u} 0.9" for u in corpus.utterances])
    data = DataDirectory.read(corpus.path, EMOTIONS).subset(["s2-u1"])
    data.write(tmp_path / "one")
    for file in (tmp_path / "one").iterdir():
        assert len(file.read_text().splitlines()) == 1, file
    assert DataDirectory.read(tmp_path / "one", EMOTIONS).utterances == ["s2-u1"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("angry\nvery sad\n", "emotions:2: 'very sad', expected one emotion"),
        ("angry\nangry\n", "emotions:2: emotion 'angry' occurs twice"),
        ("angry\n", "1 emotions, expected at least two"),
        ("angry\n-\n", "emotions:2: '-', expected an emotion name that does not beg"),
    ],
)
def test_a_faulty_class_order_is_refused(tmp_path, text, message):
    (tmp_path / "emotions").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_emotions(tmp_path / "emotions")


def test_votes_survive_writing_and_ties_have_no_majority():
    votes = np.array([0.1, 0, 1e6 + 0.5])
    np.testing.assert_array_equal(
        parse_votes(format_votes(votes, EMOTIONS), EMOTIONS), votes
    )
    assert majority(votes, EMOTIONS) == "sad"
    assert majority(np.array([1, 1, 0]), EMOTIONS) is None
