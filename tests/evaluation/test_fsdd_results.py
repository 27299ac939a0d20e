"""The table of the digits recipe: word errors and emotion of the same units."""

import importlib.util
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from emoq_plugin.evaluation.results import ExperimentInfo, Results, Score
from emoq_plugin.files import write_json

SCRIPT = Path(__file__).parents[2] / "egs2/fsdd/asr2/local/results.py"
SETS = {"seen": "train dev test", "unseen": "train_four dev_four test_two"}
UNITS = [
    ("balanced_64x1", "balanced", 64, 0.30, 288.1),
    ("two-scale_32x1", "balanced+clip18", 32, 0.25, 288.4),
    ("fsdd_64x1", "balanced", 64, 0.10, 288.1),
]


def score(rate, system, f1, bits):
    triple = {"mean": f1, "low": f1 - 0.1, "high": f1 + 0.1}
    return Score(
        "x",
        rate,
        system,
        "retrained",
        {"nominal": bits - 6, "side_info": 6},
        {"macro_f1": triple},
    )


@pytest.fixture
def options(tmp_path):
    """What stages 3 and 4 leave for three kinds of units."""
    exp, lines = tmp_path / "exp", []
    for name, system, size, wer, bits in UNITS:
        for split, sets in SETS.items():
            lines.append(f"{name} {split} bank {system} 1 {sets}\n")
            asr = exp / f"asr_{name}_{split}"
            card = {"stream": "single", "sizes": [size], "n_levels": 1}
            test = sets.split()[-1]
            decoded = asr / f"inference_model/{test}"
            decoded.mkdir(parents=True)
            (decoded / "text").touch()
            write_json(asr / "emoq_units.json", card)
            rate = {"mean": wer, "low": wer - 0.05, "high": wer + 0.05}
            found = {"wer": rate, "errors": round(100 * wer), "words": 100}
            write_json(decoded / "wer.json", found)
            dumped = tmp_path / "dump" / f"{name}_{split}" / "raw" / test
            write_json(dumped / "units.json", {"bits_per_second": bits})
    (exp / "experiments").write_text("".join(lines))
    scores = [score("64x1", "balanced", 0.7, 300), score("32x1", "balanced", 0.6, 250)]
    scores.append(score("32x1", "balanced+clip18", 0.8, 256.4))
    info = ExperimentInfo("x", "emodb", [], 1, 1)
    Results("x", "emodb", False, [], [info], scores).write(tmp_path / "scores.json")
    return Namespace(
        experiments=exp / "experiments", scores=tmp_path / "scores.json", command="run"
    )


@pytest.fixture
def page():
    spec = importlib.util.spec_from_file_location("fsdd_results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page


def test_every_kind_of_units_has_its_words_its_emotion_and_both_rates(page, options):
    text = page(options)
    rows = [line for line in text.splitlines() if line.startswith("| balanced")]
    wer = {x: f"{x}.0 [{x - 5}.0, {x + 5}.0] ({x}/100)" for x in (30, 25, 10)}
    assert rows == [
        "| balanced, learned on emodb | 64x1 | 288 | single "
        f"| {wer[30]} | {wer[30]} | 70.0 [60.0, 80.0] | 300 |",
        "| balanced+clip18, learned on emodb | 32x1 | 288 | single "
        f"| {wer[25]} | {wer[25]} | 80.0 [70.0, 90.0] | 256 |",
        "| balanced, learned on digits | 64x1 | 288 | single "
        f"| {wer[10]} | {wer[10]} |  |  |",
    ]
    head, dashes = text.splitlines()[2:4]
    assert {row.count("|") for row in rows} == {head.count("|"), dashes.count("|")}
    assert all(line == line.rstrip() for line in text.splitlines())


def test_units_whose_emotion_was_not_scored_are_named(page, options):
    scores = Results.read(options.scores)
    replace(scores, scores=scores.scores[:2]).write(options.scores)
    with pytest.raises(ValueError, match=r"no scores of balanced\+clip18 at 32x1"):
        page(options)
