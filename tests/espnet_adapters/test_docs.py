"""What the pages about ESPnet show works as printed there."""

import argparse
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import pytest
import soundfile
import torch
import yaml
from sklearn.cluster import MiniBatchKMeans

import emoq_plugin
from emoq_plugin.bin.main import main as emoq
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.files import write_table
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.units.flat import token_list
from emoq_plugin.units.text import to_cjk

ROOT = Path(__file__).parents[2]
# In the order in which a reader comes by what the next page takes for granted.
PAGES = ("espnet", "espnet_asr2", "espnet_frontends", "artifacts")
TEXT = "\n".join((ROOT / f"docs/{p}.md").read_text("utf-8") for p in PAGES)
RATE = 16000

# In place of a recipe's run.sh: takes its options, and leaves what asr2.sh leaves.
RUN = """#!/usr/bin/env bash
set -euo pipefail
while [ $# -gt 0 ]; do declare "${1#--}=$2"; shift 2; done
[ "${stop_stage}" -gt 1 ] || exit 0
if [ -n "${km_tag:-}" ]; then
    [ "$(wc -l <"dump/${km_tag}/tgt_tokens.txt")" -eq "${feature_num_clusters}" ]
    exec grep -q u1 "dump/raw/train/text.km.${km_tag}"
fi
bpe=data/${lang}_token_list/src_bpe_unigram${src_nbpe}_${src_case}_${src_lang}
mkdir -p "${bpe}" "${asr_exp}/decode/test"
touch "${bpe}/bpe.model"
cp trained/* "${asr_exp}"
cp data/test/text "${asr_exp}/decode/test"
"""


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
    card = {"feature": encoder.specification.to_json()}
    bank = CodebookBank(experts, codebooks, norm, emotions=["angry", "sad"], card=card)
    bank.save_pretrained(path / "exp" / "quantizer" / "64x4")
    for name in ("a.wav", "b.flac"):
        samples = np.random.default_rng(0).normal(size=8000) / 8
        (path / "audio").mkdir(exist_ok=True)
        soundfile.write(path / "audio" / name, samples, RATE)
    tables = {"wav.scp": "audio/a.wav", "utt2spk": "s1", "text": "one two"}
    for part in ("train", "dev", "test"):
        for name, value in tables.items():
            for data in ("data", "dump/raw"):
                write_table(path / data / part / name, {"u1": value})
    frames = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    joblib.dump(MiniBatchKMeans(8, n_init=1).fit(frames), path / "km_8.mdl")
    save_recogniser(path / "trained")
    for name, text in {"run.sh": RUN, "path.sh": "", "cmd.sh": ""}.items():
        (path / name).write_text(text)
        (path / name).chmod(0o755)
    (path / "decode.yaml").write_text("beam_size: 2\n")
    return path


def save_recogniser(directory):
    """Save a model that knows no words yet but reads all units of the bank."""
    emoq_plugin.register()
    from espnet2.tasks.mt import MTTask

    args = MTTask.get_parser().parse_args(
        ["--output_dir", "unused", "--token_type", "word", "--src_token_type", "char"]
        + ["--model", "discrete_asr", "--model_conf", "ctc_weight=0.3"]
        + ["--encoder", "transformer", "--decoder", "transformer"]
    )
    block = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1}
    args.encoder_conf = {**block, "output_size": 8, "input_layer": "linear"}
    args.decoder_conf, args.frontend_conf = block, {"embed_dim": 8}
    args.src_token_list = ["<blank>", "<unk>", *to_cjk(range(2 * 64)), "<sos/eos>"]
    args.token_list = ["<blank>", "<unk>", "one", "two", "three", "<sos/eos>"]
    model = MTTask.build_model(args)
    directory.mkdir()
    (directory / "config.yaml").write_text(yaml.safe_dump(vars(args)))
    torch.save(model.state_dict(), directory / "valid.acc.ave.pth")


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def ran(folder):
    """Run all commands of the page in their order; give what the shell printed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "EMOQ_ROOT": str(ROOT),
    }
    printed = ""
    with contextlib.chdir(folder):
        for block in blocks("bash"):
            lines = block.splitlines()
            if all(line.startswith("emoq ") for line in lines):
                for line in lines:
                    run_here(shlex.split(line)[1:])
                continue
            done = subprocess.run(
                ["bash", "-ec", block],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            printed += done.stdout
    return printed


def run_here(words):
    """Run a command of ours where ESPnet is loaded already, with < and > as a shell."""
    with contextlib.ExitStack() as stack:
        for sign, name, mode in (("<", "stdin", "r"), (">", "stdout", "w")):
            if sign in words:
                at = words.index(sign)
                stream = stack.enter_context(open(words[at + 1], mode))
                del words[at : at + 2]
                stack.enter_context(mock.patch(f"sys.{name}", stream))
        emoq(words)


def test_all_commands_run(ran, here):
    assert "frontend: emoq_quantized" in ran
    assert "_Watcher" in ran
    labels = Path("pseudo_labels_km64.txt").read_text().split()
    assert labels[0] == "u1"
    assert len(Path("units.jsonl").read_text().splitlines()) == 2
    assert Path("units.tokens").read_text().split() == token_list([64, 64])
    [scored] = Path("exp/asr_emoq").glob("*/test/wer.json")
    assert json.loads(scored.read_text())["errors"] == 0
    assert len(Path("transcriptions.jsonl").read_text().splitlines()) == 2
    for made in ("km_8.mdl", "onnx/encode.onnx", "onnx/decode.onnx"):
        assert Path("exp", made).exists()


def test_the_python_example_runs(ran, here):
    values = {}
    for block in blocks("python"):
        exec(compile(block, "espnet.md", "exec"), values)
    assert values["units"].codes.shape == (24, 1) == (len(values["units"].times), 1)
    assert values["every"][0].text == values["found"].text


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
    if task == "ser":
        from emoq_plugin.espnet_adapters.ser_task import frontend_choices

        frontend = frontend_choices.get_class(conf["frontend"])(**conf["frontend_conf"])
        codes, lengths = torch.randint(64, (1, 9, 2)), torch.tensor([9])
        frames, _ = frontend(codes, lengths, torch.tensor([[0.0, 1.0]]))
        assert frames.shape == (1, 9, frontend.output_size())
        return
    module = __import__(f"espnet2.tasks.{task}", fromlist=["frontend_choices"])
    frontend = module.frontend_choices.get_class(conf["frontend"])(
        **conf["frontend_conf"]
    )
    frames, lengths = frontend(torch.randn(1, RATE), torch.tensor([RATE]))
    assert frames.shape == (1, int(lengths[0]), frontend.output_size())
    assert 45 < int(lengths[0]) < 55
