"""Folds: speaker-disjoint, complete, balanced, deterministic, checked on reading."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoq_plugin.data.folds import (
    Fold,
    check_speaker_disjoint,
    read_fold,
    read_folds,
    speaker_folds,
    write_folds,
)


def corpus(sizes):
    return {f"s{s}-{u}": f"s{s}" for s, n in enumerate(sizes) for u in range(n)}


@given(
    st.lists(st.integers(1, 9), min_size=4, max_size=15),
    st.integers(2, 4),
    st.integers(0, 1),
)
def test_folds_are_disjoint_and_test_every_speaker_once(sizes, n_folds, n_valid):
    speaker = corpus(sizes)
    folds = speaker_folds(speaker, n_folds=n_folds, n_valid_speakers=n_valid)
    assert len(folds) == n_folds
    for fold in folds:
        check_speaker_disjoint(fold, speaker)
        assert sorted(fold.train + fold.valid + fold.test) == sorted(speaker)
        assert len({speaker[u] for u in fold.valid}) == n_valid
    tested = list(itertools.chain.from_iterable(f.test for f in folds))
    assert sorted(tested) == sorted(speaker)
    per_fold = [len({speaker[u] for u in f.test}) for f in folds]
    assert max(per_fold) - min(per_fold) <= 1


def test_folds_do_not_depend_on_the_order_of_utterances():
    speaker = corpus([5, 3, 8, 2, 2])
    shuffled = dict(reversed(speaker.items()))
    how = {"n_folds": 3, "n_valid_speakers": 1}
    assert speaker_folds(speaker, **how) == speaker_folds(shuffled, **how)


def test_one_speaker_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"1 speaker\(s\), expected at least 2: "):
        speaker_folds(corpus([9]), n_folds=1, n_valid_speakers=0)


def test_every_test_part_mixes_the_groups():
    speaker = corpus([5, 3, 8, 2, 2, 7, 6, 1])
    gender = {f"s{n}": "f" if n < 4 else "m" for n in range(8)}
    for fold in speaker_folds(speaker, n_folds=4, n_valid_speakers=2, groups=gender):
        for part in (fold.test, fold.valid):
            assert sorted(gender[s] for s in {speaker[u] for u in part}) == ["f", "m"]


@pytest.mark.parametrize(
    "how, message",
    [
        ({"n_folds": 5, "n_valid_speakers": 0}, "n_folds=5 .* speakers, 4"),
        ({"n_folds": 1, "n_valid_speakers": 0}, "n_folds=1 should be >= 2"),
        ({"n_folds": 2, "n_valid_speakers": -1}, "n_valid_speakers=-1"),
        ({"n_folds": 4, "n_valid_speakers": 3}, "without training speakers"),
        ({"n_folds": 2, "n_valid_speakers": 0, "groups": {}}, "without a group: s0 s1"),
        (
            {
                "n_folds": 2,
                "n_valid_speakers": 0,
                "groups": {f"s{n}": "" for n in "0123"},
            },
            "without a group: s0 s1",
        ),
    ],
)
def test_impossible_folds_are_refused_with_the_numbers(how, message):
    with pytest.raises(ValueError, match=message):
        speaker_folds(corpus([1, 1, 1, 1]), **how)


def test_a_speaker_on_both_sides_is_named():
    speaker = {"a1": "a", "a2": "a", "b1": "b"}
    fold = Fold("3", ("a1",), ("b1",), ("a2",))
    with pytest.raises(
        ValueError, match=r"3/test:1: speaker 'a' \(a2\) is in test and"
    ):
        check_speaker_disjoint(fold, speaker)
    with pytest.raises(ValueError, match="utterance 'c1' is not in utt2spk"):
        check_speaker_disjoint(Fold("3", ("c1",), (), ("a1",)), speaker)


def test_folds_survive_writing_and_old_ones_go(tmp_path):
    speaker = corpus([2, 2, 2, 2])
    write_folds(tmp_path, speaker_folds(speaker, n_folds=4, n_valid_speakers=1))
    folds = speaker_folds(speaker, n_folds=2, n_valid_speakers=0)
    write_folds(tmp_path, folds)
    assert read_folds(tmp_path) == folds


def test_folds_are_read_in_numerical_order(tmp_path):
    write_folds(tmp_path, [Fold(str(n), ("a",), (), ("b",)) for n in range(11)])
    assert [f.name for f in read_folds(tmp_path)] == [str(n) for n in range(11)]


def test_a_restricted_fold_forgets_dropped_utterances():
    fold = Fold("0", ("a", "b"), ("c",), ("d",)).restricted_to(["b", "d"])
    assert fold == Fold("0", ("b",), (), ("d",))


@pytest.mark.parametrize(
    "test, message",
    [
        ("b\nb\n", "test:2: utterance 'b' is in line 1 too"),
        ("b\n\nc\n", "test:2: '', expected one utterance id"),
        ("b c\n", "test:1: 'b c', expected one utterance id"),
        ("", "test: empty"),
    ],
)
def test_a_faulty_list_is_refused_with_its_line(tmp_path, test, message):
    write_folds(tmp_path, [Fold("0", ("a",), (), ("b",))])
    (tmp_path / "0" / "test").write_text(test)
    with pytest.raises(ValueError, match=message):
        read_folds(tmp_path)


def test_folders_that_are_no_folds_are_reported(tmp_path, caplog):
    fold = Fold("1", ("a",), (), ("b",))
    write_folds(tmp_path, [fold])
    for name in ("1.bak", "01", ".hidden"):
        (tmp_path / name).mkdir()
    assert read_folds(tmp_path) == [fold]
    assert "2 folders passed over that are no folds" in caplog.text
    assert "01, 1.bak" in caplog.text and ".hidden" not in caplog.text


def test_other_names_of_folds_are_listed(tmp_path):
    for name in ("fold1", "fold2"):
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError, match="no folds.*found: fold1, fold2"):
        read_folds(tmp_path)


def test_a_list_with_a_byte_order_mark_is_read(tmp_path):
    write_folds(tmp_path, [Fold("1", ("a",), (), ("b",))])
    (tmp_path / "1" / "train").write_text("a\n", encoding="utf-8-sig")
    assert read_folds(tmp_path)[0].train == ("a",)


def test_a_missing_list_or_no_fold_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folds"):
        read_folds(tmp_path)
    (tmp_path / "0").mkdir()
    with pytest.raises(FileNotFoundError, match="0/train is missing"):
        read_folds(tmp_path)


# ------------------------------------------------------------- a fold of formatted data


SPEAKER = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
FOLD = Fold("1", ("a1", "a2"), ("b1",), ("c1",))


def test_a_fold_is_read_without_dropped_utterances(tmp_path, make_data):
    write_folds(tmp_path, [FOLD])
    kept = {u: s for u, s in SPEAKER.items() if u != "a2"}
    assert read_fold(tmp_path, "1", make_data(kept)).train == ("a1",)


def test_a_fold_of_which_nothing_is_left_is_refused(tmp_path, make_data):
    write_folds(tmp_path, [FOLD])
    with pytest.raises(
        ValueError, match="1/test: none of its utterances is in data/all"
    ):
        read_fold(tmp_path, "1", make_data({"a1": "a", "b1": "b"}))


def test_a_fold_that_does_not_exist_is_named(tmp_path, make_data):
    write_folds(tmp_path, [FOLD])
    with pytest.raises(ValueError, match="no fold '2'"):
        read_fold(tmp_path, "2", make_data(SPEAKER))


def test_a_speaker_on_both_sides_is_refused(tmp_path, make_data):
    write_folds(tmp_path, [FOLD])
    with pytest.raises(ValueError, match="speaker 'a'"):
        read_fold(tmp_path, "1", make_data(SPEAKER | {"c1": "a"}))


def test_the_fold_of_all_speakers_has_the_clips_of_every_fold_and_tests_none(
    tmp_path, make_data
):
    write_folds(tmp_path, [FOLD, Fold("2", ("c1",), (), ("a1",))])
    kept = {u: s for u, s in SPEAKER.items() if u != "a2"} | {"d1": "d"}
    found = read_fold(tmp_path, "all", make_data(kept))
    assert found == Fold("all", ("a1", "b1", "c1"), (), ())
