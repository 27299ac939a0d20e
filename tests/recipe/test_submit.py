"""Jobs of a study through submitit, on its local executor."""

import signal
import time

import psutil
import pytest

from emoq_plugin.files import read_json
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.recipe.study.submit import submit_missing

submitit = pytest.importorskip("submitit")


@pytest.fixture
def executor(tmp_path):
    found = submitit.AutoExecutor(tmp_path / "%j", cluster="local")
    found.update_parameters(timeout_min=10)
    return found


def test_submitted_jobs_are_those_of_stage_7(make_place, finished, executor):
    place = make_place()
    study = Study.of_recipe(place.config, place.here)
    assert study.jobs() == finished.study().jobs()
    [first] = submit_missing(study, executor, only="s0/fold1")
    assert first.result() == study.jobs()[0].name
    rest = submit_missing(study, executor)
    assert [job.result() for job in rest] == [job.name for job in study.jobs()[1:]]
    assert submit_missing(study, executor) == []
    assert not any(map(place.study().why_undone, study.jobs()))
    place.call("--aggregate")
    scores = [read_json(p.output / "summary.json")["scores"] for p in (place, finished)]
    assert scores[0] == scores[1]


def test_a_job_that_is_interrupted_is_submitted_again(make_place, executor):
    place = make_place()
    study = Study.of_recipe(place.config, place.here)
    [job] = submit_missing(study, executor, only="s0/fold1")
    begun = place.output / "toy-fbank-tiny-s0" / "fold1"
    end = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < end:
        time.sleep(0.01)
    [task] = psutil.Process(job._process.pid).children()
    task.send_signal(signal.SIGUSR2)  # as Slurm does before the limit
    assert job.result() == study.jobs()[0].name
    assert "Requeued job" in job.stdout() + job.stderr()
    assert not study.why_undone(study.jobs()[0])
