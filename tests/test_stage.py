"""Restartable stages: done, stale, missing."""

import logging
import shutil

import pytest

from emoq_plugin.stage import Stage


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train").write_text("u1\n")
    (tmp_path / "test").write_text("u2\n")
    return tmp_path


def stage(folder, **settings):
    inputs = [folder / "train", folder / "test"]
    return Stage(folder / "out", inputs=inputs, settings=settings)


def test_a_stage_is_done_when_it_has_finished(folder, caplog):
    first = stage(folder, size=4)
    assert not first.is_done()
    first.start()
    assert not first.is_done()
    first.finish(clips=3)
    with caplog.at_level(logging.INFO):
        assert stage(folder, size=4).is_done()
    assert "nothing to do" in caplog.text


def test_a_changed_setting_makes_it_stale_and_is_told(folder, caplog):
    stage(folder, size=4, seed=0).finish()
    with caplog.at_level(logging.INFO):
        assert not stage(folder, size=8, seed=0).is_done()
    assert "size: 4 -> 8" in caplog.text
    assert "seed" not in caplog.text


def test_a_changed_input_makes_it_stale_and_is_told(folder, caplog):
    stage(folder).finish()
    (folder / "test").write_text("u3\n")
    with caplog.at_level(logging.INFO):
        assert not stage(folder).is_done()
    assert "/test" in caplog.text
    assert "/train" not in caplog.text


def test_inputs_that_changed_places_make_it_stale(folder):
    stage(folder).finish()
    (folder / "train").write_text("u2\n")
    (folder / "test").write_text("u1\n")
    assert not stage(folder).is_done()


def test_a_moved_experiment_stays_done(folder, tmp_path_factory):
    stage(folder, size=4).finish()
    moved = tmp_path_factory.mktemp("moved") / "here"
    shutil.copytree(folder, moved)
    assert stage(moved, size=4).is_done()


def test_starting_withdraws_the_marker(folder):
    stage(folder).finish()
    stage(folder).start()
    assert not stage(folder).is_done()


def test_a_stage_on_a_stage_is_stale_when_the_first_is_done_again(folder):
    def second():
        return Stage(folder / "units", inputs=[folder / "out"])

    stage(folder, size=4).finish()
    second().finish()
    assert second().is_done()
    stage(folder, size=8).finish()
    assert not second().is_done()


def test_a_missing_input_says_that_the_earlier_stage_comes_first(folder):
    (folder / "train").unlink()
    with pytest.raises(FileNotFoundError, match="train is missing: run the earlier"):
        stage(folder)


def test_an_unfinished_input_says_that_the_earlier_stage_comes_first(folder):
    stage(folder).start()
    with pytest.raises(FileNotFoundError, match="out has no finished result"):
        Stage(folder / "units", inputs=[folder / "out"])


def test_jobs_have_markers_of_their_own(folder):
    def job(number):
        return Stage(
            folder / "out", settings={"job": number}, marker=f".done.{number}.json"
        )

    job(1).finish()
    assert job(1).is_done()
    assert not job(2).is_done()
    assert not Stage(folder / "out").is_done()
