"""`emoq predict`: what is heard, its limits, quantizers that hear nothing."""

import json
import re

import numpy as np
import pytest
import torch

import emoq_plugin
from emoq_plugin.bin import predict
from emoq_plugin.core import CodebookBank
from emoq_plugin.core.batch_encoding import batch_encoding
from emoq_plugin.routing.base import RoutingInputs, get_router, routers
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.speech.pipeline import SpeechToUnits
from tests.speech.tiny_bank import make_bank

EMOTIONS = ["angry", "happy", "neutral", "sad"]


def heard(capsys, *arguments):
    predict.main([*map(str, arguments)])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_numbers_are_those_of_router_and_head(folder, capsys):
    paths = [folder / "audio" / name for name in ("a.wav", "b.flac")]
    found = heard(capsys, *paths)
    q = emoq_plugin.load("emodb-fbank")
    speech = SpeechToUnits(q)
    for path, line in zip(paths, found, strict=True):
        frames = speech.features([speech.read(path)])
        assert line["name"] == path.stem
        by_units = q.predict_proba(frames)[0]
        assert [*line["posteriors"]] == EMOTIONS
        np.testing.assert_allclose([*line["posteriors"].values()], by_units, atol=1e-4)
        assert line["emotion"] == q.predict(frames)[0]
        router = line["router_posteriors"]
        assert line["expert"] == f"specific/{max(router, key=router.get)}"
        assert sum(router.values()) == pytest.approx(1, abs=1e-3)


def test_a_quantizer_without_a_head_says_what_its_router_hears(
    folder, tmp_path, capsys
):
    bank = emoq_plugin.load("emodb-fbank").bank
    learned = bank.router_parameters
    headless = CodebookBank(
        bank.experts,
        bank.codebooks,
        bank.normalization,
        emotions=bank.emotions,
        card=bank.card,
        router_parameters={k: v for k, v in learned.items() if k[:5] != "head."},
    )
    RoutedQuantizer(headless, "specific-calibrated").save_pretrained(tmp_path / "q")
    [line] = heard(capsys, folder / "audio/a.wav", "--quantizer", tmp_path / "q")
    assert line["posteriors"] == line["router_posteriors"]
    assert line["expert"] == f"specific/{line['emotion']}"


def test_limits_are_said_even_to_who_wants_quiet(folder, capsys, caplog):
    heard(capsys, folder / "audio/a.wav", "--quiet")
    said = caplog.text
    assert "over angry, happy, neutral, sad alone" in said
    assert "macro-F1 79.0 %" in said and "must not be used to judge people" in said


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("balanced", "no experts and no emotion head.*emoq quantizers"),
        ("specific-distortion", "'distortion' has no posteriors.*calibrated"),
    ],
)
def test_what_hears_nothing_is_refused_before_any_work(
    folder, tmp_path, capsys, caplog, system, message
):
    make_bank().save_pretrained(tmp_path / "bank")
    options = ("--quantizer", tmp_path / "bank", "--system", system)
    with pytest.raises(SystemExit, match="1"):
        heard(capsys, folder / "audio/a.wav", *options)
    [record] = [r for r in caplog.records if r.levelname == "ERROR"]
    assert re.search(message, record.getMessage())


def test_one_bad_recording_does_not_stop_the_others(folder, tmp_path, capsys, caplog):
    (tmp_path / "bad.wav").write_text("no audio")
    with pytest.raises(SystemExit, match="1"):
        predict.main([str(tmp_path / "bad.wav"), str(folder / "audio/a.wav")])
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["name"] == "a"
    assert "1 of 2 recordings cannot be used" in caplog.text


def test_routers_take_the_class_of_their_highest_posterior():
    """The linear one here, the calibrated one above."""
    known = {name for name, router in routers().items() if router.gives_posteriors}
    assert known == {"linear", "calibrated"}
    random = torch.Generator().manual_seed(0)
    bank = make_bank()
    linear = {
        "linear.mean": torch.zeros(24),
        "linear.scale": torch.ones(24),
        "linear.weight": torch.randn(2, 24, generator=random),
        "linear.bias": torch.zeros(2),
    }
    bank = CodebookBank(
        bank.experts,
        bank.codebooks,
        bank.normalization,
        emotions=bank.emotions,
        router_parameters=linear,
    )
    offsets = 30 * torch.randn(16, 1, 12, generator=random)
    clips = batch_encoding(bank, offsets + torch.randn(16, 9, 12, generator=random))
    inputs, experts = RoutingInputs(clips), bank.expert_set("specific")
    found = get_router("linear").posteriors(inputs)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(16))
    places, _ = get_router("linear").choose(inputs, experts)
    assert places[:, 0].tolist() == found.argmax(dim=1).tolist()
    assert len(set(places[:, 0].tolist())) == 2
    assert get_router("cosine").posteriors(inputs) is None
