"""Sweeps: what is submitted, waited for and reported; without real jobs."""

import os
import shutil
import signal
import threading
import time

import pytest

from emoq_plugin.recipe.study import sweep

TASK = ["python3", "study"]
SUBMIT_AND_DIE = """
echo "Submitted batch job 77" >$(dirname $2)/q/study.log
kill -9 $$"""


class Lost:
    """A study that lacks two jobs, and scripts that act for launchers and queues."""

    def __init__(self, place, folder):
        self.study, self.folder = place.study(), folder
        self.jobs = self.study.jobs()
        self.lost = self.jobs[1:3]
        self.markers = [self.study.marker(job) for job in self.lost]

    def hide(self):
        for marker in self.markers:
            marker.rename(marker.with_name("hidden"))

    def restore(self):
        for marker in self.markers:
            if not marker.exists():
                marker.with_name("hidden").rename(marker)

    def script(self, name, text):
        """Make a script, in which `do the jobs` makes them done."""
        moves = "; ".join(f"mv {m.with_name('hidden')} {m}" for m in self.markers)
        path = self.folder / name
        text = text.replace("do the jobs", moves).replace("FOLDER", str(self.folder))
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def run(self, launcher):
        sweep.run_missing(self.study, self.jobs, launcher=[launcher], task=TASK)


@pytest.fixture
def lost(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "SECONDS", 0.02)
    monkeypatch.setattr(sweep, "QUEUE_SECONDS", 0.02)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = Lost(finished, tmp_path)
    found.hide()
    yield found
    found.restore()
    shutil.rmtree(found.study.output / "log", ignore_errors=True)


def test_only_missing_jobs_are_submitted_under_names_that_stay(lost):
    launcher = lost.script("launcher", 'echo "$@" >>FOLDER/calls; do the jobs')
    lost.run(launcher)
    options = (lost.folder / "calls").read_text().split()
    assert options[0] == "JOB=1:2" and options[1].endswith("/study.JOB.log")
    assert options[2:4] == TASK and options[-2:] == ["--job", "JOB"]
    names = lost.folder / options[options.index("--jobs") + 1]
    assert names.read_text().split() == [job.name for job in lost.lost]
    assert sweep.read_job_name(names, 2) == lost.lost[1].name
    with pytest.raises(ValueError, match="jobs: --job 3, expected 1 to 2"):
        sweep.read_job_name(names, 3)
    lost.run("false")  # nothing is missing now: nothing is submitted
    # Tasks of the first array may still read their file when there is a second one.
    lost.hide()
    lost.run(launcher)
    calls = (lost.folder / "calls").read_text().splitlines()
    assert len(calls) == 2 and calls[0] != calls[1]
    assert names.read_text().split() == [job.name for job in lost.lost]


def test_jobs_that_fail_are_reported_with_what_their_logs_say(lost, caplog):
    text = 'echo "ERROR: the disk is full" >${2/JOB/1}; exit 1'
    with pytest.raises(ValueError, match="2 of 2 jobs are not done: .*same command"):
        lost.run(lost.script("launcher", text))
    assert f"{lost.lost[0].name} has not been run, or has failed" in caplog.text
    assert "study.1.log says:\nERROR: the disk is full" in caplog.text
    assert "study.2.log says: (no such file" in caplog.text


def test_jobs_that_outlive_their_call_are_waited_for(lost, caplog):
    launcher = lost.script("launcher", "(sleep 0.5; do the jobs) & exit 1")
    with pytest.raises(ValueError, match="not done"):
        lost.run(launcher)
    lost.run("false")
    assert "jobs of an earlier call" in caplog.text


def test_an_array_in_the_queue_is_waited_for(lost, caplog):
    lost.script("launcher", SUBMIT_AND_DIE)
    with pytest.raises(ValueError, match="not done"):
        lost.run("launcher")
    answers = """
        echo x >>FOLDER/asked
        case $(wc -l <FOLDER/asked) in
            1) echo "  77 R" ;;
            2) echo "slurm_load_jobs error: Unable to contact controller" >&2; exit 1 ;;
            3) echo "  77 R" ;;
            4) do the jobs; echo "slurm_load_jobs error: Invalid job id specified" >&2
               exit 1 ;;
        esac"""
    lost.script("squeue", answers)
    lost.run("false")
    assert "submitted array 77: waiting" in caplog.text
    assert "Unable to contact controller" in caplog.text
    # An array that is known to have ended is not asked for again.
    for _ in range(2):
        lost.hide()
        lost.run(lost.script("launcher", "do the jobs"))
        assert (lost.folder / "asked").read_text().split() == ["x"] * 5


def test_without_slurm_an_array_of_slurm_is_not_doubled(lost, monkeypatch):
    lost.script("launcher", SUBMIT_AND_DIE)
    with pytest.raises(ValueError, match="not done"):
        lost.run("launcher")
    monkeypatch.setenv("PATH", str(lost.folder))
    with pytest.raises(ValueError, match="array 77 .* no squeue"):
        lost.run("false")
    lost.restore()
    lost.run("false")  # with nothing to do there is nothing to ask


@pytest.fixture
def heeds_interrupts():
    # A shell ignores SIGINT for what it starts in the background, as tests may be.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_launcher_and_frees_the_study(lost, number):
    text = "trap 'echo stopped >FOLDER/heard; exit 2' TERM; touch FOLDER/began"
    launcher = lost.script("launcher", f"{text}; while true; do sleep 0.1; done")

    def send():
        while not (lost.folder / "began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedError, match="the same command goes on"):
        lost.run(launcher)
    sender.join()
    assert (lost.folder / "heard").exists()
    assert signal.getsignal(signal.SIGTERM) == before
    lost.run(lost.script("launcher", "do the jobs"))


def test_an_input_that_changed_makes_its_jobs_missing(finished, tmp_path):
    study = finished.study()
    job, other = study.jobs("s0/fold1")[0], study.jobs("s0/fold2")[0]
    part = study.folds / "1" / "valid"
    kept = part.read_text()
    part.write_text("")
    assert "not up to date" in study.why_undone(job)
    assert study.why_undone(other) is None
    part.write_text(kept)
    assert study.why_undone(job) is None
    labels = tmp_path / "phones"
    labels.mkdir()
    (labels / "a.lablaut").write_text("x")
    labelled = finished.study("--alignments", labels)
    assert "not up to date" in labelled.why_undone(other)
