"""ESPnet's training with our frontends in two processes, and in low precision."""

import pytest
import soundfile
import torch
import yaml

import emoq_plugin
from emoq_plugin import EmoQuantizer
from emoq_plugin.files import write_table
from emoq_plugin.speech.encoders.registry import build_encoder
from tests.speech.tiny_models import make_waves

TOKENS = ["<blank>", "<unk>", *"abc", "<sos/eos>"]
BLOCK = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1, "dropout_rate": 0.0}
DROPOUTS = {"positional_dropout_rate": 0.0}
EPOCHS = 2


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory):
    encoder = build_encoder("fbank", num_mel_bins=8)
    frames = encoder(make_waves([8000] * 8))
    emotions = [("angry", "sad")[n % 2] for n in range(8)]
    found = EmoQuantizer(6, n_levels=2, router="distortion").fit(frames, emotions)
    found.quantizer_.bank.card["feature"] = encoder.specification.to_json()
    place = tmp_path_factory.mktemp("bank")
    found.save_pretrained(place)
    return str(place)


def config_of(quantizer, output="embedding"):
    return {
        "frontend": "emoq_quantized",
        "frontend_conf": {
            "quantizer": {"path": quantizer},
            "upstream": "features",
            "output": output,
        },
        "token_list": TOKENS,
        "token_type": "char",
        "normalize": None,
        "encoder": "transformer",
        "encoder_conf": BLOCK
        | DROPOUTS
        | {"output_size": 8, "input_layer": "linear", "attention_dropout_rate": 0.0},
        "decoder": "transformer",
        "decoder_conf": BLOCK
        | DROPOUTS
        | {"self_attention_dropout_rate": 0.0, "src_attention_dropout_rate": 0.0},
        "model_conf": {"ctc_weight": 0.5},
    }


@pytest.fixture
def folder(tmp_path, quantizer):
    """A configuration and data: two batches of two, one clip a rank."""
    waves = make_waves([8000, 6000, 8000, 6000])
    for n, wave in enumerate(waves):
        soundfile.write(tmp_path / f"{n}.wav", wave, 16000)
    names = [f"u{n}" for n in range(len(waves))]
    write_table(tmp_path / "wav.scp", {f"u{n}": f"{n}.wav" for n in range(4)})
    write_table(tmp_path / "text", dict(zip(names, ("abc", "ab", "cab", "ba"))))
    write_table(tmp_path / "shape", {u: 8000 for u in names})
    data = [["wav.scp", "speech", "sound"], ["text", "text", "text"]]
    config = config_of(quantizer) | {
        "max_epoch": EPOCHS,
        "batch_type": "unsorted",
        "batch_size": 2,
        "num_workers": 0,
        "optim": "sgd",
        "optim_conf": {"lr": 0.01},
        "best_model_criterion": [["valid", "loss", "min"]],
        "use_tensorboard": False,
        "use_matplotlib": False,
    }
    for part in ("train", "valid"):
        config[f"{part}_data_path_and_name_and_type"] = data
        config[f"{part}_shape_file"] = ["shape"]
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def weights(exp, epoch=EPOCHS):
    return torch.load(exp / f"{epoch}epoch.pth", weights_only=True)


@pytest.fixture(scope="module")
def asr():
    emoq_plugin.register()
    from espnet2.tasks.asr import ASRTask

    return ASRTask


def test_two_processes_train_the_model_of_one(
    folder, quantizer, run_ranks, asr, monkeypatch
):
    train = ["-m", "emoq_plugin.run", "-m", "espnet2.bin.asr_train", "--ngpu", "0"]
    train += ["--config", "conf.yaml", "--dist_backend", "gloo"]
    meet = f"file://{folder}/meet"
    run_ranks(*train, "--output_dir", "two", "--dist_init_method", meet, cwd=folder)
    monkeypatch.chdir(folder)
    asr.main(cmd=["--config", "conf.yaml", "--output_dir", "one", "--ngpu", "0"])
    assert ":0/2]" in (folder / "stderr.0").read_text()
    found, expected = weights(folder / "two"), weights(folder / "one")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if "codebook" in name:
            assert torch.equal(found[name], value), name
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)
    trained = "frontend.embedding.projection.weight"
    assert not torch.equal(found[trained], weights(folder / "two", 1)[trained])
    exp = folder / "two"
    model, _ = asr.build_model_from_file(
        exp / "config.yaml", exp / f"{EPOCHS}epoch.pth", "cpu"
    )
    sha256 = emoq_plugin.load(quantizer).codebooks_sha256
    assert model.frontend.quantizer.routed.codebooks_sha256 == sha256


def build(asr, quantizer, output):
    arguments = asr.get_parser().parse_args(["--output_dir", "unused"])
    for name, value in config_of(quantizer, output).items():
        setattr(arguments, name, value)
    torch.manual_seed(0)
    return asr.build_model(arguments), arguments


def batch():
    waves = torch.stack([torch.as_tensor(wave) for wave in make_waves([8000, 8000])])
    text = torch.tensor([[2, 3, 4], [3, 2, -1]])
    return waves, torch.tensor([8000, 8000]), text, torch.tensor([3, 2])


@pytest.mark.parametrize("output", ["reconstruction", "embedding"])
def test_autocast_trains_every_weight_on_the_same_units(asr, quantizer, output):
    model, _ = build(asr, quantizer, output)
    codes = []
    model.frontend.quantizer.register_forward_hook(
        lambda module, given, found: codes.append(found.codes)
    )
    exact, *_ = model(*batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, *_ = model(*batch())
    loss.backward()
    assert torch.equal(*codes)
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("output", ["reconstruction", "embedding"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_inference_in_low_precision_leaves_codebooks_alone(
    asr, quantizer, tmp_path, output, dtype
):
    from espnet2.bin.asr_inference import Speech2Text

    model, arguments = build(asr, quantizer, output)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(vars(arguments)))
    torch.save(model.state_dict(), tmp_path / "model.pth")
    # ESPnet's CTC scorer has a constant that float16 cannot hold.
    options = {"beam_size": 2, "maxlenratio": -3.0, "ctc_weight": 0.0, "dtype": dtype}
    speech2text = Speech2Text(
        tmp_path / "config.yaml", tmp_path / "model.pth", **options
    )
    found = speech2text.asr_model.frontend
    assert found.quantizer.routed.codebooks_sha256 == (
        model.frontend.quantizer.routed.codebooks_sha256
    )
    books = {n: b for n, b in found.named_buffers() if "codebook" in n}
    assert books and {b.dtype for b in books.values()} == {torch.float32}
    assert speech2text(make_waves([8000])[0])
    if output == "embedding":
        found.embedding.verify_codebooks()
        assert found.embedding.projection.weight.dtype == getattr(torch, dtype)
