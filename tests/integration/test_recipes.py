"""Whole recipes: the embedded one on a small size, EMO-DB on one fold."""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = [
    "--local_data_opts",
    "--n_speakers 5 --n_sentences 3",
    "--rates",
    "8x1 8x2",
    "--espnet_rate",
    "8x2",
    "--ser_args",
    "--max_epoch 2",
    "--last_fold",
    "2",
]


@pytest.fixture(scope="module")
def mini_emo(tree, call):
    result = call(tree / "run.sh", "--stage", "1", "--stop_stage", "6", *SMALL)
    assert result.returncode == 0, result.stdout[-4000:]
    return tree / "egs2" / "mini_emo" / "ser2"


def test_the_embedded_recipe_ends_in_scores_and_results(mini_emo):
    exp = mini_emo / "exp" / "fbank_level"
    scores = json.loads((exp / "scores.json").read_text())
    page = (exp / "RESULTS.md").read_text()
    assert scores["synthetic"] is True and "SYNTHETIC" in page
    assert {"continuous/retrained", "8x2/balanced/espnet"} <= set(scores["arms"])
    rates = scores["arms"]["8x1/balanced/retrained"]["bitrate_bps"]
    assert rates["nominal"] == 150.0 and 0 < rates["entropy"] < 200.0
    assert page.index("upper bound") < page.index("| balanced RVQ")


def test_a_second_call_does_nothing_and_says_so(mini_emo, tree, call):
    files = sorted((mini_emo / "exp").rglob("*.json*"))
    before = {path: path.stat().st_mtime_ns for path in files}
    result = call(tree / "run.sh", "--stage", "1", "--stop_stage", "6", *SMALL)
    assert result.returncode == 0, result.stdout[-4000:]
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert result.stdout.count("2 of 2 jobs found their result up to date") == 5


def test_an_option_that_does_not_exist_is_refused(tree, call):
    result = call(tree / "run.sh", "--no_such_option", "1")
    assert result.returncode != 0
    assert "invalid option --no_such_option" in result.stdout


@pytest.mark.parametrize("place", ["where the user stands", "recipe", "repository"])
def test_a_config_is_looked_up_where_the_user_stands_then_in_the_recipe(
    tree, call, tmp_path, monkeypatch, place
):
    recipe = tree / "egs2" / "mini_emo" / "ser2"
    folder = {"where the user stands": tmp_path, "recipe": recipe, "repository": tree}
    path = folder[place] / "conf" / "features" / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("encoder: no_such_encoder\n")
    monkeypatch.chdir(tmp_path)
    options = ["--stage", "3", "--stop_stage", "3", "--set_name", "none"]
    found = call(
        recipe / "run.sh", *options, "--feature_config", "conf/features/mine.yaml"
    )
    path.unlink()
    assert "no_such_encoder" in found.stdout


@pytest.mark.parametrize("name", ["feature", "quantizer", "probe", "ser", "study"])
def test_a_config_that_is_nowhere_is_told_before_any_stage(tree, call, name):
    result = call(tree / "run.sh", f"--{name}_config", "conf/none.yaml")
    assert result.returncode == 2
    assert "conf/none.yaml is missing: no such file, seen from" in result.stdout
    known = {"feature": "fbank", "quantizer": "level", "study": "quick"}
    assert known.get(name, "probe transformer") in result.stdout
    assert "Stage 1" not in result.stdout


def test_a_stage_whose_earlier_stage_is_missing_says_which_to_run(tree, call):
    options = ["--stage", "5", "--stop_stage", "5", "--tag", "never_learned", *SMALL]
    result = call(tree / "run.sh", *options)
    assert result.returncode != 0
    assert re.search(r"never_learned.*run the earlier stage first", result.stdout)


def test_emodb_without_a_path_says_where_to_get_it(tree, call):
    result = call(tree / "egs2" / "emodb" / "ser2" / "run.sh", EMODB="")
    assert result.returncode != 0 and "Burkhardt" in result.stdout


def test_emodb_runs_on_one_fold_of_real_speech(tree, call):
    corpus = Path(os.environ.get("EMODB") or ROOT.parent / "shared" / "data" / "emodb")
    if not corpus.is_dir():
        pytest.skip("EMO-DB is not here: set EMODB to the corpus directory")
    arms = "balanced specific-distortion specific-random"
    result = call(
        tree / "egs2" / "emodb" / "ser2" / "run.sh",
        *["--last_fold", "1", "--rates", "16x1", "--arms", arms],
        *["--ser_backend", "probe"],
        EMODB=str(corpus),
    )
    assert result.returncode == 0, result.stdout[-4000:]
    exp = tree / "egs2" / "emodb" / "ser2" / "exp" / "fbank_level"
    arms = json.loads((exp / "scores.json").read_text())["arms"]
    routed = arms["16x1/specific-distortion/retrained"]["macro_f1"]["mean"]
    assert routed > arms["16x1/specific-random/route"]["macro_f1"]["mean"]
    assert routed > 0.4  # four classes: chance is 0.25
