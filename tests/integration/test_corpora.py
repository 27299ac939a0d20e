"""Every corpus recipe, stages 1-6, on a miniature of the official tree."""

import html
import json
import os
import re
import shlex
import shutil
import stat
from pathlib import Path

import pytest
import yaml

from emoq_plugin.evaluation.results import Results

CORPORA = {
    "crema_d": (),
    "emns": (),
    "emodb": ("--local_data_opts", "--n_folds 3"),
    "enterface": (),
    "esd": ("--local_data_opts", "--n_folds 3 --n_valid_speakers 1"),
    "iemocap": ("--local_data_opts", "--no_majority keep --classes paper4"),
    "jl_corpus": (),
    "meld": ("--local_data_opts", "--n_folds 3"),
    "msp_podcast": (),
    "nemo": ("--local_data_opts", "--n_valid_speakers 1"),
    "ravdess": ("--local_data_opts", "--n_folds 3"),
}
ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
PAGE = (ROOT / "docs" / "new_corpus.md").read_text()
SMALL = ["--nj", "1", "--rates", "4x1", "--systems", "balanced specific-distortion"]
SMALL += ["--ser_backend", "probe", "--last_fold", "2"]


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_recipe_runs_from_the_official_tree_to_scores(
    corpus, tree, call, miniature, ffmpeg, warm_python
):
    recipe = tree / "egs2" / corpus / "ser2"
    place = {corpus.upper(): str(miniature(corpus)), "PATH": ffmpeg}
    options = [*SMALL, "--python", str(warm_python), *CORPORA[corpus]]
    result = call(recipe / "run.sh", *options, **place)
    assert result.returncode == 0, result.stdout[-4000:]
    results = Results.read(recipe / "exp" / "fbank_level" / "scores.json")
    assert results.score("4x1", "specific-distortion")
    assert results.corpus == corpus
    dropped = (recipe / "dump" / "raw" / "all" / "dropped.tsv").read_text()
    assert ("silent audio" in dropped) == (corpus == "crema_d")


def test_without_a_path_a_recipe_says_which_variable_and_where_to_get_it(tree, call):
    result = call(tree / "egs2" / "iemocap" / "ser2" / "run.sh", IEMOCAP="")
    assert result.returncode != 0
    for words in ("set IEMOCAP in local/db.sh", "sail.usc.edu", "EmoEvaluation"):
        assert words in result.stdout


def test_the_papers_study_runs_over_the_corpora_that_are_there(
    tree, call, miniature, ffmpeg, warm_python
):
    values = yaml.safe_load((ROOT / "conf" / "study" / "paper.yaml").read_text())
    corpora = [*values["learn_on"], *values["test_on"]]
    values |= {"features": ["fbank"], "rates": ["2x2"]}
    config = tree / "paper.yaml"
    config.write_text(yaml.safe_dump(values))
    python = ("--python", str(warm_python))
    shutil.rmtree(tree / "egs2" / "emns" / "ser2" / "dump", ignore_errors=True)
    for corpus in set(corpora) - {"emns"}:
        script = tree / "egs2" / corpus / "ser2" / "run.sh"
        place = {corpus.upper(): str(miniature(corpus)), "PATH": ffmpeg}
        options = ["--stop_stage", "3", "--nj", "1", *python, *CORPORA[corpus]]
        result = call(script, *options, **place)
        assert result.returncode == 0, result.stdout[-4000:]
    recipe = tree / "egs2" / "esd" / "ser2"
    options = ["--stage", "7", "--stop_stage", "8", "--study_config", str(config)]
    result = call(recipe / "run.sh", *options, *python, EMNS="")
    assert result.returncode == 0, result.stdout[-4000:]
    assert "no path of emns: set EMNS" in result.stdout
    summary = json.loads((recipe / "exp/study_paper/summary.json").read_text())
    tested = {e["corpus"]: e for e in summary["experiments"]}
    assert set(tested) == set(values["test_on"]) - {"emns"}
    assert [m["job"] for m in summary["missing"]] == ["all of test set emns"]
    scores = [s for s in summary["scores"] if s["experiment"].startswith("enterface")]
    assert all("neutral" not in s["metrics"]["recall"] for s in scores)
    assert {s["system"] for s in scores} >= set(values["systems"])
    page = (recipe / "exp/study_paper/report.html").read_text()
    assert "Missing: all of test set emns" in page and "Leaks and limits" in page
    notes = [n for e in summary["experiments"] for n in e.get("leakage") or []]
    assert all(html.escape(note, quote=False) in page for note in notes)


def test_setup_makes_a_recipe_that_a_csv_file_drives(
    tree, call, miniature, warm_python
):
    result = call(tree / "egs2" / "TEMPLATE" / "ser2" / "setup.sh", "my_corpus")
    assert result.returncode == 0, result.stdout
    recipe = tree / "egs2" / "my_corpus" / "ser2"
    assert (recipe / "run.sh").stat().st_mode & stat.S_IXUSR
    again = call(tree / "egs2" / "TEMPLATE" / "ser2" / "setup.sh", "my_corpus")
    assert again.returncode != 0 and "exists" in again.stdout
    nemo = miniature("nemo")
    table = tree / "clips.csv"
    lines = ["file,speaker,emotion"]
    for path in sorted((nemo / "samples").iterdir()):
        speaker, emotion, _ = path.stem.split("_")
        lines.append(f"{os.path.relpath(path, tree)},{speaker},{emotion}")
    table.write_text("\n".join(lines) + "\n")
    options = [*SMALL, "--python", str(warm_python)]
    result = call(recipe / "run.sh", *options, MY_CORPUS=str(table))
    assert result.returncode == 0, result.stdout[-4000:]
    assert (recipe / "exp" / "fbank_level" / "RESULTS.md").is_file()


def test_options_of_stage_1_carry_quoted_values(tree, call, miniature):
    setup = tree / "egs2" / "TEMPLATE" / "ser2" / "setup.sh"
    assert call(setup, "quoted").returncode == 0
    recipe = tree / "egs2" / "quoted" / "ser2"
    names = {"anger": "very angry", "fear": "a/b"}
    lines = ["File;Speaker;Emotion"]
    for path in sorted((miniature("nemo") / "samples").iterdir()):
        speaker, emotion, _ = path.stem.split("_")
        lines.append(f"{path};{speaker};{names.get(emotion, emotion)}")
    table = tree / "CLIPS.CSV"
    table.write_text("\n".join(lines) + "\n")

    def stage1(options):
        options = ["--stop_stage", "1", "--local_data_opts", options]
        return call(recipe / "run.sh", *options, QUOTED=str(table))

    refused = stage1("")
    assert refused.returncode != 0 and "label 'a/b', expected" in refused.stdout
    for mark in "'\"":
        result = stage1(f"--map {mark}very angry=a$x`y`{mark} a/b=* --classes a$x`y` *")
        assert result.returncode == 0, result.stdout[-4000:]
        assert (recipe / "data/emotions").read_text() == "a$x`y`\n*\n"
    workbook = table.rename(tree / "clips.xlsx")
    workbook.write_bytes(b"PK\3\4")
    named = call(recipe / "run.sh", "--stop_stage", "1", QUOTED=str(workbook))
    assert named.returncode != 0 and "clips.xlsx: a zip archive or" in named.stdout
    broken = stage1("--map 'very angry=sad")
    assert broken.returncode != 0 and "a quote is not closed" in broken.stdout


@pytest.fixture(params=[("fsdd", "FSDD"), ("emodb", "EMODB")], ids=lambda p: p[0])
def example(request, tmp_path):
    """Return an example of the page on new corpora and how to change its options."""
    corpus, variable = request.param
    original = Path(os.environ.get(variable) or SHARED / corpus)
    if not original.is_dir():
        pytest.skip(f"{variable} is not set and {original} is missing")
    place = tmp_path / corpus
    place.mkdir()
    for path in original.iterdir():
        (place / path.name).symlink_to(path)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.partition("Two complete")[2], re.S)
    (block,) = (b for b in blocks if f"/path/to/{corpus}" in b)
    return corpus, block.replace(f"/path/to/{corpus}", f"'{place}'")


def test_the_examples_of_the_page_on_new_corpora_work(tree, call, example, warm_python):
    corpus, block = example
    block = re.sub(r"(ser2/run\.sh)", r"\1 --stop_stage 1", block)
    recipe = tree / "egs2" / re.search(r"setup\.sh (\S+)", block)[1] / "ser2"
    shutil.rmtree(recipe, ignore_errors=True)  # of who has followed the page
    result = call("bash", "-ec", f"cd '{tree}'\n{block}")
    assert result.returncode == 0, result.stdout[-4000:]
    lines = (recipe / "data" / "all" / "utt2emo").read_text().splitlines()
    assert len(lines) == {"fsdd": 3000, "emodb": 339}[corpus]
    assert len(list((recipe / "data" / "folds").glob("[0-9]"))) == 5
    if corpus == "fsdd":
        return  # its ten classes take minutes
    look = shlex.split(re.search(r"run\.sh (--rates .*)", PAGE)[1])
    result = call(recipe / "run.sh", "--stage", "2", *look, "--python", warm_python)
    assert result.returncode == 0, result.stdout[-4000:]
    results = Results.read(recipe / "exp" / "fbank_level" / "scores.json")
    found = results.score("16x1", "specific-distortion").metrics["macro_f1"]["mean"]
    assert found > 0.4  # four classes: chance is 0.25
