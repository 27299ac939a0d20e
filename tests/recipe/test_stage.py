"""Restartable stages: done, stale, missing."""

import errno
import fcntl
import logging
import os
import shutil
import subprocess
import sys

import pytest

from emoq_plugin import learning, units
from emoq_plugin.recipe.stage import FinishedMeanwhile, Stage

HOLDER = """
import sys
from emoq_plugin.recipe.stage import Stage
stage = Stage(sys.argv[1], settings={"size": 4}, marker=sys.argv[2])
assert not stage.is_done()
stage.start()
print("started", flush=True)
sys.stdin.readline()
stage.finish()
"""
PROBE = """
import fcntl
import sys
from emoq_plugin.recipe.stage import Stage
lockf = fcntl.lockf
fcntl.lockf = lambda lock, how, *place: lockf(lock, how | fcntl.LOCK_NB, *place)
Stage(sys.argv[1], marker=sys.argv[2]).hold()
"""


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


def test_a_changed_setting_makes_it_stale_and_is_reported(folder, caplog):
    stage(folder, size=4, seed=0).finish()
    with caplog.at_level(logging.INFO):
        assert not stage(folder, size=8, seed=0).is_done()
    assert "size: 4 -> 8" in caplog.text
    assert "seed" not in caplog.text


def test_a_changed_input_makes_it_stale_and_is_reported(folder, caplog):
    stage(folder).finish()
    (folder / "test").write_text("u3\n")
    with caplog.at_level(logging.INFO):
        assert not stage(folder).is_done()
    assert "/test" in caplog.text
    assert "/train" not in caplog.text


def test_corrected_code_makes_it_stale_and_is_reported(folder, caplog, monkeypatch):
    def made():
        return Stage(folder, code=[learning, units])

    made().finish()
    assert made().is_done()
    monkeypatch.setattr(learning, "VERSION", learning.VERSION + 1)
    with caplog.at_level(logging.INFO):
        assert not made().is_done()
    assert "code: {'learning': 1, 'units': 1} -> {'learning': 2" in caplog.text


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


@pytest.fixture
def other():
    """Return a function that starts a stage in another process."""
    running = []

    def begin(folder, marker=".done.json"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), marker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout.readline() == "started\n"
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def is_held(folder, marker=".done.json"):
    """Return whether a stage would have to wait, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(folder), marker],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "BlockingIOError" in done.stderr, done.stderr
    return done.returncode != 0


def test_a_second_process_finds_the_work_of_the_first_finished(folder, other, caplog):
    process = other(folder / "out")
    waiting = Stage(folder / "out", settings={"size": 4})
    assert not waiting.is_done() and is_held(folder / "out")
    process.stdin.write("\n")
    process.stdin.flush()
    with pytest.raises(FinishedMeanwhile):
        waiting.start()
    assert waiting.is_done()


def test_a_second_process_with_other_settings_waits_and_does_its_own(folder, other):
    process = other(folder / "out")
    waiting = Stage(folder / "out", settings={"size": 8})
    assert not waiting.is_done()
    process.stdin.write("\n")
    process.stdin.flush()
    waiting.start()
    assert not waiting.marker.exists()


def test_a_lock_ends_with_a_killed_process(folder, other, caplog):
    process = other(folder / "out")
    assert is_held(folder / "out")
    process.kill()
    process.wait()
    assert not is_held(folder / "out")
    with caplog.at_level(logging.INFO):
        Stage(folder / "out", settings={"size": 4}).start()
    assert "waiting" not in caplog.text


def test_the_directory_excludes_its_jobs_but_jobs_not_each_other(folder, other):
    other(folder / "out", ".done.1.json")
    assert is_held(folder / "out", ".done.1.json") and is_held(folder / "out")
    assert not is_held(folder / "out", ".done.2.json")
    other(folder / "whole")
    assert is_held(folder / "whole", ".done.1.json")


def test_a_file_system_without_locks_is_reported_and_used(folder, monkeypatch, caplog):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    stage(folder).start()
    assert "no locks here (No locks available)" in caplog.text


def test_an_input_that_changes_while_it_is_read_is_refused(folder):
    running = stage(folder)
    running.start()
    (folder / "test").write_text("u3\n")
    with pytest.raises(ValueError, match="test has changed while .*out was made"):
        running.finish()
    assert not running.marker.exists()


def test_a_stage_redone_while_it_is_read_is_refused(folder):
    stage(folder, size=4).finish()
    second = Stage(folder / "units", inputs=[folder / "out"])
    second.start()
    stage(folder, size=8).start()
    with pytest.raises(ValueError, match="out has changed while"):
        second.finish()


def test_time_alone_makes_no_input_stale_nor_fresh(folder):
    stage(folder).finish()
    before = (folder / "test").stat()
    os.utime(folder / "test", (0, 2**33))
    assert stage(folder).is_done()
    (folder / "test").write_text("u3\n")
    os.utime(folder / "test", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not stage(folder).is_done()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"settings": 3, "inputs": []}'])
def test_a_damaged_marker_is_like_none(folder, content):
    stage(folder, size=4).finish()
    (folder / "out/.done.json").write_text(content)
    assert not stage(folder, size=4).is_done()
    with pytest.raises(FileNotFoundError, match="no finished result .*is damaged"):
        Stage(folder / "units", inputs=[folder / "out"])


def test_starting_removes_what_a_killed_writer_left_but_not_of_stages_within(folder):
    inner = Stage(folder / "out/inner")
    inner.start()
    for name in ("out/a/.x.json.1.part", "out/inner/.x.json.1.part", "out/x.part"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    stage(folder).start()
    left = {str(p.relative_to(folder)) for p in (folder / "out").rglob("*.part")}
    assert left == {"out/inner/.x.json.1.part", "out/x.part"}
