"""The layout of tts2.sh and svs2.sh: an id for every frame and level, nothing else."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import emoq_plugin
from emoq_plugin import EmoQuantizer
from emoq_plugin.bin import synthesis_units
from emoq_plugin.files import read_table, write_table
from emoq_plugin.speech.encoders.registry import build_encoder
from tests.speech.tiny_models import make_waves

SETS = ("train", "dev")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe's directory with two sets and quantizers."""
    monkeypatch.chdir(tmp_path)
    waves = make_waves([4000 + 400 * n for n in range(16)])
    encoder = build_encoder("fbank", num_mel_bins=12)
    frames = encoder(waves)
    emotions = [("angry", "sad")[n % 2] for n in range(16)]
    for name, options in {
        "experts": {"router": "distortion", "norm": "level"},
        "soft": {"router": "soft", "norm": "level"},
        "two_scale": {"router": None, "norm": "corpus", "clip_bits": 4},
    }.items():
        learned = EmoQuantizer(4, n_levels=2, **options).fit(frames, emotions)
        learned.quantizer_.bank.card["feature"] = encoder.specification.to_json()
        learned.save_pretrained(name)
    for place, name in enumerate(SETS):
        data = Path("dump/raw", name)
        names = [f"{name}{n}" for n in range(3)]
        for n, u in enumerate(names):
            soundfile.write(f"{u}.wav", waves[3 * place + n], 16000)
        write_table(data / "wav.scp", {u: f"{u}.wav" for u in names})
        write_table(data / "utt2spk", {u: "a" for u in names})
        write_table(data / "text", {u: "one" for u in names})


def call(layout, quantizer="experts", *options):
    synthesis_units.main(
        ["--layout", layout, "--quantizer", quantizer, "--sets", *SETS, *options]
    )


@pytest.mark.parametrize(
    "layout, levels, table", [("tts2", 1, "text.km.{}"), ("svs2", 2, "token_{}")]
)
def test_every_frame_has_its_expert_and_its_code(recipe, layout, levels, table):
    call(layout, "experts", "--n_levels", str(levels))
    [options] = Path("dump").glob(f"*/{layout}.options")
    lines = options.read_text().split("\n")[:-1]
    given = dict(zip(lines[::2], lines[1::2], strict=True))
    quantizer = emoq_plugin.load("experts", n_levels=levels)
    tag = options.parent.name
    assert quantizer.codebooks_sha256[:8] in tag and tag in given[f"--{model(layout)}"]
    experts = quantizer.bank.experts
    for name in SETS:
        for u, text in read_table(f"dump/raw/{name}/{table.format(tag)}").items():
            found = quantizer.units(f"{u}.wav")
            place = experts.index(next(iter(found.route)))
            ids = np.array(text.split(), int).reshape(-1, levels)
            np.testing.assert_array_equal(ids, found.codes + 4 * place)
    if layout == "svs2":
        expected = {"--nclusters": 4 * len(experts), "--preset_layer": 2}
        expected |= {"--preset_token": f"token_{tag}", "--stage": 5}
    else:
        expected = {"--feature_num_clusters": 4 * len(experts), "--km_tag": tag}
        expected |= {"--stage": 7}
        tokens = (options.parent / "tgt_tokens.txt").read_text().split()
        assert len(set(tokens)) == 4 * len(experts)
    assert {key: given[key] for key in expected} == {
        key: str(value) for key, value in expected.items()
    }


def model(layout):
    return {"tts2": "tts2_exp", "svs2": "svs_exp"}[layout]


@pytest.mark.parametrize(
    "layout, quantizer, message",
    [
        ("tts2", "experts", "tts2 predicts one level, found --n_levels 2"),
        ("svs2", "soft", "mixes two experts, svs2 predicts one"),
        ("svs2", "two_scale", "sends clip codes"),
    ],
)
def test_what_is_not_an_id_a_frame_is_refused_before_anything_is_written(
    recipe, caplog, layout, quantizer, message
):
    before = sorted(Path("dump").rglob("*"))
    with pytest.raises(SystemExit):
        call(layout, quantizer)
    assert message in caplog.text
    assert sorted(Path("dump").rglob("*")) == before


def test_a_set_that_lacks_a_table_is_named(recipe, caplog):
    Path("dump/raw/dev/text").unlink()
    with pytest.raises(SystemExit):
        call("svs2")
    assert "dump/raw/dev/text is missing" in caplog.text
    assert not list(Path("dump").glob("raw/*/token_*"))
