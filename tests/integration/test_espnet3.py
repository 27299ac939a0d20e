"""The espnet3 system gives what the egs2 recipe gives."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest
import yaml

from emoq_plugin.evaluation.results import Results
from tests.integration.conftest import ROOT, recipe_environment

pytest.importorskip("espnet3")
# The same choices, in the words of either recipe.
SMALL = {
    "rates": ["8x1"],
    "systems": ["balanced", "specific-distortion"],
    "ser_backend": ["probe"],
    "last_fold": 2,
    "pack_rate": "8x1",
}
CORPUS = {"n_speakers": 5, "n_sentences": 2}
PLACES = ("data", "dump", "exp", "downloads")


def markers(recipe):
    """Return when every finished piece of work of a recipe was finished."""
    return {p: p.stat().st_mtime_ns for p in recipe.rglob(".*done*.json")}


@pytest.fixture(scope="module")
def egs3(tree):
    shutil.copytree(ROOT / "egs3", tree / "egs3")
    recipe = tree / "egs3" / "mini_emo" / "ser2"
    config = yaml.safe_load((recipe / "conf" / "training.yaml").read_text())
    config |= SMALL
    config["create_dataset"] |= CORPUS
    (recipe / "conf" / "small.yaml").write_text(yaml.safe_dump(config))
    return recipe


def run(recipe, *options):
    return subprocess.run(
        [sys.executable, "run.py", "--training_config", "conf/small.yaml", *options],
        cwd=recipe,
        env=recipe_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def both(tree, egs3, call, warm_python):
    """Run the recipe by espnet3, then, on the same audio, by the scripts."""
    made = run(egs3)
    assert made.returncode == 0, made.stdout[-4000:]
    options = [f"--{name} {value}" for name, value in CORPUS.items()]
    words = ["--python", str(warm_python), "--local_data_opts", " ".join(options)]
    for name, value in SMALL.items():
        text = " ".join(value) if isinstance(value, list) else str(value)
        words += [f"--{name}", text]
    recipe = tree / "egs2" / "mini_emo" / "ser2"
    for place in ("data", "downloads"):  # audio counts by its time
        shutil.copytree(egs3 / place, recipe / place)

    def scripts():
        return call(recipe / "run.sh", *words)

    result = scripts()
    assert result.returncode == 0, result.stdout[-4000:]
    return egs3, recipe, scripts


def test_both_recipes_have_the_same_scores_and_fingerprints(both):
    egs3, egs2, _ = both
    one, other = (
        Results.read(recipe / "exp" / "fbank_level" / "scores.json")
        for recipe in (egs3, egs2)
    )
    rows = [(score.key, score.metrics["macro_f1"]["mean"]) for score in one.scores]
    print("\n".join(f"{key:32} {100 * value:.2f}" for key, value in rows))
    assert len(rows) == 6
    assert {**asdict(one), "command": ""} == {**asdict(other), "command": ""}
    fingerprints = [
        {
            path.relative_to(recipe): json.loads(path.read_text())["fingerprint"]
            for path in markers(recipe)
        }
        for recipe in (egs3, egs2)
    ]
    assert fingerprints[0] == fingerprints[1]


def test_the_metrics_of_espnet3_are_those_of_scores_json(both):
    exp = both[0] / "exp" / "fbank_level"
    found = json.loads((exp / "infer" / "metrics.json").read_text())
    hard, soft = (
        found[f"emoq_plugin.espnet_adapters.espnet3.metrics.{name}"]
        for name in ("EmotionScores", "SoftEmotionScores")
    )
    for score in Results.read(exp / "scores.json").scores:
        condition = score.key.replace("/", "_")
        for name, ours in (("UA", "uar"), ("WA", "wa"), ("macro_F1", "macro_f1")):
            expected = 100 * score.metrics[ours]["mean"]
            assert hard[condition][name] == pytest.approx(expected, abs=0.006)
        for name, value in soft[condition].items():
            expected = score.metrics[name]["mean"]
            assert value == pytest.approx(expected, abs=1e-5)


def test_either_recipe_goes_on_in_the_folders_of_the_other(both):
    egs3, egs2, scripts = both
    for place in PLACES:
        shutil.rmtree(egs2 / place)
        shutil.copytree(egs3 / place, egs2 / place)
    before = markers(egs2)
    result = scripts()
    assert result.returncode == 0, result.stdout[-4000:]
    assert markers(egs2) == before
    before = markers(egs3)
    again = run(egs3)
    assert again.returncode == 0, again.stdout[-4000:]
    assert markers(egs3) == before


def test_a_quantizer_is_packed_and_loads(both):
    import emoq_plugin

    egs3 = both[0]
    result = run(egs3, "--stages", "pack_model")
    assert result.returncode == 0, result.stdout[-4000:]
    packed = egs3 / "exp/fbank_level/packed/8x1_specific-distortion"
    assert emoq_plugin.load(str(packed)).bank.sizes == [8]


def test_a_stage_that_does_not_exist_is_refused_with_those_that_do(egs3):
    result = run(egs3, "--stages", "collect_stats")
    assert result.returncode == 2
    assert "invalid choice: 'collect_stats'" in result.stdout
    assert "encode_units" in result.stdout


def test_what_a_job_reports_is_the_error_of_the_stage_and_its_log(egs3):
    config = yaml.safe_load((egs3 / "conf" / "small.yaml").read_text())
    config |= {"min_seconds": 50.0, "exp_tag": "none_left", "dump_dir": "short"}
    (egs3 / "conf" / "short.yaml").write_text(yaml.safe_dump(config))
    stages = ["--stages", "create_dataset", "format_data"]
    result = run(egs3, "--training_config", "conf/short.yaml", *stages)
    assert result.returncode == 1
    assert "nothing left, see short/raw/all/dropped.tsv (log: " in result.stdout
