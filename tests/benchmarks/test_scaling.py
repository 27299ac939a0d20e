"""The plans of docs/scaling.md: printed from constants, by formulas that hold."""

import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scaling
from emoq_plugin.files import read_json
from tests.integration.test_faults import EMOTIONS, Experiment

PAGE = Path(__file__).parents[2] / "docs/scaling.md"


def options(*arguments):
    return scaling.get_parser().parse_args(arguments)


def test_the_page_holds_what_the_command_prints(capsys):
    scaling.main(["plan"])
    page = PAGE.read_text(encoding="utf-8")
    shown = page.partition(scaling.BEGIN)[2].partition(scaling.END)[0]
    assert shown == f"\n{capsys.readouterr().out}\n"
    assert "1,000 hours" in shown and "100,000 hours" in shown


def test_a_page_is_updated_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{scaling.BEGIN}old\n{scaling.END}after\n")
    scaling.main(["plan", "--update", str(page)])
    text = page.read_text()
    assert text.startswith("# Before\n") and text.endswith(f"{scaling.END}after\n")
    assert "old" not in text and "### 1,000 hours" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="page.md: expected .*begin of the plan"):
        scaling.main(["plan", "--update", str(page)])


def test_expected_seconds_are_the_mean_over_random_failures():
    random, work, start, mean_time = np.random.default_rng(0), 50.0, 10.0, 40.0
    seconds = np.zeros(20_000)
    running = np.ones(len(seconds), bool)
    while running.any():
        failure = random.exponential(mean_time, size=len(seconds))
        seconds[running] += np.minimum(failure, work + start)[running]
        running &= failure < work + start
    expected = scaling.expected_seconds(work, start, mean_time)
    assert seconds.mean() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("start", "mean_time"), [(10, 86400), (60, 3.6e6), (1, 3600)])
def test_no_other_length_of_jobs_loses_much_less(start, mean_time):
    def loss(length):
        return scaling.expected_seconds(length, start, mean_time) / length

    best = scaling.young(start, mean_time)
    others = [loss(best * factor) for factor in np.geomspace(0.1, 10, 41)]
    assert loss(best) - 1 < 1.02 * (min(others) - 1)
    assert loss(best / 5) - 1 > 2 * (loss(best) - 1) < loss(best * 5) - 1


def test_costs_are_separated_from_starts():
    def taken(hours):
        # 5 s to start, 100 s an hour, half of them waiting; in stage 4 beside them two
        # passes of 30 s an hour.
        metadata = {"wall": 10 + 100 * hours, "cpu": 5 + 50 * hours, "peak_mb": 700.0}
        learn = metadata | {"wall": 10 + 160 * hours, "cpu": 5 + 80 * hours}
        names = ("format", "dump", "learn", "units", "probe")
        return {
            **dict.fromkeys(names, metadata),
            "learn": learn,
            "passes": [30 * hours] * 2,
            "hours": hours,
            "training_hours": hours,
            "bytes": dict.fromkeys(names, 1000 + 10**6 * hours),
        }

    found = scaling.constants_of(taken(0.1), taken(0.4))
    assert found.keys() == scaling.STAGES.keys()
    expected = {"wall": 100, "cpu": 50, "start": 5, "bytes": 1e6, "peak_mb": 700}
    assert found["dump"] == pytest.approx(expected)
    assert found["once"] == pytest.approx(expected | {"bytes": 0})
    a_pass = {"wall": 30, "cpu": 15, "start": 0, "bytes": 0}
    assert found["pass"] == pytest.approx(expected | a_pass)


def test_a_plan_adds_up():
    given = options("plan", "--learn_hours", "50", "--passes", "10")
    hour = {"cpu": 36.0, "bytes": 1e6, "start": 10.0}
    small = scaling.steps(dict.fromkeys(scaling.STAGES, hour), 10, given)
    assert len(small) == 6  # all hours are learned from
    table = scaling.steps(dict.fromkeys(scaling.STAGES, hour), 100, given)
    assert [round(metadata["core_hours"], 6) for metadata in table.values()] == [
        *(1, 1),
        1 + 10,
        0.5 + 5,
        0.5 + 5 + 5,  # encoded again in each pass
        *(1, 1),
    ]
    assert table["3 features"]["disk_gb"] == pytest.approx(0.1)


def test_a_measurement_makes_the_constants_of_a_plan(tmp_path, monkeypatch, capsys):
    """The commands run in this process, with a small filter bank for the network."""
    corpus = Experiment(tmp_path, None)
    corpus.make()
    monkeypatch.chdir(tmp_path)
    first = scaling.choose_clips(tmp_path / "data")[:6]
    assert {(u[3:-1], u[1] in "01") for u in first} == {
        (emotion, train) for emotion in EMOTIONS for train in (True, False)
    }
    config = tmp_path / "fbank.yaml"
    monkeypatch.setattr(scaling, "network", lambda folder: config)

    count = itertools.count(1)

    def run(command, *arguments, cwd):
        module = importlib.import_module(f"emoq_plugin.bin.{command}")
        module.main([str(argument) for argument in arguments])
        seconds = float(next(count))  # more from call to call
        return {"wall": seconds, "cpu": seconds, "peak_mb": 500.0}

    monkeypatch.setattr(scaling, "run", run)
    monkeypatch.setattr(scaling, "RATE", "4x2")
    output = tmp_path / "constants.json"
    sizes = ["--smallest", "18", "--network_clips", "24", "--output", str(output)]
    scaling.main(["measure", "--data", "data", *sizes])
    constants = read_json(output)
    assert set(constants["encoders"]) == {"log-mel", "base network"}
    for encoder in constants["encoders"].values():
        assert encoder["stages"].keys() == scaling.STAGES.keys()
        assert encoder["stages"]["dump"]["bytes"] > 0
        assert encoder["stages"]["pass"]["wall"] > 0
        assert all(map(math.isfinite, encoder["stages"]["units"].values()))
    capsys.readouterr()
    scaling.main(["plan", "--constants", str(output), "--hours", "10"])
    assert "### 10 hours" in capsys.readouterr().out


def test_a_command_that_fails_says_what_it_said(tmp_path):
    with pytest.raises(RuntimeError, match="the following arguments are required"):
        scaling.run("format_data", cwd=tmp_path)
