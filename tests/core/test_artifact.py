"""Banks on disk: what is saved is what is loaded, and damage is reported."""

import json
import shutil

import pytest
import torch
import yaml

import emoq_plugin
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.routing.quantizer import RoutedQuantizer

EXPERTS = ["balanced", "specific/angry", "specific/sad"]


def make(**options):
    generator = torch.Generator().manual_seed(0)
    codebooks = [torch.randn(3, k, 2, generator=generator) for k in (4, 3)]
    arguments = {
        "emotions": ["angry", "sad"],
        "card": {"corpus": "tiny", "seed": 7, "training_utterances": 3},
        "router_parameters": {"soft.temperature": torch.tensor(0.25)},
    }
    norm = Normalization("level", torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    return CodebookBank(EXPERTS, codebooks, norm, **arguments | options)


@pytest.fixture
def saved(tmp_path):
    make().save_pretrained(tmp_path / "bank")
    return tmp_path / "bank"


def edit(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "remove"}))


def test_a_bank_comes_back_as_it_was_saved(saved):
    bank, loaded = make(), CodebookBank.from_pretrained(saved)
    assert loaded.experts == EXPERTS
    assert loaded.emotions == ["angry", "sad"]
    assert loaded.card == bank.card
    assert loaded.codebooks_sha256 == bank.codebooks_sha256
    assert loaded.normalization.kind == "level"
    assert loaded.router_parameters["soft.temperature"] == 0.25
    assert all(torch.equal(a, b) for a, b in zip(bank.codebooks, loaded.codebooks))
    frames = torch.randn(1, 9, 2)
    for name in EXPERTS:
        assert torch.equal(
            bank.expert(name)(frames).features, loaded.expert(name)(frames).features
        )


def test_the_card_says_what_the_bank_is(saved):
    text = (saved / "README.md").read_text()
    for part in ("specific/angry", "| corpus | tiny |", "level", "4 3"):
        assert part in text


def test_saving_again_replaces_the_artifact(saved):
    make(card={"seed": 8}).save_pretrained(saved)
    assert CodebookBank.from_pretrained(saved).card == {"seed": 8}
    assert sorted(p.name for p in saved.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


def test_a_wrong_checksum_names_the_file(saved):
    edit(saved, codebooks_sha256="0" * 64)
    with pytest.raises(ValueError, match="bank/model.safetensors: .* sha256"):
        CodebookBank.from_pretrained(saved)


def test_a_changed_codebook_is_noticed(saved):
    path = saved / "model.safetensors"
    value = make().codebooks[1][2, 1, 0].numpy().tobytes()
    assert path.read_bytes().count(value) == 1
    path.write_bytes(path.read_bytes().replace(value, b"\0\0\0\0"))
    with pytest.raises(ValueError, match="changed or damaged"):
        CodebookBank.from_pretrained(saved)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_file_is_damage(saved, size):
    raw = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(raw[:size])
    with pytest.raises(ValueError, match="bank: damaged artifact"):
        CodebookBank.from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(ValueError, match=f"not an artifact: {name} is missing"):
        CodebookBank.from_pretrained(saved)


def test_another_type_of_artifact_is_refused(saved):
    with pytest.raises(ValueError, match="'CodebookBank', expected 'RoutedQuantizer'"):
        RoutedQuantizer.from_pretrained(saved)


@pytest.mark.parametrize(
    "values",
    [
        {"sizes": [4, 3, 2]},
        {"sizes": 7},
        {"sizes": None},
        {"experts": ["balanced"]},
        {"experts": ["a", "a", "a"]},
        {"experts": 3},
        {"normalization": "whitening"},
        {"normalization": ["level"]},
        {"emotions": "remove"},
        {"codebooks_sha256": "remove"},
        {"card": "remove"},
    ],
    ids=str,
)
def test_an_absurd_config_is_one_clear_error(saved, values):
    edit(saved, **values)
    with pytest.raises(ValueError, match=str(saved)):
        CodebookBank.from_pretrained(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null"])
def test_a_config_that_is_none_is_named(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json"):
        CodebookBank.from_pretrained(saved)


@pytest.mark.parametrize("name", ["nowhere", "./no/where", "../bank", "a//b"])
def test_a_name_that_is_no_directory_and_no_hub_name_is_refused(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="neither a directory, nor .*, nor a hub name"):
        CodebookBank.from_pretrained(name)


def test_what_goes_to_the_hub_comes_back_with_its_card(tmp_path, monkeypatch):
    asked = []

    class Hub:
        def create_repo(self, repo_id, *, private, exist_ok):
            asked.append((repo_id, private))

        def upload_folder(self, *, repo_id, folder_path):
            shutil.copytree(folder_path, tmp_path / repo_id)
            return f"address of {repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path / name)
    )
    feature = {"encoder": "fbank", "dimension": 2, "frame_rate_hz": 50.0}
    quantizer = RoutedQuantizer(
        make(card={"feature": feature}), "specific-distortion", n_levels=1
    )
    assert quantizer.push_to_hub("me/units") == "address of me/units"
    assert asked == [("me/units", True)]
    loaded = emoq_plugin.load("me/units")
    assert (loaded.system, loaded.n_levels) == (quantizer.system, 1)
    assert loaded.codebooks_sha256 == quantizer.codebooks_sha256
    _, metadata, card = (tmp_path / "me/units/README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(metadata)["library_name"] == "emoq"
    for part in ("specific-distortion, 1 level", " 100 bit/s", loaded.codebooks_sha256):
        assert part in card


@pytest.mark.parametrize("n_levels", [0, 3, -1])
def test_levels_that_were_not_learned_are_refused(saved, n_levels):
    with pytest.raises(ValueError, match=f"n_levels is {n_levels}, expected 1 to 2"):
        emoq_plugin.load(str(saved), system="balanced", n_levels=n_levels)
    RoutedQuantizer(make(), "balanced").save_pretrained(saved)
    with pytest.raises(ValueError, match=f"n_levels is {n_levels}, expected 1 to 2"):
        emoq_plugin.load(str(saved), n_levels=n_levels)


def test_experts_are_found_by_group_and_name():
    bank = make()
    assert bank.expert_sets == ["balanced", "specific"]
    assert bank.expert_set("specific") == EXPERTS[1:]
    assert bank.expert_set("balanced") == ["balanced"]
    assert (bank.sizes, bank.n_levels, bank.dimension) == ([4, 3], 2, 2)
    assert torch.equal(bank.expert("specific/sad").codebooks[1], bank.codebooks[1][2])
    with pytest.raises(ValueError, match="no expert set 'spec', .*'specific'"):
        bank.expert_set("spec")
    with pytest.raises(ValueError, match="no expert 'specific/happy', .*specific/sad"):
        bank.expert("specific/happy")


def test_a_subset_keeps_the_codebooks_of_its_experts():
    bank = make()
    part = bank.subset(["specific/sad", "balanced"])
    assert part.experts == ["specific/sad", "balanced"]
    assert torch.equal(part.codebooks[0], bank.codebooks[0][[2, 0]])
    assert part.normalization.kind == "level"


def test_codebooks_of_a_bank_are_buffers():
    bank = make()
    assert not list(bank.parameters())
    assert {"codebook_0", "codebook_1"} <= set(bank.state_dict())


def test_shapes_that_do_not_agree_are_refused():
    bank = make()
    with pytest.raises(ValueError, match=r"level 1 have shape \(2, 3, 2\), expected"):
        CodebookBank(
            EXPERTS,
            [bank.codebooks[0], bank.codebooks[1][:2]],
            bank.normalization,
            emotions=bank.emotions,
        )
    with pytest.raises(ValueError, match="repeat"):
        CodebookBank(
            ["a", "a", "b"], bank.codebooks, bank.normalization, emotions=bank.emotions
        )


def test_replaced_router_parameters_leave_nothing_behind(tmp_path):
    bank = make()
    bank.router_parameters = {}
    before = set(bank.state_dict())
    assert not any(name.startswith("router") for name in before)
    bank.router_parameters = {"linear.bias": torch.ones(2), "old": torch.ones(1)}
    bank.router_parameters = {"linear.bias": torch.zeros(2)}
    assert set(bank.state_dict()) - before == {"router_linear_bias"}
    assert not hasattr(bank, "router_old")
    bank.save_pretrained(tmp_path)
    again = CodebookBank.from_pretrained(tmp_path).router_parameters
    assert {name: v.tolist() for name, v in again.items()} == {"linear.bias": [0, 0]}


def test_names_of_router_parameters_stay_one_to_one():
    with pytest.raises(ValueError, match="'a.b', 'a_b'.*differ only in"):
        make().router_parameters = {"a.b": torch.ones(1), "a_b": torch.zeros(1)}
