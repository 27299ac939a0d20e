"""Quantizers that come with the package: found, whole, small, as their cards say."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

import emoq_plugin
from emoq_plugin import pretrained
from emoq_plugin.bin import encode, predict, quantizers
from emoq_plugin.core.model_card import describe
from emoq_plugin.files import read_json, sha256_of_file
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.speech.golden import check_golden_clip
from emoq_plugin.speech.pipeline import SpeechToUnits

ROOT = Path(__file__).parents[1]
# Who makes them again (local/make_pretrained.sh) writes what is new here.
GOLDEN = {
    "emodb-fbank": {
        "weights": "bf6528054115c527ee9d2aec51ad0ea1ca37e75bd224b5e16e5f290eefb9f9a7",
        "codebooks": "8b0929e9138c693b6550bcebac597e466bd323f55ff986e375c64dec6b57439a",
        "system": "specific-calibrated",
        "macro_f1": 79.0,
    },
    "emodb-fbank-clip": {
        "weights": "707494230b43731f762ed47a47b1292febc7bb117315af96304d6e0029c85e97",
        "codebooks": "c4bf9b1f9aa8185e12ae6820ec89a8c6da89b532cc6b024cfb2350426c07bb6e",
        "system": "specific-calibrated+clip56",
        "macro_f1": 78.2,
    },
    "emodb-whisper": {
        "weights": "634ad9af6d1e2b9283edf1228183cd63de47451c631f43dcc30190ae66628681",
        "codebooks": "644c8143735fc71114dc842c8cac8a2c495e08232eba38688b7326147624b459",
        "system": "balanced+clip56",
        "macro_f1": 96.7,
    },
}


def test_all_are_known():
    assert pretrained.names() == sorted(GOLDEN)
    assert pretrained.DEFAULT in GOLDEN


@pytest.mark.parametrize("name", GOLDEN)
def test_each_is_what_was_learned(name):
    golden, folder = GOLDEN[name], pretrained.HOME / name
    q = emoq_plugin.load(name)
    assert q.codebooks_sha256 == golden["codebooks"]
    assert sha256_of_file(folder / "model.safetensors") == golden["weights"]
    assert q.system.name == golden["system"]
    score = q.bank.card["held_out"]["macro_f1"]
    assert round(100 * score["mean"], 1) == golden["macro_f1"]
    assert score["low"] < score["mean"] < score["high"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6


@pytest.mark.parametrize("name", GOLDEN)
def test_each_has_a_full_card_of_its_own(name):
    folder = pretrained.HOME / name
    text = (folder / "README.md").read_text("utf-8")
    assert text == describe(read_json(folder / "config.json"))
    for part in ("license: apache-2.0", "language: de", "CC0", "## Data", "## Limits"):
        assert part in text
    for part in ("## Use", "## Citation", "| score | macro-F1 ", "held out in 5 folds"):
        assert part in text


def backwards(codes):
    return {
        expert: [" ".join(level.split()[::-1]) for level in levels]
        for expert, levels in codes.items()
    }


@pytest.mark.parametrize("name", GOLDEN)
def test_codes_that_are_not_the_makers_are_named(name, tmp_path):
    folder = tmp_path / name
    shutil.copytree(pretrained.HOME / name, folder)
    config = read_json(folder / "config.json")
    assert sorted(config["golden"]) == sorted(config["experts"])
    config["golden"] = backwards(config["golden"])
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="codes of its golden frames are not those"):
        emoq_plugin.load(str(folder))


@pytest.mark.parametrize("command", [encode, predict])
def test_every_command_takes_what_is_not_checked(wav, command, caplog, capsys):
    shutil.copytree(pretrained.HOME / "emodb-fbank", "changed")
    config = read_json("changed/config.json")
    config["golden"] = backwards(config["golden"])
    Path("changed/config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit):
        command.main([wav, "--quantizer", "changed"])
    assert "codes of its golden frames" in caplog.text
    command.main([wav, "--quantizer", "changed", "--check", "false"])
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("name", ["emodb-fbank", "emodb-fbank-clip"])
def test_features_that_are_not_the_makers_are_named(name):
    speech = SpeechToUnits.from_pretrained(name)  # compares
    bank = speech.quantizer.bank
    longer = build_encoder("fbank", frame_length=40.0, frame_shift=20.0)
    with pytest.raises(ValueError, match="other features than the quantizer was"):
        check_golden_clip(bank, longer)
    clip = bank.card["golden_clip"]
    clip["codes"] = backwards(clip["codes"])
    with pytest.raises(ValueError, match="of its codes are not the maker's"):
        SpeechToUnits(speech.quantizer)


def test_an_encoder_of_the_hub_is_known_by_its_published_name():
    card = emoq_plugin.load("emodb-whisper").bank.card
    assert card["feature"]["versions"]["model"] == "openai/whisper-base"


@pytest.fixture
def wav(tmp_path, monkeypatch):
    """Stand where a.wav is, with a hub that cannot be reached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    samples = np.random.default_rng(0).normal(size=8000) / 8
    soundfile.write("a.wav", samples, 16000)
    return "a.wav"


def test_a_wav_is_encoded_without_a_choice_and_without_network(wav, capsys, caplog):
    caplog.set_level("INFO")
    encode.main([wav, "--format", "jsonl"])
    [line] = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["codes"]) == 24
    # Nobody wonders which quantizer it was.
    assert "quantizer emodb-fbank: " in caplog.text


def test_the_snippet_of_the_card_runs(wav):
    text = (pretrained.HOME / pretrained.DEFAULT / "README.md").read_text("utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(code, names)
    assert names["units"].codes.shape == (24, 1)
    [line] = re.findall(r"```bash\nemoq (.*)\n```", text)
    verb, *words = line.split()
    assert verb == "encode"
    encode.main(words)


def test_a_directory_of_that_name_comes_first(wav):
    shutil.copytree(pretrained.HOME / "emodb-fbank", "emodb-fbank")
    config = read_json("emodb-fbank/config.json")
    Path("emodb-fbank/config.json").write_text(json.dumps(config | {"n_levels": 2}))
    with pytest.raises(ValueError, match="n_levels is 2"):
        emoq_plugin.load("emodb-fbank")


def test_a_wrong_name_is_answered_by_those_that_exist():
    with pytest.raises(ValueError, match=r"comes with the package \(.*emodb-fbank"):
        emoq_plugin.load("emodb-fbanks")


def test_they_are_listed_with_rate_encoder_and_score(capsys):
    quantizers.main([])
    table = capsys.readouterr().out
    quantizers.main(["--format", "jsonl"])
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["name"] for e in entries] == pretrained.names()
    for entry in entries:
        assert entry["rate"] in table and entry["encoder"] in table
        assert re.match(r"macro-F1 \d+\.\d % \[.*\] of 4 classes", entry["score"])
        assert Path(entry["card"]).is_file()


def test_one_command_makes_them_again(miniature, tmp_path):
    """On a miniature of EMO-DB, beside what is there."""
    script, name = ROOT / "local/make_pretrained.sh", "emodb-fbank"
    made = re.findall(r"^make (\S+)", script.read_text(), re.MULTILINE)
    assert sorted(made) == pretrained.names()
    command = [script, tmp_path / "made", name]
    done = subprocess.run(command, capture_output=True, text=True, env=without("EMODB"))
    assert done.returncode == 2 and "EMODB is not set" in done.stderr
    found = without() | {"EMODB": str(miniature("emodb"))}
    done = subprocess.run(command, capture_output=True, text=True, env=found)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "made").iterdir()] == [name]
    card = read_json(tmp_path / "made" / name / "config.json")["card"]
    assert card["about"]["name"] == name and card["golden_clip"]["codes"]
    assert card["training_speakers"][0].startswith("emodb")


def without(*names):
    return {k: v for k, v in os.environ.items() if k not in names}
