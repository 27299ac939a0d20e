"""Files of options: by a path, from where the user is, or by a preset's name."""

import pytest

from emoq_plugin.bin import dump_features
from emoq_plugin.presets import ROOT, config_of, find_config, find_for_script


def test_a_path_is_seen_from_the_places_in_their_order(tmp_path):
    name = "conf/features/fbank.yaml"
    assert find_config(name, "features", places=[tmp_path]) == ROOT / name
    for place in ("b", "a"):
        path = tmp_path / place / name
        path.parent.mkdir(parents=True)
        path.touch()
        places = [tmp_path / "a", tmp_path / "b"]
        assert find_config(name, "features", places=places) == path
    assert find_config(path, "features", places=[]) == path  # absolute


@pytest.mark.parametrize("kind", ["features", "quantizer", "ser", "study"])
def test_every_preset_goes_by_its_name(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    presets = sorted((ROOT / "conf" / kind).glob("*.yaml"))
    assert presets
    for path in presets:
        assert config_of(kind)(path.stem) == config_of(kind)(path.name) == path


def test_what_is_nowhere_is_refused_with_what_exists(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="x.yaml is missing: no such file, seen from"
    ):
        find_config("x.yaml", "features")
    arguments = ["--data_dir", "x", "--output_dir", "y", "--config", "wavlm"]
    with pytest.raises(SystemExit, match="1"):
        dump_features.main(arguments)
    reported = caplog.text
    assert (
        str(tmp_path) in reported and "fbank" in reported and "wavlm_large" in reported
    )


def test_scripts_get_absolute_paths_from_where_their_user_is(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "here").mkdir()
    mine = tmp_path / "conf" / "mine.yaml"
    mine.touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("called_from", "..")
    found = find_for_script("conf/mine.yaml", "quantizer")
    assert found.is_absolute() and found.samefile(mine)
    monkeypatch.delenv("called_from")
    with pytest.raises(FileNotFoundError, match="conf/mine.yaml is missing.*level"):
        find_for_script("conf/mine.yaml", "quantizer")
