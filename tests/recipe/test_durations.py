"""How long a recipe says that its stages take."""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "egs2/TEMPLATE/ser2/durations.sh"
# mini_emo, as it was measured.
MEASURED = {
    "stage": 1,
    "stop_stage": 6,
    "first_fold": 1,
    "last_fold": 5,
    "nj": 2,
    "minutes": 12,
    "sample_rate": 16000,
    "rates": "16x1 64x1 64x2",
    "systems": " ".join("abcdefghijkl"),
    "ser_backend": "probe espnet",
    "espnet_systems": "balanced specific-distortion",
    "raw": "raw",
    "exp": "exp",
}


@pytest.fixture
def said(tmp_path):
    def run(first=1, **options):
        values = MEASURED | options
        lines = ["set -euo pipefail", 'log() { echo "$*"; }']
        lines += [f"{name}='{value}'" for name, value in values.items()]
        lines += [f". '{SCRIPT}'", f"say_duration {first}"]
        command = ["bash", "-c", "\n".join(lines)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout

    return run


def minutes(text):
    return int(re.search(r"about (\d+) min", text)[1])


def test_a_first_run_is_estimated_by_the_measured_one(said):
    text = said()
    assert minutes(text) == 5  # 286 s
    assert "stages 3 to 6, " in text and "12 min of speech, 5 folds, 36 " in text


@pytest.mark.parametrize(
    "options, times",
    [
        ({"minutes": 12000}, 10),
        ({"last_fold": 50}, 10),
        ({"nj": 1}, 2),
        ({"nj": 20}, 0.1),
        ({"rates": "1x1 " * 30, "ser_backend": "probe"}, 10),
        ({"espnet_systems": "a b " * 10, "ser_backend": "espnet", "stage": 6}, 10),
    ],
    ids=str,
)
def test_estimates_grow_with_what_there_is_to_do(said, options, times):
    same = {k: options[k] for k in ("ser_backend", "stage") if k in options}
    before = minutes(said(same.get("stage", 1), **{"minutes": 1200} | same))
    after = minutes(said(same.get("stage", 1), **{"minutes": 1200} | options))
    # Features are made once, whatever the folds.
    assert times * before * 0.9 < after < times * before * 1.1


def test_what_stage_2_has_counted_comes_before_what_is_expected(said, tmp_path):
    (tmp_path / "raw").mkdir()
    counted = f"a {16000 * 60 * 100}\nb {16000 * 60 * 20}\n"
    (tmp_path / "raw/utt2num_samples").write_text(counted)
    assert "(120 min of speech" in said()
    assert "(240 min of speech" in said(sample_rate=8000)


def test_nothing_is_said_of_what_is_not_known(said):
    assert said(minutes="") == said(stage=7, first=7, stop_stage=9) == ""
    assert said(stop_stage=2) == ""


def test_folds_are_counted(said, tmp_path):
    assert "5 folds" in said(last_fold="")  # not made yet
    for name in ("1", "2", "3", "notes"):
        (tmp_path / "data/folds" / name).mkdir(parents=True)
    assert "3 folds" in said(last_fold="")
    assert "1 folds" in said(first_fold=3, last_fold=3)


def test_an_earlier_run_knows_better(said, tmp_path):
    (tmp_path / "exp").mkdir()
    rows = [f"{stage} {10 * stage}" for stage in range(1, 7)]
    (tmp_path / "exp/seconds.txt").write_text("\n".join([*rows, "4 5", ""]))
    assert said() == "stages 1 to 6: at most 210 s in earlier runs\n"
