"""local/export_upstream.sh writes a tree that keeps ESPnet's rules."""

import re

import pytest

from tests.integration.conftest import ROOT

pytest.importorskip("espnet3")


def test_the_tree_for_espnet_passes_its_checks(tmp_path, call):
    result = call(ROOT / "local" / "export_upstream.sh", str(tmp_path / "tree"))
    assert result.returncode == 0, result.stdout[-3000:]
    assert "tree is ready" in result.stdout
    system = tmp_path / "tree" / "espnet3" / "systems" / "ser2"
    texts = [path.read_text() for path in system.rglob("*.py")]
    assert not any(re.search(r"^ *-{4,}$", text, re.M) for text in texts), "NumPy's"
    assert any("    Args:\n" in text for text in texts)
    configs = (tmp_path / "tree" / "egs3").rglob("*.yaml")
    assert not any("espnet_adapters" in t for t in [*texts, *map(_read, configs)])


def _read(path):
    return path.read_text()


def test_a_directory_that_holds_something_is_left_alone(tmp_path, call):
    (tmp_path / "mine").touch()
    result = call(ROOT / "local" / "export_upstream.sh", str(tmp_path))
    assert result.returncode == 2 and "Usage" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
