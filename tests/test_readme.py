"""The first blocks of the README run as they are printed."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import soundfile

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


def test_the_commands_on_audio_run(tmp_path):
    """From a folder with `./emoq`, a.wav, recordings and labels.csv."""
    (tmp_path / "emoq").symlink_to(README.parent / "emoq")
    (tmp_path / "recordings").mkdir()
    random, rows = np.random.default_rng(0), ["file,emotion,speaker"]
    for n in range(24):
        emotion, speaker = ("angry", "calm")[n % 2], f"s{n // 6}"
        noise = random.normal(size=8000)
        wave = np.diff(noise, append=0) if n % 2 else np.cumsum(noise) / 50
        soundfile.write(tmp_path / f"recordings/{n}.wav", wave / 12, 16000)
        rows.append(f"{n}.wav,{emotion},{speaker}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    soundfile.write(tmp_path / "a.wav", random.normal(size=8000) / 8, 16000)
    [block] = re.findall(r"```bash\n(\./emoq .*?)```", README.read_text(), re.DOTALL)
    done = subprocess.run(
        ["bash", "-euc", block], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, piped, heard, *learned, last = done.stdout.splitlines()
    assert piped.split()[0] == "stdin"
    assert json.loads(first)["name"] == json.loads(heard)["name"] == "a"
    assert "held out in 4 folds" in learned[-1] and len(learned) == 3
    [expert] = json.loads(last)["route"]
    assert expert in ("specific/angry", "specific/calm")
