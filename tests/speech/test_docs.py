"""What docs/encoders.md shows works."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from emoq_plugin.speech.encoders import registry
from tests.speech.tiny_models import make_waves

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/encoders.md").read_text(encoding="utf-8")
NOTES, EXAMPLE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_leakage_example_prints_a_note_for_each_corpus(capsys):
    exec(compile(NOTES, "encoders.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["esd", "nemo"]


def test_the_example_is_an_encoder(monkeypatch):
    module = ModuleType("bands_of_the_docs")
    exec(compile(EXAMPLE, "encoders.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.ENCODERS, "bands", f"{module.__name__}:Bands")
    encoder = registry.build_encoder("bands", floor=1e-3)
    waves = make_waves([4000, 320])
    together = encoder(waves)
    assert [x.shape for x in together] == [(12, 3), (1, 3)]
    for wave, frames in zip(waves, together):
        np.testing.assert_array_equal(encoder([wave])[0], frames)
        assert frames.dtype == np.float32
    with pytest.raises(ValueError, match="no option"):
        registry.build_encoder("bands", ceiling=1)


def test_every_preset_has_its_place_on_the_page():
    table = TEXT.partition("## Layers")[0]
    named = set(re.findall(r"`(\w+)`", table))
    presets = {path.stem for path in (ROOT / "conf/features").glob("*.yaml")}
    # The generic file, and those that the chapter on layers is about.
    assert presets - named <= {
        "huggingface",
        "wavlm_large_average",
        "wavlm_large_layers",
    }
    assert set(registry.ENCODERS) <= named
