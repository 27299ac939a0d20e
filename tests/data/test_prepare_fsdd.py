"""The recordings of the Free Spoken Digit Dataset, as its recipe finds them."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "egs2/fsdd/asr2/local/prepare_fsdd.py"


@pytest.fixture
def corpus(tmp_path):
    """A corpus whose folder of recordings is a link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "fsdd").mkdir()
    (tmp_path / "fsdd" / "recordings").symlink_to(tmp_path / "disk")
    for name in ("0_theo_0.wav", "9_theo_12.wav"):
        (tmp_path / "disk" / name).touch()
    return tmp_path / "fsdd"


def recordings(corpus):
    spec = importlib.util.spec_from_file_location("prepare_fsdd", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.recordings(corpus))


def test_hidden_files_and_others_are_left_out_and_counted(corpus, caplog):
    caplog.set_level("INFO")
    for name in ("._0_theo_0.wav", "notes.txt"):
        (corpus / "recordings" / name).touch()
    assert [found[:3] for found in recordings(corpus)] == [
        ("zero", "theo", 0),
        ("nine", "theo", 12),
    ]
    assert "1 hidden (._0_theo_0.wav)" in caplog.text and "notes.txt" in caplog.text


def test_two_names_of_one_recording_are_refused(corpus):
    (corpus / "recordings" / "0_theo_00.wav").touch()
    with pytest.raises(ValueError, match="0_theo_0.*wav and .*0_theo_0.*wav are both"):
        recordings(corpus)


def test_another_name_is_refused(corpus):
    (corpus / "recordings" / "ten_theo_0.wav").touch()
    with pytest.raises(ValueError, match="ten_theo_0.wav: expected <digit>"):
        recordings(corpus)
