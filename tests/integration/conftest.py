"""Whole recipes in a copy, so that a test never touches a user's experiments."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ESPNET = next(ROOT.glob(".venv/espnet-*"), "")


@pytest.fixture(scope="session")
def tree_name():
    return "a path with spaces"


@pytest.fixture(scope="module")
def tree(tmp_path_factory, tree_name):
    root = tmp_path_factory.mktemp(tree_name)
    keep = shutil.ignore_patterns("data", "dump", "exp", "downloads")
    shutil.copytree(ROOT / "egs2", root / "egs2", symlinks=True, ignore=keep)
    shutil.copy(ROOT / "run.sh", root)
    for name in ("local", "conf"):
        (root / name).symlink_to(ROOT / name)
    return root


def recipe_environment(**variables):
    """Return the environment of a recipe's scripts, as `local/path.sh` finds it."""
    return {
        **os.environ,
        "EMOQ_SETUP": "skip",
        "OMP_NUM_THREADS": "1",
        "ESPNET_ROOT": os.environ.get("ESPNET_ROOT") or str(ESPNET),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **variables,
    }


@pytest.fixture(scope="session")
def call():
    def run(script, *options, **variables):
        return subprocess.run(
            [str(script), *options],
            env=recipe_environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


def shrink(tree, recipe, *options):
    """Give a copied recipe other defaults, so that a printed command ends soon."""
    script = tree / "egs2" / recipe / "ser2" / "run.sh"
    text = script.read_text()
    assert text.count(' "$@"') == 1
    script.write_text(text.replace(' "$@"', f' {shlex.join(options)} "$@"'))


def printed(page, command):
    """Return the one block of a page that has the command."""
    text = (ROOT / page).read_text("utf-8")
    [block] = [b for b in re.findall(r"```bash\n(.*?)```", text, re.S) if command in b]
    return block


@pytest.fixture(scope="session")
def paste(call):
    """Run a block as it is printed, from the root of the repository."""

    def run(tree, block, **variables):
        return call("bash", "-euc", f'cd "$0"\n{block}', str(tree), **variables)

    return run


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory):
    """Return a python for `--python` that need not import torch again."""
    folder = tmp_path_factory.mktemp("warm")
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm_python.py")), str(folder)],
        stdin=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (folder / "python").exists():
        assert server.poll() is None, "the warm python did not start"
        time.sleep(0.05)
    yield folder / "python"
    server.stdin.close()
    server.wait()
