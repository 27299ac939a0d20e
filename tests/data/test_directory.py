"""Data directories: round trip, targets, and every fault named with its line."""

import numpy as np
import pytest

from emoq_plugin.data.directory import DataDirectory, read_emotions
from emoq_plugin.data.votes import format_votes, majority, parse_votes

EMOTIONS = ["angry", "happy", "sad"]


def test_writing_and_reading_again_gives_the_same(corpus, tmp_path):
    corpus.table("utt2votes", [f"{u} angry=1 sad=2.5" for u in corpus.utterances])
    corpus.table("utt2agreement", [f"{u} 0.9" for u in corpus.utterances])
    corpus.table("segments", [f"{u} {u} 0.1 0.25" for u in corpus.utterances])
    corpus.table("text", [f"{u} some words" for u in corpus.utterances])
    data = DataDirectory.read(corpus.path, EMOTIONS)
    data.write(tmp_path / "copy")
    again = DataDirectory.read(tmp_path / "copy", EMOTIONS)
    again.path = data.path
    votes, votes_again = data.votes, again.votes
    data.votes = again.votes = {}
    assert again == data
    for u in corpus.utterances:
        np.testing.assert_array_equal(votes_again[u], votes[u])
    spoken = (tmp_path / "copy" / "spk2utt").read_text().splitlines()
    assert spoken[0] == "s0 s0-u0 s0-u1"


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
        f"wav.scp:8: duplicate id '{u[0]}', it stands in line 1 too",
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
        ("utt2votes", "s0-u0 sad=1 sad=1", "utt2votes:1: .*stands twice"),
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
        ("angry\nangry\n", "emotions:2: emotion 'angry' stands twice"),
        ("angry\n", "1 emotions, expected at least two"),
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
