"""Model directories as they come from others: every fault is one line that names it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from emoq_plugin.speech.encoders.model_files import fault_of
from emoq_plugin.speech.encoders.registry import build_encoder
from tests.speech.tiny_models import make_waves

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3786\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
DAMAGE = {
    "a pointer of Git LFS": lambda whole: POINTER,
    "a web page": lambda whole: PAGE,
    "is empty": lambda whole: b"",
    "zero bytes": lambda whole: bytes(len(whole)),
    "": lambda whole: whole[: len(whole) // 2],  # other words for every format
    "bring": lambda whole: whole[:-10],
}
WEIGHTS = ("model.safetensors", "hubert.pt", "m.pt", "train.loss.best.pth")


@pytest.fixture(params=["hubert", "whisper", "s3prl", "emotion2vec", "espnet_ssl"])
def copied(request, tiny, tmp_path):
    """Return an encoder's name, its options, and a copy of its model to spoil."""
    name, conf = tiny(request.param)
    directory = tmp_path / "model"
    shutil.copytree(conf["model"], directory)
    return name, conf | {"model": str(directory)}, directory


def refused(name, conf):
    with pytest.raises(ValueError) as caught:
        build_encoder(name, **conf)
    [line] = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize("words", DAMAGE)
def test_damaged_weights_are_named_with_what_is_wrong_and_what_to_bring(copied, words):
    name, conf, directory = copied
    [path] = [directory / file for file in WEIGHTS if (directory / file).exists()]
    path.write_bytes(DAMAGE[words](path.read_bytes()))
    line = refused(name, conf)
    assert f"{path}: " in line and words in line and "xpected" in line


@pytest.mark.parametrize("words", ["a pointer of Git LFS", "a web page", "is empty"])
def test_a_damaged_configuration_is_named(copied, words):
    name, conf, directory = copied
    for path in [*directory.glob("*config.json"), *directory.glob("*.yaml")]:
        if path.name == "generation_config.json":
            continue  # of the decoder
        whole = path.read_bytes()
        path.write_bytes(DAMAGE[words](whole))
        line = refused(name, conf)
        assert f"{path}: " in line and words in line
        path.write_bytes(whole)
    build_encoder(name, **conf)


@pytest.mark.parametrize("words", DAMAGE)
def test_weights_of_older_transformers_are_looked_at_too(tiny, tmp_path, words):
    name, conf = tiny("hubert")
    directory = tmp_path / "model"
    shutil.copytree(conf["model"], directory)
    torch.save(
        load_file(directory / "model.safetensors"), directory / "pytorch_model.bin"
    )
    (directory / "model.safetensors").unlink()
    conf["model"] = str(directory)
    build_encoder(name, **conf)
    path = directory / "pytorch_model.bin"
    path.write_bytes(DAMAGE[words](path.read_bytes()))
    assert f"{path}: " in refused(name, conf)


def test_a_damaged_file_that_nobody_reads_stops_nothing(tiny, tmp_path):
    name, conf = tiny("hubert")
    directory = tmp_path / "model"
    shutil.copytree(conf["model"], directory)
    (directory / "pytorch_model.bin").write_bytes(POINTER)
    build_encoder(name, model=str(directory))


SIZES = {
    "hubert": ("config.json", "hidden_size"),
    "whisper": ("config.json", "d_model"),
    "emotion2vec": ("config.yaml", "embed_dim"),
    "espnet_ssl": ("config.yaml", "output_size"),
    "espnet_hubert": ("config.yaml", "encoder_embed_dim"),
}


@pytest.mark.parametrize("kind", SIZES)
def test_another_hidden_size_is_reported_in_one_line(tiny, tmp_path, kind):
    name, conf = tiny(kind)
    directory = tmp_path / "model"
    shutil.copytree(conf["model"], directory)
    file, option = SIZES[kind]

    def change(values):
        return {
            key: change(v) if isinstance(v, dict) else 2 * v if key == option else v
            for key, v in values.items()
        }

    path = directory / file
    is_json = file.endswith("json")
    values = (json.loads if is_json else yaml.safe_load)(path.read_text())
    path.write_text((json.dumps if is_json else yaml.safe_dump)(change(values)))
    line = refused(name, conf | {"model": str(directory)})
    assert str(directory) in line
    assert "other shapes than its configuration" in line or "do not fit" in line


@pytest.mark.parametrize("kind", ["hubert", "s3prl", "emotion2vec", "espnet_ssl"])
def test_a_relative_directory_is_looked_up_where_the_user_is(tiny, kind, monkeypatch):
    name, conf = tiny(kind)
    expected = build_encoder(name, **conf)
    place = Path(conf["model"])
    monkeypatch.chdir(place.parent)
    found = build_encoder(name, **conf | {"model": place.name})
    assert found.specification.fingerprint() == expected.specification.fingerprint()
    assert (found(make_waves([2000]))[0] == expected(make_waves([2000]))[0]).all()


def test_a_preprocessor_without_a_sampling_rate_is_not_a_default_one(tiny, tmp_path):
    name, conf = tiny("hubert")
    directory = tmp_path / "model"
    shutil.copytree(conf["model"], directory)
    (directory / "preprocessor_config.json").write_text('{"error": "Not found"}')
    line = refused(name, {"model": str(directory)})
    assert "preprocessor_config.json names no sampling_rate" in line


def test_a_file_in_place_of_a_directory_is_not_looked_up_on_the_hub(tiny):
    name, conf = tiny("hubert")
    line = refused(name, {"model": f"{conf['model']}/model.safetensors"})
    assert "is no directory" in line and "Expected config.json" in line


def test_good_files_have_no_fault(tiny):
    for kind in ("hubert", "whisper", "s3prl", "emotion2vec", "espnet_ssl"):
        for path in Path(tiny(kind)[1]["model"]).iterdir():
            assert fault_of(path) is None, path
