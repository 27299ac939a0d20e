"""Options that all encoders with layers share, and what they answer when refused."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from emoq_plugin import devices
from emoq_plugin.speech.encoders.layers import specifications_of_layers
from emoq_plugin.speech.encoders.registry import build_encoder, read_feature_config
from tests.speech.tiny_models import KINDS, LENGTHS, make_espnet_ssl, make_waves

CONF = Path(__file__).parents[2] / "conf" / "features"


@pytest.mark.parametrize("layers", [4, -5, [], [1, 9], "some"])
def test_a_layer_that_is_not_there_is_refused(tiny, layers):
    name, conf = tiny("hubert")
    with pytest.raises(ValueError, match="'all' or whole numbers from -4 to 3.*3 bl"):
        build_encoder(name, **conf, layers=layers)


@pytest.mark.parametrize(
    "options",
    [
        {"layers": [0, 1], "layer_weights": [1.0]},
        {"layers": [0, 1], "layer_weights": [1.0, -1.0]},
        {"layers": [0, 1], "layer_weights": [0, 0]},
        {"layers": [0, 1], "layer_weights": [1, float("nan")]},
        {"layers": [0, 1], "layer_weights": [1, 1], "layer_mode": "concat"},
    ],
)
def test_weights_that_do_not_fit_the_layers_are_refused(tiny, options):
    name, conf = tiny("hubert")
    with pytest.raises(ValueError, match="layer_weights .* for each of 2 layers"):
        build_encoder(name, **conf, **options)


@pytest.mark.parametrize("option", ["layer_mode", "precision"])
def test_a_misspelt_option_is_answered_with_the_choices(option):
    with pytest.raises(ValueError, match=f"{option} 'both', expected one of"):
        build_encoder("huggingface", model="x", **{option: "both"})


def test_batches_hold_at_most_the_given_seconds(tiny):
    name, conf = tiny("hubert")
    encoder = build_encoder(name, **conf, batch_seconds=8000 / 16000)
    batches = list(encoder._batches([4000, 9000, 2000, 2000, 2000, 2000]))
    assert batches == [[2, 3, 4, 5], [0], [1]]
    with pytest.raises(ValueError, match="batch_seconds 0"):
        build_encoder(name, **conf, batch_seconds=0)


@pytest.mark.parametrize(
    "kind, batches",
    [
        ("hubert", [[4, 1, 2, 0, 3]]),
        ("emotion2vec", [[4], [1], [2], [0, 3]]),
        ("s3prl", [[4], [1], [2], [0, 3]]),
        ("espnet_ssl", [[4], [1], [2], [0], [3]]),  # normalises over its batch
        ("espnet_hubert", [[4], [1], [2], [0, 3]]),
    ],
)
def test_waves_share_a_batch_only_where_the_model_keeps_them_apart(tiny, kind, batches):
    name, conf = tiny(kind)
    assert list(build_encoder(name, **conf)._batches(LENGTHS)) == batches


def test_float16_is_left_to_gpus(tiny):
    name, conf = tiny("hubert")
    with pytest.raises(ValueError, match="'float16' on the CPU: it is for GPUs"):
        build_encoder(name, **conf, precision="float16")


def test_a_processor_without_bfloat16_says_so(tiny, monkeypatch):
    name, conf = tiny("hubert")
    monkeypatch.setattr(devices, "has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="'bfloat16': this processor .* 'float32'"):
        build_encoder(name, **conf, precision="bfloat16")


@pytest.mark.skipif(not devices.has_bfloat16(), reason="a processor without bfloat16")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][1]])
def test_bfloat16_on_a_cpu_gives_close_frames_of_the_same_kind(tiny, kind):
    name, conf = tiny(kind)
    exact, half = (
        build_encoder(name, **conf, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert half.specification.versions["precision"] == "bfloat16"
    assert half.specification.fingerprint() == exact.specification.fingerprint()
    for one, two in zip(exact(make_waves()), half(make_waves()), strict=True):
        assert two.dtype == one.dtype and two.shape == one.shape
        assert 0 < np.abs(one - two).max() < 0.15 * np.abs(one).max()


def test_batches_are_reported_as_they_are_done(tiny):
    name, conf = tiny("hubert")
    encoder, samples = build_encoder(name, **conf, batch_seconds=0.25), []
    encoder.on_batch = samples.append
    encoder(make_waves([4000, 2000, 2000, 36000]))
    assert samples == [4000, 4000, 36000]


def test_layers_of_a_concatenation_have_the_specifications_they_have_alone(tiny):
    name, conf = tiny("emotion2vec")
    kept = build_encoder(name, **conf, layers=[1, 3], layer_mode="concat").specification
    for layer, specification in zip(
        (1, 3), specifications_of_layers(kept), strict=True
    ):
        alone = build_encoder(name, **conf, layers=layer).specification
        assert specification.fingerprint() == alone.fingerprint()
        with pytest.raises(ValueError, match="expected layer_mode 'concat'"):
            specifications_of_layers(alone)


@pytest.mark.parametrize(
    "name, files",
    [
        ("huggingface", "model.safetensors"),
        ("emotion2vec", "config.yaml and one .pt file"),
        ("espnet_ssl", "config.yaml and the .pth file"),
    ],
)
def test_a_model_out_of_reach_says_what_to_bring(monkeypatch, name, files):
    import huggingface_hub

    def offline(*args, **kwargs):
        raise OSError("We couldn't connect.\nmore")

    if name == "huggingface":
        pytest.importorskip("transformers")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        ValueError,
        match=f"We couldn't connect. It is.*bring .*{files}.*--model_dir DIR",
    ):
        build_encoder(name, model="org/name")


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_preset_out_of_reach_names_its_model_and_the_file_to_bring(
    path, monkeypatch, tmp_path
):
    import huggingface_hub

    name, conf = read_feature_config(path)
    if "model" not in conf:
        return  # nothing to bring

    def offline(*args, **kwargs):
        raise OSError("We couldn't connect.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    if name == "s3prl":
        download = pytest.importorskip("s3prl.util.download")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
        monkeypatch.setattr(download, "_download", offline)
    elif name == "huggingface":
        pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=r"bring \S") as error:
        build_encoder(name, **conf)
    assert conf["model"] in str(error.value)
    assert re.search(r"\.(safetensors|pth?)\b", str(error.value))


def test_an_s3prl_model_out_of_reach_names_the_file_and_its_place(
    monkeypatch, tmp_path
):
    pytest.importorskip("s3prl")
    from huggingface_hub import constants
    from s3prl.util import download

    def offline(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(download, "_download", offline)
    with pytest.raises(
        ValueError,
        match=rf"no route. .*bring https://\S+/hubert_base_ls960.pt and store it as "
        rf"{tmp_path}/s3prl/\S+hubert_base_ls960.pt",
    ):
        build_encoder("s3prl", model="hubert")
    assert download._download is offline


@pytest.mark.parametrize("kind", ["emotion2vec", "espnet_ssl"])
def test_weights_that_are_missing_are_not_drawn_at_random(tiny, kind, tmp_path):
    import torch

    name, conf = tiny(kind)
    broken = tmp_path / "broken"
    shutil.copytree(conf["model"], broken)
    [path] = [p for p in broken.iterdir() if p.suffix in (".pt", ".pth")]
    state = torch.load(path, weights_only=False)
    weights = state.get("state_dict", state)
    del weights[next(k for k in weights if "norm" in k and "losses" not in k)]
    torch.save(state, path)
    with pytest.raises(ValueError, match="lacks 1 weights, '.*norm.*random"):
        build_encoder(name, model=str(broken))


@pytest.mark.parametrize("kind", ["emotion2vec", "espnet_ssl", "s3prl"])
def test_an_incomplete_directory_says_what_is_there(tiny, kind, tmp_path):
    name, conf = tiny(kind)
    (tmp_path / "notes.txt").write_text("nothing")
    expected = r"found \['notes.txt'\]" if kind != "s3prl" else "found checkpoints"
    with pytest.raises(ValueError, match=expected):
        build_encoder(name, **conf | {"model": str(tmp_path)})


def test_group_normalisation_over_time_keeps_lengths_apart(tmp_path):
    pytest.importorskip("espnet2")
    make_espnet_ssl(tmp_path, norm_mode="group_norm", normalize_audio=False)
    encoder = build_encoder("espnet_ssl", model=str(tmp_path))
    waves = make_waves()
    for wave, frames in zip(waves, encoder(waves), strict=True):
        assert abs(frames - encoder([wave])[0]).max() < 2e-5


def test_encoders_load_no_package_before_they_are_built():
    import subprocess

    code = (
        "import sys\n"
        "from emoq_plugin.speech.encoders.registry import ENCODERS, encoder_class\n"
        "[encoder_class(name) for name in ENCODERS]\n"
        "print(sorted({'s3prl', 'espnet2', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
