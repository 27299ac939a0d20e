"""The form of scores.json and summary.json: read back as written, or refused."""

import json

import pytest

from emoq_plugin.evaluation.results import Results
from tests.evaluation.small_experiment import score, study


@pytest.fixture
def results(tmp_path):
    return score(tmp_path, study(), command="./run.sh", config={"feature": {"rate": 1}})


def test_results_are_read_back_as_written(results, tmp_path):
    results.write(tmp_path / "scores.json")
    assert Results.read(tmp_path / "scores.json") == results


def change(name, value):
    def edit(content):
        *path, last = (int(p) if p.isdigit() else p for p in name.split("/"))
        for part in path:
            content = content[part]
        content[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("version", 1), r"version 1, expected 2: run the stage .*\(6 for"),
        (lambda c: c.pop("version"), "results of version None, expected 2"),
        (lambda c: c.pop("corpus"), "'corpus' is missing, found"),
        (change("tag", "x"), "unknown entry 'tag', expected"),
        (change("synthetic", "no"), "synthetic is 'no', expected bool"),
        (change("scores", {}), "scores is {}, expected list"),
        (change("scores/1", 3), r"scores\[1\]: found 3, expected an object"),
        (change("scores/1/rate", 64), r"scores\[1\]: rate is 64, expected str"),
        (lambda c: c["best"][0].pop("role"), r"best\[0\]: 'role' is missing"),
    ],
)
def test_another_form_is_refused_by_place_and_name(results, tmp_path, edit, message):
    content = json.loads(json.dumps(results.to_json()))
    edit(content)
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"scores.json.*{message}"):
        Results.read(path)


def test_what_is_not_an_object_is_refused():
    with pytest.raises(ValueError, match="x.json: found list, expected an object"):
        Results.from_json([], "x.json")
