"""The stage that docs/architecture.md shows works, with its parser."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import emoq_plugin
from emoq_plugin.bin._parser import command
from emoq_plugin.data.folds import Fold, write_folds
from emoq_plugin.files import read_json, write_table
from emoq_plugin.recipe.stage import Stage

TEXT = (Path(__file__).parents[2] / "docs/architecture.md").read_text("utf-8")
[EXAMPLE] = [
    block
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    if "CountClipsOptions" in block
]


@pytest.fixture
def count(tmp_path, monkeypatch):
    """Return the command, with a fold of three clips as its input."""
    module = ModuleType("count_clips_of_the_docs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    where = str(Path(emoq_plugin.__file__).parent / "recipe/stages/count_clips.py")
    exec(compile(EXAMPLE, where, "exec"), module.__dict__)
    monkeypatch.chdir(tmp_path)
    clips = ("a1", "a2", "b1")
    write_table(Path("raw/wav.scp"), {u: f"{u}.wav" for u in clips})
    write_table(Path("raw/utt2spk"), {u: u[0] for u in clips})
    write_table(Path("raw/utt2emo"), dict.fromkeys(clips, "sad"))
    Stage("raw").finish()
    Path("emotions").write_text("angry\nsad\n")
    write_folds("folds", [Fold("1", ("a1", "a2"), (), ("b1",))])
    main = command(module.CountClipsOptions, module.count_clips, "Count.")
    options = "--data_dir raw --emotions emotions --folds folds --fold 1 --output_dir o"
    return lambda *more: main([*options.split(), *more])


def test_the_example_is_a_stage(count, caplog):
    count()
    assert read_json("o/counts.json") == {"train": 2}
    caplog.set_level("INFO")
    count()
    assert "up to date: nothing to do" in caplog.text


def test_its_options_are_checked(count, caplog, capsys):
    with pytest.raises(SystemExit):
        count("--at_least", "3")
    assert "2 training clips, expected 3" in caplog.text
    with pytest.raises(SystemExit):
        count("--at_least", "0")
    assert "'0', expected a whole number of at least 1" in capsys.readouterr().err
