"""ESPnet's own SSL models give through our path what ESPnet gives alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("espnet2")

from emoq_plugin.speech.encoders.registry import build_encoder  # noqa: E402
from tests.speech.tiny_models import (  # noqa: E402
    KINDS,
    make_espnet_hubert,
    make_espnet_ssl,
    make_waves,
)

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    name, make, options = KINDS["espnet_ssl"]
    directory = tmp_path_factory.mktemp("espnet_ssl")
    make(directory)
    return name, options | {"model": str(directory)}


def _encode(directory):
    return build_encoder(
        "espnet_ssl", model=str(directory), layers=[1, 2, 3], layer_mode="concat"
    )


def test_frames_of_the_ssl_task_are_those_of_espnet(tmp_path):
    model = make_espnet_ssl(tmp_path)
    encoder = _encode(tmp_path)
    for wave in make_waves([4000, 1700]):
        with torch.no_grad():
            last, layers, _ = model.inference_encode(
                torch.from_numpy(wave)[None], torch.tensor([len(wave)])
            )
        expected = torch.cat([*layers[:2], last], dim=-1)[0].numpy()
        np.testing.assert_allclose(encoder([wave])[0], expected, **CLOSE)
    assert encoder.specification.settings["encoder"] == "EBranchformerEncoder"


def test_frames_of_the_hubert_task_are_those_of_torchaudio(tmp_path):
    model = make_espnet_hubert(tmp_path)
    alone = model.encoder.hubert_pretrain_model.wav2vec2
    encoder = _encode(tmp_path)
    for wave in make_waves([4000, 1700]):
        values = torch.from_numpy(wave)[None]
        with torch.no_grad():
            layers, _ = alone.extract_features(values)
            last, _ = alone(values)
        expected = torch.cat([*layers[:2], last], dim=-1)[0].numpy()
        np.testing.assert_allclose(encoder([wave])[0], expected, **CLOSE)


def test_a_packed_model_is_found_by_its_meta_file(packed, tmp_path):
    name, conf = packed
    packed = tmp_path / "packed"
    shutil.copytree(conf["model"], packed / "exp/train")
    (packed / "exp/train/older.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="found .*older.pth.*expected one config"):
        build_encoder(name, model=str(packed))
    meta = {
        "files": {"ssl_model_file": "exp/train/train.loss.best.pth"},
        "yaml_files": {"ssl_train_config": "exp/train/config.yaml"},
    }
    (packed / "meta.yaml").write_text(yaml.safe_dump(meta))
    found = build_encoder(name, model=str(packed)).specification
    assert (
        found.fingerprint() == build_encoder(name, **conf).specification.fingerprint()
    )


def test_of_a_published_model_only_the_named_checkpoint_is_downloaded(
    packed, tmp_path, monkeypatch
):
    import huggingface_hub

    name, conf = packed
    asked = []

    def download(model, *, ignore_patterns, allow_patterns):
        asked.append((model, allow_patterns))
        files = allow_patterns or ["config.yaml"]
        for file in files:
            shutil.copy(f"{conf['model']}/{file}", tmp_path)
        return str(tmp_path)

    meta = {"files": {"m": "train.loss.best.pth"}, "yaml_files": {"c": "config.yaml"}}
    (tmp_path / "meta.yaml").write_text(yaml.safe_dump(meta))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    specification = build_encoder(name, model="org/name").specification
    assert asked == [("org/name", None), ("org/name", ["train.loss.best.pth"])]
    assert (
        specification.fingerprint()
        == build_encoder(name, **conf).specification.fingerprint()
    )
    assert specification.versions["model"] == "org/name"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"encoder": "hubert_pretrain"}, "trained with fairseq"),
        (
            {"frontend": "default", "frontend_conf": {}},
            "frontend DefaultFrontend.*expected the frontend wav2vec_cnn",
        ),
    ],
)
def test_models_of_other_kinds_are_refused(packed, tmp_path, change, message):
    name, conf = packed
    config = yaml.safe_load(Path(conf["model"], "config.yaml").read_text("utf-8"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | change))
    if "frontend" in change:
        from espnet2.tasks.ssl import SSLTask

        model, _ = SSLTask.build_model_from_file(tmp_path / "config.yaml", None)
        torch.save(model.state_dict(), tmp_path / "a.pth")
    else:
        shutil.copy(f"{conf['model']}/train.loss.best.pth", tmp_path)
    with pytest.raises(ValueError, match=message):
        build_encoder(name, model=str(tmp_path))
