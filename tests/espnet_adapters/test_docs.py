"""What docs/espnet.md shows works as it stands there."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
import torch
import yaml
from sklearn.cluster import MiniBatchKMeans

import emoq_plugin
from emoq_plugin.features.registry import build_encoder
from emoq_plugin.quantizers import CodebookBank, Normalization
from emoq_plugin.units.flat import token_list

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "espnet.md").read_text(encoding="utf-8")
RATE = 16000


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.S | re.M)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold what the page takes for granted: audio, a bank, an ESPnet model."""
    path = tmp_path_factory.mktemp("page")
    random = torch.Generator().manual_seed(0)
    encoder = build_encoder("fbank")
    experts = ["balanced", "specific/angry", "specific/sad"]
    codebooks = [torch.randn(3, 64, 80, generator=random) for _ in range(4)]
    norm = Normalization("level", torch.zeros(80), torch.ones(80))
    card = {"feature": encoder.card.to_json()}
    bank = CodebookBank(experts, codebooks, norm, emotions=["angry", "sad"], card=card)
    bank.save_pretrained(path / "exp" / "quantizer" / "64x4")
    for name in ("a.wav", "b.flac"):
        samples = np.random.default_rng(0).normal(size=8000) / 8
        (path / "audio").mkdir(exist_ok=True)
        soundfile.write(path / "audio" / name, samples, RATE)
    (path / "data" / "train").mkdir(parents=True)
    (path / "data" / "train" / "wav.scp").write_text("u1 audio/a.wav\n")
    frames = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    joblib.dump(MiniBatchKMeans(8, n_init=1).fit(frames), path / "km_8.mdl")
    (path / "bin").mkdir()
    for name, module in (("emoq", "-m emoq_plugin.bin.main"), ("python", "")):
        script = path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        script.chmod(0o755)
    return path


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def ran(folder):
    """Run all commands of the page in their order."""
    script = "set -e\n" + "\n".join(blocks("bash"))
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_commands_run(ran, here):
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "frontend: emoq_quantized" in ran.stdout
    assert "_Watcher" in ran.stdout
    labels = Path("pseudo_labels_km64.txt").read_text().split()
    assert labels[0] == "u1"
    assert len(Path("units.json").read_text().splitlines()) == 2
    assert Path("units.tokens").read_text().split() == token_list([64, 64])
    for made in ("km_8.mdl", "onnx/encode.onnx", "onnx/decode.onnx"):
        assert Path("exp", made).exists()


def test_the_python_example_runs(ran, here):
    values = {}
    for block in blocks("python"):
        exec(compile(block, "espnet.md", "exec"), values)
    assert values["units"].codes.shape == (24, 1)


TITLES = [block.splitlines()[0].removeprefix("# ") for block in blocks("yaml")]


@pytest.mark.parametrize("task", TITLES)
def test_each_configuration_builds(ran, here, task):
    emoq_plugin.register()
    conf = yaml.safe_load(blocks("yaml")[TITLES.index(task)])
    if task == "gan_tok":
        from espnet2.tasks.gan_tok import quantizer_choices

        module = quantizer_choices.get_class(conf["quantizer"])(
            **conf["quantizer_conf"]
        )
        assert module.num_clusters == 2 * 64
        return
    if task == "mt":
        from espnet2.tasks.mt import MTTask

        args = MTTask.get_parser().parse_args(["--output_dir", "unused"])
        tokens = ["<blank>", "<unk>", "a", "<sos/eos>"]
        values = {**vars(args), **conf, "token_list": tokens}
        model = MTTask.build_model(argparse.Namespace(**values))
        assert model.patch_size == 2
        return
    module = __import__(f"espnet2.tasks.{task}", fromlist=["frontend_choices"])
    frontend = module.frontend_choices.get_class(conf["frontend"])(
        **conf["frontend_conf"]
    )
    frames, lengths = frontend(torch.randn(1, RATE), torch.tensor([RATE]))
    assert frames.shape == (1, int(lengths[0]), frontend.output_size())
    assert 45 < int(lengths[0]) < 55
