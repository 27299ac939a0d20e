"""Whole recipes: the embedded one on a small size, EMO-DB on one fold."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

import emoq_plugin
from emoq_plugin.evaluation.results import Results
from tests.integration.conftest import printed, shrink

ROOT = Path(__file__).parents[2]
ESPNET = next(ROOT.glob(".venv/espnet-*"), os.environ.get("ESPNET_ROOT", ""))
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
def mini_emo(tree, paste):
    shrink(tree, "mini_emo", *SMALL)
    result = paste(tree, printed("README.md", "./run.sh --stage 1 --stop_stage 6"))
    assert result.returncode == 0, result.stdout[-4000:]
    (tree / "first.log").write_text(result.stdout)
    return tree / "egs2" / "mini_emo" / "ser2"


def test_the_embedded_recipe_ends_in_scores_and_results(mini_emo):
    exp = mini_emo / "exp" / "fbank_level"
    results = Results.read(exp / "scores.json")
    page = (exp / "RESULTS.md").read_text()
    assert results.synthetic is True and "SYNTHETIC" in page
    assert results.score("continuous", "continuous")
    assert results.score("8x2", "balanced", "espnet")
    rates = results.score("8x1", "balanced").bitrate_bps
    assert rates["nominal"] == 150.0 and 0 < rates["entropy"] < 200.0
    assert page.index("Continuous features: ") < page.index("| rate | bit/s | balanced")
    assert (exp / "rate_score.svg").is_file()


def test_stage_6_ends_with_the_answer_and_an_absolute_path(mini_emo, tree, call):
    result = call(tree / "run.sh", "--stage", "6", "--stop_stage", "6")
    assert result.returncode == 0, result.stdout[-4000:]
    page = (mini_emo / "exp" / "fbank_level" / "RESULTS.md").resolve()
    answer, _, end = result.stdout.partition(f"results: {page}\n")
    assert "Successfully finished" in end, result.stdout[-2000:]
    assert answer.splitlines()[-3].startswith("rate  bit/s  balanced RVQ  best Emo-Q")


def test_a_second_call_does_nothing_and_says_so(mini_emo, tree, call):
    files = sorted((mini_emo / "exp").rglob("*.json*"))
    before = {path: path.stat().st_mtime_ns for path in files}
    result = call(tree / "run.sh", "--stage", "1", "--stop_stage", "6")
    assert result.returncode == 0, result.stdout[-4000:]
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert result.stdout.count("2 of 2 jobs found their result up to date") == 5


def test_stage_9_packs_what_was_learned_on_a_fold_and_on_all_speakers(
    mini_emo, tree, call
):
    only = ["--stage", "9", "--stop_stage", "9", "--pack_rate", "8x2"]
    packed = mini_emo / "exp/fbank_level/packed"
    speakers = {}
    for name, more in (("", []), ("_all", ["--pack_fold", "all"])):
        result = call(tree / "run.sh", *only, *more)
        assert result.returncode == 0, result.stdout[-4000:]
        q = emoq_plugin.load(str(packed / f"8x2_specific-distortion{name}"))
        assert q.n_levels == 2
        speakers[name] = q.bank.card["training_speakers"]
    assert set(speakers[""]) < set(speakers["_all"]) and len(speakers["_all"]) == 5


def test_a_first_run_says_about_how_long_it_takes(mini_emo, tree):
    text = (tree / "first.log").read_text()
    expected, _, counted = text.partition("Stage 1: ")
    for part, speech in ((expected, "12"), (counted, "2")):
        assert "stages 3 to 6, never run here: about " in part
        assert f"({speech} min of speech, 2 folds, 24 conditions" in part


def test_stages_say_how_long_they_took_and_what_an_earlier_run_took(
    mini_emo, tree, call
):
    lines = (mini_emo / "exp/fbank_level/seconds.txt").read_text().splitlines()
    took = [tuple(map(int, line.split())) for line in lines]
    assert {stage for stage, _ in took} >= {1, 2, 3, 4, 5, 6}
    result = call(tree / "run.sh", "--stage", "2", "--stop_stage", "3")
    assert result.returncode == 0, result.stdout[-4000:]
    most = [max(s for stage, s in took if stage == n) for n in (2, 3)]
    said = result.stdout
    assert f"stages 2 to 3: at most {sum(most)} s in earlier runs" in said
    assert re.search(rf"Stage 3: .* \(at most {most[1]} s before\)", said)
    assert re.search(r"Successfully finished \(stage 2: \d+ s, stage 3: \d+ s\)", said)


def test_jobs_at_work_are_watched(mini_emo, tree, call, tmp_path):
    """A job that takes longer than the watch's interval is seen, and no other."""
    slow = tmp_path / "python"
    line = "2026-01-01 (learner:1) INFO: level 0, iteration 7"
    slow.write_text(
        "#!/usr/bin/env bash\n"
        f'[[ "$*" != *dump_features*--job* ]] || {{ echo "{line}" >&2; sleep 13; }}\n'
        'exec python3 "$@"\n'
    )
    slow.chmod(0o755)
    only = ["--stage", "3", "--stop_stage", "3", "--python", str(slow)]
    result = call(tree / "run.sh", *only)
    assert result.returncode == 0, result.stdout[-4000:]
    watched = re.findall(r"watch_jobs\) (.*)", result.stdout)
    expected = "; ".join(f"job {n}: level 0, iteration 7" for n in (1, 2))
    assert expected in watched, result.stdout[-3000:]


def test_the_command_on_the_page_can_be_pasted(mini_emo):
    page = (mini_emo / "exp" / "fbank_level" / "RESULTS.md").read_text()
    command = page.split("```sh\n")[1].split("\n```")[0]
    given = [*SMALL, "--stage", "1", "--stop_stage", "6"]
    assert shlex.split(command)[-len(given) :] == given


@pytest.mark.parametrize("words", ["a b", 'it\'s "$HOME"', "`x` \\ $HOME * ;", ""])
def test_the_log_shows_the_call_as_it_can_be_pasted(tree, call, words):
    recipe = tree / "egs2" / "emodb" / "ser2" / "run.sh"
    result = call(recipe, "--tag", words, "--no_such_option", "1", EMODB="/a b")
    said = result.stdout.partition(" EMODB=")[2].splitlines()[0]
    assert shlex.split("EMODB=" + said)[-4:] == [
        "--tag",
        words,
        "--no_such_option",
        "1",
    ]


@pytest.mark.parametrize(
    "words", ["a b", 'it\'s "$HOME" b', "`x` \\ $HOME * ;", "it's b"]
)
def test_arguments_pass_unchanged_through_the_launcher(tree, tmp_path, words):
    driver = tree / "egs2" / "TEMPLATE" / "ser2" / "ser2.sh"
    script = """
        . <(sed -n '/^escaped()/,/^}/p' "$1")
        run.pl "$2" printf "'%s\\\\n'" "$(escaped "$3")" && grep -v '^#' "$2"
    """
    path = f"{ESPNET}/egs2/TEMPLATE/asr1/utils:{os.environ['PATH']}"
    log = tmp_path / "job.log"
    found = subprocess.run(
        ["bash", "-c", script, "bash", str(driver), str(log), words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.removesuffix("\n") == words


def test_an_option_that_does_not_exist_is_refused(tree, call):
    result = call(tree / "run.sh", "--no_such_option", "1")
    assert result.returncode != 0
    assert "invalid option --no_such_option" in result.stdout


@pytest.mark.parametrize("place", ["where the user is", "recipe", "repository"])
def test_a_config_is_looked_up_where_the_user_is_then_in_the_recipe(
    tree, call, tmp_path, monkeypatch, place
):
    recipe = tree / "egs2" / "mini_emo" / "ser2"
    folder = {"where the user is": tmp_path, "recipe": recipe, "repository": tree}
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
def test_a_config_that_is_nowhere_is_reported_before_any_stage(tree, call, name):
    result = call(tree / "run.sh", f"--{name}_config", "conf/none.yaml")
    assert result.returncode == 2
    assert "conf/none.yaml is missing: no such file, seen from" in result.stdout
    known = {"feature": "fbank", "quantizer": "level", "study": "quick"}
    assert known.get(name, "probe transformer") in result.stdout
    assert "Stage 1" not in result.stdout


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (["--stage", "six"], "--stage: 'six', expected a whole number"),
        (["--systems", "balanced specific-distorsion"], "router 'distorsion'"),
        (
            ["--rates", "16x1", "--espnet_rate", "64x1"],
            "--espnet_rate 64x1 is not among --rates 16x1",
        ),
        (["--stop_stage", "9", "--pack_rate", "9x9"], "--pack_rate 9x9 is not learned"),
        (["--quantizer_config", "conf/no.yaml"], "conf/no.yaml is missing: no such"),
    ],
)
def test_a_faulty_option_is_reported_before_any_work(tree, call, options, reported):
    recipe = tree / "egs2" / "mini_emo" / "ser2"
    places = ("data", "dump", "exp")
    before = [(recipe / name).exists() for name in places]
    result = call(recipe / "run.sh", *options)
    assert result.returncode == 2 and reported in result.stdout
    assert "Stage" not in result.stdout
    assert [(recipe / name).exists() for name in places] == before


def test_the_digits_check_their_options_too(tree, call, tmp_path):
    recipe = tree / "egs2" / "fsdd" / "asr2" / "run.sh"
    for options, reported in (
        (["--stage", "six"], "--stage: 'six', expected a whole number"),
        (["--stage", "6", "--stop_stage", "7"], "there are 1 to 5"),
        (["--rate", "64"], "rate '64' is not <K>x<L>"),
        (["--two_scale", "32x1"], "--two_scale 32x1: expected <codebook size>"),
        (["--quantizer", str(tmp_path / "none")], "none is missing"),
    ):
        result = call(recipe, *options, FSDD=str(tmp_path))
        assert result.returncode == 2 and reported in result.stdout, result.stdout
        assert "Stage" not in result.stdout


def test_a_stage_whose_earlier_stage_is_missing_says_which_to_run(tree, call):
    options = ["--stage", "5", "--stop_stage", "5", "--tag", "never_learned"]
    result = call(tree / "run.sh", *options)
    assert result.returncode != 0
    assert re.search(r"never_learned.*run the earlier stage first", result.stdout)


def test_emodb_without_a_path_says_where_to_get_it(tree, call):
    result = call(tree / "egs2" / "emodb" / "ser2" / "run.sh", EMODB="")
    assert result.returncode != 0 and "Burkhardt" in result.stdout


def test_emodb_runs_on_one_fold_of_real_speech(tree, paste):
    """As the pages print it."""
    corpus = Path(os.environ.get("EMODB") or ROOT.parent / "shared" / "data" / "emodb")
    if not corpus.is_dir():
        pytest.skip("EMO-DB is not here: set EMODB to the corpus directory")
    systems = "balanced specific-distortion specific-random"
    shrink(
        *(tree, "emodb", "--last_fold", "1", "--rates", "16x1 64x1"),
        *("--systems", systems, "--ser_backend", "probe"),
    )
    pages = ("README.md", "docs/tutorial.md", "egs2/emodb/ser2/README.md")
    command = "egs2/emodb/ser2/run.sh --stage 1 --stop_stage 6"
    blocks = {printed(page, command) for page in pages}
    [block] = {block.removeprefix("EMODB=/path/to/emodb ") for block in blocks}
    result = paste(tree, block, EMODB=str(corpus))
    assert result.returncode == 0, result.stdout[-4000:]
    exp = tree / "egs2" / "emodb" / "ser2" / "exp" / "fbank_level"
    results = Results.read(exp / "scores.json")
    routed = results.score("16x1", "specific-distortion").metrics["macro_f1"]["mean"]
    random = results.score("16x1", "specific-random", "route").metrics
    assert routed > random["macro_f1"]["mean"]
    assert routed > 0.4  # four classes: chance is 0.25

    for name in ("a.wav", "b.flac"):
        samples = np.random.default_rng(0).normal(size=16000) / 8
        soundfile.write(tree / name, samples, 16000)
    result = paste(tree, printed("README.md", "run.sh --stage 9"), EMODB="")
    assert result.returncode == 0, result.stdout[-4000:]
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    assert [json.loads(line)["name"] for line in lines] == ["a", "b"]
