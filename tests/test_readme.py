"""The first code of the README runs as it is printed."""

import re
from pathlib import Path

import numpy as np

import emoq_plugin

README = Path(__file__).parents[1] / "README.md"


def speech(n_speakers, *, seed):
    random = np.random.default_rng(seed)
    clips, labels, speakers = [], [], []
    for speaker in range(n_speakers):
        for label, emotion in enumerate(("angry", "happy", "neutral", "sad")):
            frames = random.normal(label, 1.0, (100, 8)).astype(np.float32)
            clips.append(frames * np.linspace(1, 1 + label, 8, dtype=np.float32))
            labels.append(emotion)
            speakers.append(f"s{speaker}")
    return clips, labels, speakers


def test_the_first_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```(\w+)\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert code[1] == "python" and "EmoQuantizer" in code[2]
    features, emotions, speakers = speech(6, seed=0)
    test_features, test_emotions, _ = speech(2, seed=1)
    names = dict(locals())
    exec(code[2], names)  # noqa: S102
    assert names["x"].shape == (8, 100, 8)
    assert names["q"].score(test_features, test_emotions) > 0.8
    assert names["balanced"].bank_.sizes == [256]
    assert emoq_plugin.load("mine").system.name == "specific-calibrated"
