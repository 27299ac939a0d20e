"""Golden frames: an artifact is refused where it gives other codes than it gave."""

import json

import pytest
import torch

import emoq_plugin
from emoq_plugin.core import golden, nearest
from tests.speech.tiny_bank import make_bank


@pytest.fixture
def saved(tmp_path):
    make_bank().save_pretrained(tmp_path / "bank")
    return tmp_path / "bank"


def load(place, **options):
    return emoq_plugin.load(str(place), system="specific-distortion", **options)


def test_the_numbers_are_those_of_every_machine():
    drawn = golden.draw(5) * 2**31 + 2**31
    assert drawn.tolist() == [
        1013904223,
        1196435762,
        3519870697,
        2868466484,
        1649599747,
    ]


@pytest.mark.parametrize("kind", ["level", "corpus", "clip", "speaker"])
def test_every_artifact_holds_codes_and_loads_with_them(tmp_path, kind):
    make_bank(kind).save_pretrained(tmp_path)
    recorded = json.loads((tmp_path / "config.json").read_text())["golden"]
    levels = [level.split() for level in recorded["specific/sad"]]
    assert [len(level) for level in levels] == [golden.N_FRAMES] * 2
    assert all(
        len(set(level)) > 1 for level in levels
    ), "codes of one codeword say nothing"
    assert load(tmp_path, n_levels=1).n_levels == 1


def test_other_arithmetic_is_refused_unless_asked_for(saved, monkeypatch):
    good = load(saved)
    exact = nearest.nearest_codewords

    def coarse(frames, codebook, **options):
        return exact(frames.mul(2).round().div(2), codebook, **options)

    monkeypatch.setattr("emoq_plugin.core.encoding.nearest_codewords", coarse)
    with pytest.raises(ValueError, match="golden frames .* the arithmetic differs"):
        load(saved)
    assert load(saved, check=False).bank.experts == good.bank.experts


def test_a_code_between_two_codewords_is_no_fault():
    found = {"balanced": [" ".join("3" * 100)]}
    one_other = {"balanced": [" ".join("3" * 99 + "4")]}
    assert golden.share_that_differs(found, one_other) == 0.01
    golden.check_golden_codes(found, one_other, "here")


def test_an_artifact_of_before_there_were_golden_frames_loads(saved):
    config = json.loads((saved / "config.json").read_text())
    del config["golden"]
    (saved / "config.json").write_text(json.dumps(config))
    assert load(saved).bank.sizes == [8, 6]


def test_codes_of_golden_frames_do_not_depend_on_the_experts_beside_them(saved):
    bank = make_bank()
    alone = bank.subset(["specific/sad"]).golden()
    assert alone["specific/sad"] == bank.golden()["specific/sad"]
    assert not torch.equal(*bank.by_expert()["specific/sad"])
