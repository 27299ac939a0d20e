"""What stages 4 to 7 read of a fold."""

from pathlib import Path

import pytest

from emoq_plugin.data.folds import Fold, write_folds
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.recipe.stages.fold_inputs import FoldInputs, check_no_leak, find_bank
from emoq_plugin.units.rates import Rate

SPEAKER = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
FOLD = Fold("1", ("a1", "a2"), ("b1",), ("c1",))


def test_a_rate_is_served_by_the_smallest_bank_that_has_its_levels(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the earlier stage first"):
        find_bank(tmp_path, Rate.parse("64x1"))
    Stage(tmp_path).finish(banks=["2x24", "64x4", "64x1"])
    found = {
        r: find_bank(tmp_path, Rate.parse(r)).name for r in ("64x1", "64x2", "2x3")
    }
    assert found == {"64x1": "64x1", "64x2": "64x4", "2x3": "2x24"}
    for rate in ("8x1", "64x8"):
        with pytest.raises(ValueError, match=f"{rate}, these were learned: 2x24 64x4"):
            find_bank(tmp_path, Rate.parse(rate))


def test_codebooks_learned_from_a_test_speaker_are_refused(make_data):
    check_no_leak(
        {"training_speakers": ["a", "b"]}, FOLD, make_data(SPEAKER), "exp/64x1"
    )
    with pytest.raises(ValueError, match=r"exp/64x1: fold 1 .* speaker\(s\) c that"):
        check_no_leak(
            {"training_speakers": ["a", "c"]}, FOLD, make_data(SPEAKER), "exp/64x1"
        )
    with pytest.raises(ValueError, match="does not name the training speakers"):
        check_no_leak({}, FOLD, make_data(SPEAKER), "exp/64x1")


def inputs(fold):
    return FoldInputs(
        data_dir=Path("raw"), emotions=Path("emotions"), folds=Path("f"), fold=fold
    )


def test_what_all_speakers_were_learned_from_is_not_tested():
    with pytest.raises(ValueError, match="--fold all: .* expected a fold of f"):
        inputs("all").open()


def test_a_stage_depends_on_the_lists_of_its_fold_or_of_all_folds(
    tmp_path, monkeypatch
):
    write_folds(tmp_path / "f", [FOLD, Fold("2", ("c1",), (), ("a1",))])
    monkeypatch.chdir(tmp_path)
    lists = [[p for p in inputs(n).files if p.parts[0] == "f"] for n in ("1", "all")]
    assert lists[0] == [Path("f/1") / part for part in ("train", "valid", "test")]
    assert set(lists[1]) == set(Path("f").glob("*/*")) and len(lists[1]) == 6
