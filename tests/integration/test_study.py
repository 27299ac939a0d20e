"""Stage 7 on a clean clone: the quick study of the embedded recipe, in two calls."""

import json
import re
import shutil

import pytest

SMALL = ["--local_data_opts", "--n_speakers 5 --n_sentences 2"]
STUDY = ["--stage", "7", "--stop_stage", "7", *SMALL]


@pytest.fixture(scope="module")
def study(tree, call, warm_python):
    def run(*options):
        script = tree / "egs2" / "mini_emo" / "ser2" / "run.sh"
        result = call(script, "--python", str(warm_python), *STUDY, *options)
        assert result.returncode == 0, result.stdout[-4000:]
        return result.stdout

    run.log = run()
    run.output = tree / "egs2" / "mini_emo" / "ser2" / "exp" / "study_quick"
    return run


def test_a_study_makes_the_features_that_it_needs(study):
    assert "Stages 1 to 3 of mini_emo for 'fbank'" in study.log
    assert (study.output.parents[1] / "dump" / "fbank" / "all" / ".done.json").exists()


def test_the_summary_holds_every_job(study):
    summary = json.loads((study.output / "summary.json").read_text())
    assert summary["synthetic"] is True and summary["environment"]["espnet"]
    assert summary["missing"] == [] and summary["jobs"] == 5
    assert summary["experiments"][0]["n_speakers"] == 5
    systems = {s["system"] for s in summary["scores"]}
    assert {"balanced", "specific-distortion", "balanced+specific-distortion"} < systems
    assert summary["scores"][0]["ambiguity"]  # the corpus has votes
    assert re.search(r"run.sh .*--stage 7", summary["command"])


def test_finished_jobs_are_not_done_again_and_lost_ones_are_named(study):
    shutil.rmtree(study.output / "mini_emo-fbank-level-s0" / "fold2")
    log = study("--study_only", "fold1")
    assert "all 1 jobs are done already" in log
    summary = json.loads((study.output / "summary.json").read_text())
    assert [m["job"] for m in summary["missing"]] == ["mini_emo-fbank-level-s0/fold2"]
    assert "4 of 5 jobs are done already" in study()
    assert json.loads((study.output / "summary.json").read_text())["missing"] == []


def test_a_study_without_its_corpora_says_which_are_missing(tree, call, study):
    config = tree / "conf" / "study" / "paper.yaml"
    script = tree / "egs2" / "mini_emo" / "ser2" / "run.sh"
    variables = dict.fromkeys(("ESD", "IEMOCAP", "RAVDESS", "CREMA_D"), "")
    result = call(script, *STUDY, "--study_config", str(config), **variables)
    assert result.returncode != 0
    assert "no path of esd: set ESD" in result.stdout
    assert re.search(
        r"no job can run: .*'hubert_large' of esd \(.*jl_corpus", result.stdout
    )
