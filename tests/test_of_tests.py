"""The test command says what it installs before it does, and does without."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ESPNET = next(ROOT.glob(".venv/espnet-*"), os.environ.get("ESPNET_ROOT", ""))


@pytest.fixture
def run(tmp_path):
    """Run it where no tool of a check exists but in name, as root and without Slurm."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name in ("bash", "cat", "cut", "date", "dirname", "env", "git", "ls", "sed"):
        (stubs / name).symlink_to(shutil.which(name))
    for name in ("python", "ruff", "black", "isort", "shellcheck"):
        (stubs / name).write_text(f'#!/usr/bin/env bash\necho "ran {name} $*" >&2\n')
    installed = tmp_path / "installed"  # what it prints is thrown away
    (stubs / "apt-get").write_text(f'#!/usr/bin/env bash\necho "$*" >>"{installed}"\n')
    (stubs / "id").write_text("#!/usr/bin/env bash\necho 0\n")
    for path in stubs.iterdir():
        if not path.is_symlink():
            path.chmod(0o755)

    def call(*arguments, **environment):
        found = {"PATH": str(stubs), "EMOQ_SETUP": "skip", "HOME": str(tmp_path)}
        found |= {"ESPNET_ROOT": str(ESPNET), **environment}
        command = ["bash", ROOT / "local/test.sh", *arguments]
        done = subprocess.run(command, env=found, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr, installed.read_text() if installed.exists() else ""

    return call


def test_what_is_installed_and_how_long_it_takes_is_said_before(run):
    said, installed = run()
    assert installed.endswith(" slurm-wlm munge chromium\n")
    said, tests, _ = said.partition("ran python -m pytest")
    assert tests
    assert "All tests: about 25 minutes" in said
    assert "Installing slurm-wlm munge chromium by apt-get" in said
    assert "EMOQ_TEST_INSTALL=no" in said


def test_without_them_it_runs_and_says_what_is_not_tested(run):
    said, installed = run("-k", "routing", EMOQ_TEST_INSTALL="no")
    assert installed == "" and "Installing" not in said
    before, tests, _ = said.partition("ran python -m pytest -rs -k routing")
    assert tests, said
    assert "NOT TESTED ON SLURM" in before and "NOT TESTED IN A BROWSER" in before
