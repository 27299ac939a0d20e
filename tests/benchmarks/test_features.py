"""The benchmark of stage 3 on a tiny model: every line, and that they agree."""

import numpy as np
import pytest
import soundfile

from benchmarks import features
from emoq_plugin.files import read_json, write_table
from tests.speech.tiny_models import make_waves, make_whisper


@pytest.fixture
def arguments(tmp_path):
    pytest.importorskip("transformers")
    make_whisper(tmp_path / "model")
    places = {}
    for n, wave in enumerate(make_waves([9000, 7000, 16000, 4000])):
        places[f"u{n}"] = tmp_path / f"u{n}.wav"
        soundfile.write(places[f"u{n}"], wave, 16000)
    write_table(tmp_path / "raw" / "wav.scp", places)
    given = {"model_dir": tmp_path / "model", "data_dir": tmp_path / "raw"}
    given |= {"clips": 2, "layer": 1, "threads": 1}
    return [f"--{name}={value}" for name, value in given.items()]


def test_every_line_is_timed_beside_the_first(arguments, tmp_path, capsys, monkeypatch):
    def here(line, given, threads):
        features.main([*given, f"--line={line}", f"--result={tmp_path / 'line.json'}"])
        return read_json(tmp_path / "line.json")

    monkeypatch.setattr(features, "time_apart", here)
    features.main([*arguments, f"--output={tmp_path / 'report.json'}"])
    lines = read_json(tmp_path / "report.json")["lines"]
    assert lines[features.BEFORE]["ratio"] == 1
    assert all(line["seconds"] > 0 and line["clips"] == 2 for line in lines.values())
    printed = capsys.readouterr().out
    assert all(name in printed for name in lines)


def test_the_plain_way_gives_the_frames_of_the_full_window(arguments):
    options = features.get_parser().parse_args(arguments)
    waves = features.read_waves(options.data_dir, 0)
    assert len(waves) == 4
    for one, two in zip(
        features.plain(options)(waves), features.ours()(options)(waves), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=2e-5, rtol=1e-4)
