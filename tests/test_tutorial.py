"""docs/tutorial.md runs as it is printed: on EMO-DB, or on a miniature of it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

import emoq_plugin

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tutorial.md").read_text("utf-8")
BLOCKS = re.findall(r"(<!-- [^\n]* -->\n)?```(bash|python)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def ran(miniature, tmp_path_factory):
    """Run all blocks in their order; give the folder and what each printed."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "emoq").symlink_to(ROOT / "emoq")
    corpus = os.environ.get("EMODB") or str(miniature("emodb"))
    python = f"{ROOT}/.venv/bin/python" if (ROOT / ".venv").exists() else "python3"
    printed = []
    for mark, language, code in BLOCKS:
        if mark:
            continue
        command = ["bash", "-euc"] if language == "bash" else [python, "-c"]
        done = subprocess.run(
            [*command, code],
            cwd=folder,
            env=os.environ | {"EMODB": corpus},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr[-3000:]}"
        printed.append(done.stdout)
    return folder, printed


def test_every_step_runs_and_prints_what_the_page_says(ran):
    folder, (first, card, scores, python) = ran
    assert re.search(r"^03a01Fa( \d+)+$", first, re.MULTILINE)
    assert '"expert": "specific/' in first and "emodb-fbank" in first
    assert "| all " in card and "fold 5: train" in card
    rates = re.findall(r"^([\d.]+) bit/s", scores, re.MULTILINE)
    assert float(rates[0]) > 200.0 == float(rates[1])
    assert scores.count("held out in 5 folds") == 2
    assert re.match(r"\{'specific/[WFNT]': 1.0\} \(\d+, 1\) \d{3} bit/s\n", python)
    emoq = emoq_plugin.load(str(folder / "tutorial/emoq"))
    assert emoq.bank.emotions == ["W", "F", "N", "T"]
