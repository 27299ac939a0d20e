"""What the stages of an experiment share."""

from pathlib import Path

import pytest

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import Fold, write_folds
from emoq_plugin.recipe.experiment import (
    check_no_leak,
    find_bank,
    parse_rate,
    parse_rates,
    read_fold,
)
from emoq_plugin.recipe.stage import Stage

SPEAKER = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
FOLD = Fold("1", ("a1", "a2"), ("b1",), ("c1",))


def make_data(speaker=SPEAKER):
    return DataDirectory(
        Path("data/all"),
        utterances=sorted(speaker),
        wav={},
        speaker=speaker,
        emotion={},
    )


def test_levels_are_nested_so_a_bank_serves_all_its_rates():
    rates = ["64x1", "64x4", "2x24", "64x2"]
    assert parse_rates(rates) == {64: 4, 2: 24}


def test_a_rate_is_served_by_the_smallest_bank_that_has_its_levels(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the earlier stage first"):
        find_bank(tmp_path, "64x1")
    Stage(tmp_path).finish(banks=["2x24", "64x4", "64x1"])
    found = {rate: find_bank(tmp_path, rate).name for rate in ("64x1", "64x2", "2x3")}
    assert found == {"64x1": "64x1", "64x2": "64x4", "2x3": "2x24"}
    for rate in ("8x1", "64x8"):
        with pytest.raises(ValueError, match=f"{rate}, these were learned: 2x24 64x4"):
            find_bank(tmp_path, rate)


@pytest.mark.parametrize(
    "rate", ["64", "64x", "x4", "1x4", "64x0", "64X2", "-64x2", ""]
)
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match=f"rate '{rate}' is not <K>x<L>"):
        parse_rate(rate)


def test_a_fold_is_read_without_dropped_utterances(tmp_path):
    write_folds(tmp_path, [FOLD])
    kept = {u: s for u, s in SPEAKER.items() if u != "a2"}
    assert read_fold(tmp_path, "1", make_data(kept)).train == ("a1",)


def test_a_fold_of_which_nothing_is_left_is_refused(tmp_path):
    write_folds(tmp_path, [FOLD])
    with pytest.raises(
        ValueError, match="1/test: none of its utterances is in data/all"
    ):
        read_fold(tmp_path, "1", make_data({"a1": "a", "b1": "b"}))


def test_a_fold_that_does_not_exist_is_named(tmp_path):
    write_folds(tmp_path, [FOLD])
    with pytest.raises(ValueError, match="no fold '2'"):
        read_fold(tmp_path, "2", make_data())


def test_a_speaker_on_both_sides_is_refused(tmp_path):
    write_folds(tmp_path, [FOLD])
    with pytest.raises(ValueError, match="speaker 'a'"):
        read_fold(tmp_path, "1", make_data(SPEAKER | {"c1": "a"}))


def test_codebooks_learned_from_a_test_speaker_are_refused():
    check_no_leak({"training_speakers": ["a", "b"]}, FOLD, make_data(), "exp/64x1")
    with pytest.raises(ValueError, match=r"exp/64x1: fold 1 .* speaker\(s\) c that"):
        check_no_leak({"training_speakers": ["a", "c"]}, FOLD, make_data(), "exp/64x1")
    with pytest.raises(ValueError, match="does not name the training speakers"):
        check_no_leak({}, FOLD, make_data(), "exp/64x1")
