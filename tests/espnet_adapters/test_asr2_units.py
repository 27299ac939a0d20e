"""The bridge to asr2.sh: its files fit the quantizer, and nothing stale gets in."""

import json
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
import yaml

import emoq_plugin
from emoq_plugin import EmoQuantizer
from emoq_plugin.bin._parser import made, parser_of
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.espnet_adapters.asr2 import Asr2Units
from emoq_plugin.espnet_adapters.asr2_units import Asr2UnitsOptions, asr2_units
from emoq_plugin.evaluation.word_errors import word_errors
from emoq_plugin.files import read_table, write_table
from emoq_plugin.speech.audio import read_audio, resample
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.units.flat import token_list

RATE, SIZES, BINS = 16000, [8, 6], 12
EXPERTS = ["balanced", "specific/angry", "specific/sad"]
SETS = {"train": 4, "dev": 2, "test": 2}


def save_bank(path, *, seed=0, sizes=SIZES, norm="level"):
    random = torch.Generator().manual_seed(seed)
    card = {
        "feature": build_encoder("fbank", num_mel_bins=BINS).specification.to_json()
    }
    codebooks = [3 * torch.randn(3, k, BINS, generator=random) for k in sizes]
    # The experts of the emotions like rising and falling spectra.
    codebooks[0][1:] += torch.linspace(-6, 6, BINS) * torch.tensor([[[1.0]], [[-1.0]]])
    CodebookBank(
        EXPERTS,
        codebooks,
        Normalization(norm, torch.zeros(BINS), torch.ones(BINS)),
        emotions=["angry", "sad"],
        card=card,
    ).save_pretrained(path)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe's directory with three sets, a bank and a configuration."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, count in SETS.items():
        ids = [f"{'ab'[i % 2]}-{name}{i}" for i in range(count)]
        for i, u in enumerate(ids):
            shape = np.repeat(random.uniform(0.01, 1, 10 + i), 800)
            noise = shape * random.normal(size=len(shape)) / 9
            noise = (
                np.diff(noise, 3) if i % 2 else np.convolve(noise, np.hanning(9) / 4)
            )
            soundfile.write(f"{u}.wav", noise / 2, RATE)
        write_table(f"data/{name}/wav.scp", {u: f"{u}.wav" for u in ids})
        write_table(f"data/{name}/utt2spk", {u: u[0] for u in ids})
        write_table(f"data/{name}/text", {u: "one two" for u in ids})
    save_bank(Path("bank"))
    Path("train.yaml").write_text("frontend_conf: {level_mode: concat}\n")
    return tmp_path


def bridge(*options, quantizer="bank", system="specific-distortion", n_levels=1):
    arguments = [
        "--quantizer",
        quantizer,
        "--system",
        system,
        "--n_levels",
        str(n_levels),
    ]
    arguments += ["--sets", *SETS, "--asr_exp", "exp/asr", *options]
    asr2_units(
        made(Asr2UnitsOptions, parser_of(Asr2UnitsOptions).parse_args(arguments))
    )
    lines = Path("exp/asr/asr2.options").read_text().split("\n")[:-1]
    return dict(zip(lines[::2], lines[1::2]))


def expected(name, *, n_levels, system="specific-distortion"):
    quantizer = emoq_plugin.load("bank", system=system, n_levels=n_levels)
    found = {u: quantizer.units(f"{u}.wav") for u in read_table(f"data/{name}/text")}
    return quantizer, found


def test_single_stream_is_one_character_for_expert_and_code_without_repetition(recipe):
    given = bridge()
    table = read_table(f"{given['--dumpdir']}/raw/train/text.rm.{given['--src_lang']}")
    quantizer, units = expected("train", n_levels=1)
    for u, found in units.items():
        place = quantizer.bank.experts.index(next(iter(found.route)))
        codes = (found.codes[:, 0] + place * SIZES[0]).tolist()
        kept = [c for i, c in enumerate(codes) if i == 0 or c != codes[i - 1]]
        assert table[u] == "".join(chr(0x4E00 + c) for c in kept)
    characters = {c for text in table.values() for c in text}
    assert max(map(ord, characters)) < 0x4E00 + 2 * SIZES[0]
    assert len({next(iter(f.route)) for f in units.values()}) == 2, "both experts"


def test_multi_stream_is_flat_ids_that_fill_the_token_list_of_the_frontend(recipe):
    given = bridge("--asr_config", "train.yaml", n_levels=2)
    raw = Path(given["--dumpdir"], "raw")
    quantizer, units = expected("dev", n_levels=2)
    table = read_table(raw / f"dev/text.ts.{given['--src_lang']}")
    n_ids = 2 + 2 * sum(SIZES)
    for u, found in units.items():
        ids = kaldiio.load_mat(table[u])
        assert ids.dtype == np.float32 and ids.shape == (2 * len(found.codes),)
        assert (ids == np.rint(ids)).all() and ids.min() >= 2 and ids.max() < n_ids
        place = quantizer.bank.experts.index(next(iter(found.route)))
        back = ids.reshape(-1, 2) - 2 - place * sum(SIZES) - [0, SIZES[0]]
        np.testing.assert_array_equal(back, found.codes)
    tokens = (raw / "dev/token_lists/codec_token_list").read_text().split()
    assert ["<blank>", "<unk>", *tokens, "<sos/eos>"] == token_list(SIZES, n_experts=2)


@pytest.fixture
def two_scale(recipe):
    """Save a quantizer with a clip code and two levels."""
    encoder = build_encoder("fbank", num_mel_bins=BINS)
    random = np.random.default_rng(0)
    waves = [random.normal(size=4000).astype(np.float32) / (4 + n) for n in range(24)]
    options = {"n_levels": 2, "router": None, "norm": "corpus", "clip_bits": 4}
    found = EmoQuantizer(8, **options).fit(encoder(waves))
    found.quantizer_.bank.card["feature"] = encoder.specification.to_json()
    found.save_pretrained("bank")


@pytest.mark.parametrize("n_levels", [1, 2])
def test_clip_tokens_come_first_in_both_streams(two_scale, n_levels):
    more = [] if n_levels == 1 else ["--asr_config", "train.yaml"]
    system = "balanced+clip4"
    given = bridge(*more, system=system, n_levels=n_levels)
    raw = Path(given["--dumpdir"], "raw")
    quantizer, units = expected("dev", n_levels=n_levels, system=system)
    sizes = quantizer.bank.clip_code.sizes
    table = read_table(raw / f"dev/text.{given['--src_case']}.{given['--src_lang']}")
    starts = 8 * n_levels + np.cumsum([0, *sizes[:-1]])
    for u, found in units.items():
        clip = (found.clip_codes[0] + starts).tolist()
        if n_levels == 1:
            ids = [ord(c) - 0x4E00 for c in table[u]]
            frames = found.codes[:, 0]
            kept = frames[np.append(True, frames[1:] != frames[:-1])].tolist()
            assert ids == clip + kept
        else:
            ids = kaldiio.load_mat(table[u]).reshape(-1, 2) - 2
            assert (
                ids[: len(sizes), 0].tolist() == ids[: len(sizes), 1].tolist() == clip
            )
            frames = ids[len(sizes) :] - [0, 8]
            np.testing.assert_array_equal(frames, found.codes)
    if n_levels == 2:
        tokens = (raw / "dev/token_lists/codec_token_list").read_text().split()
        assert len(tokens) == 16 + sum(sizes) and tokens[-1] == (
            f"clip{len(sizes) - 1}c{sizes[-1] - 1}"
        )
    card = Asr2Units.read("exp/asr")
    assert card.clip_sizes == sizes and card.n_units == 8 * n_levels + sum(sizes)


def test_frontend_and_patch_size_are_written_into_the_users_configuration(recipe):
    given = bridge("--asr_config", "train.yaml", n_levels=2)
    config = yaml.safe_load(Path(given["--asr_config"]).read_text())
    assert config["frontend"] == "emoq_units" and config["model"] == "discrete_asr"
    assert config["model_conf"]["patch_size"] == 2
    conf = config["frontend_conf"]
    assert conf["token_per_frame"] == 2 and conf["level_mode"] == "concat"
    assert emoq_plugin.load(conf["quantizer"]["path"]).n_levels == 2


def test_card_and_quantizer_beside_the_model_give_the_same_ids(recipe):
    given = bridge()
    card = Asr2Units.read("exp/asr")
    quantizer = emoq_plugin.load(f"exp/asr/{card.quantizer}")
    assert card.codebooks_sha256 == quantizer.codebooks_sha256
    table = read_table(f"{given['--dumpdir']}/raw/test/text.rm.{given['--src_lang']}")
    for u, text in table.items():
        found = quantizer.units(f"{u}.wav")
        assert card.text(card.source(found.codes, found.route)) == text
    assert Path("exp/asr", card.src_bpemodel).resolve().parent.parent == (
        recipe / "data" / f"{given['--src_lang']}_token_list"
    )


def test_stale_map_of_fewer_clusters_is_not_read(recipe):
    Path("exp/kmeans").mkdir(parents=True)
    Path("exp/kmeans/distinct_cjk_token_lists").write_text("0 一\n")
    given = bridge()
    assert int(given["--stage"]) > 5, "stage 5 of asr2.sh reads it"
    metadata = json.loads(Path(given["--dumpdir"], "raw/train/units.json").read_text())
    table = read_table(f"{given['--dumpdir']}/raw/train/text.rm.{given['--src_lang']}")
    characters = {c for text in table.values() for c in text}
    assert len(characters) == metadata["different_ids"] > 1
    assert sum(map(len, table.values())) == metadata["ids"]


def test_units_of_another_quantizer_replace_the_old_ones(recipe):
    lang = ("--src_lang", "units")
    old = bridge(*lang)
    path = Path(old["--dumpdir"], "raw/train/text.rm.units")
    before = path.read_text()
    bridge(*lang)
    assert path.read_text() == before
    save_bank(Path("bank"), seed=1)
    bridge(*lang)
    assert path.read_text() != before


def test_another_router_over_the_same_codebooks_makes_the_units_anew(recipe):
    path = Path(bridge("--src_lang", "units")["--src_bpe_train_text"])
    path.write_text("a-train0 \u4e00\n", encoding="utf-8")
    bridge("--src_lang", "units")
    assert len(read_table(path)) == 1, "the same call does nothing"
    bridge("--src_lang", "units", system="specific-cosine")
    assert len(read_table(path)) == SETS["train"]


def test_options_of_an_earlier_call_do_not_survive_a_failure(recipe):
    bridge()
    with pytest.raises(ValueError, match="--src_nbpe 5"):
        bridge("--src_nbpe", "5")
    assert not Path("exp/asr/asr2.options").exists()


@pytest.mark.parametrize("norm", ["level", "speaker"])
def test_training_leaves_out_what_stage_4_of_asr2_leaves_out(recipe, norm):
    save_bank(Path("bank"), norm=norm)
    soundfile.write("a-train0.wav", np.sin(np.arange(800)) / 4, RATE)  # 0.05 s
    for name, utterance in (("train", "b-train1"), ("dev", "a-dev0")):
        text = read_table(f"data/{name}/text")
        write_table(f"data/{name}/text", text | {utterance: ""})
    given = bridge("--max_wav_duration", "0.62")  # b-train3 has 0.65 s
    raw = Path(given["--dumpdir"], "raw")
    for table in (f"text.rm.{given['--src_lang']}", "text.ts.en", "utt2spk"):
        assert list(read_table(raw / "train" / table)) == ["a-train2"]
        assert len(read_table(raw / "dev" / table)) == SETS["dev"]
    assert json.loads((raw / "train/units.json").read_text())["left_out"] == 3
    with pytest.raises(ValueError, match="no recording has a text and 0.1 to 0.2 s"):
        bridge("--max_wav_duration", "0.2")


def test_model_of_other_units_is_not_resumed(recipe):
    bridge()
    Path("exp/asr/checkpoint.pth").touch()
    bridge()  # the same units: ESPnet may resume
    with pytest.raises(ValueError, match="trained on other units.*--asr_exp"):
        bridge(system="balanced")


def test_speed_perturbation_adds_recordings_of_other_speakers_and_lengths(recipe):
    given = bridge("--speed_perturb_factors", "0.5", "1.0", "--deduplicate", "false")
    raw = Path(given["--dumpdir"], "raw/train_sp")
    assert given["--speed_perturb_factors"] == "0.5 1.0"
    assert Path(given["--src_bpe_train_text"]).parent == raw
    table = read_table(raw / f"text.ts.{given['--src_lang']}")
    speakers = read_table(raw / "utt2spk")
    assert len(table) == 2 * SETS["train"] and set(table) == set(speakers)
    for u in read_table("data/train/text"):
        assert len(table[f"sp0.5-{u}"]) == pytest.approx(2 * len(table[u]), abs=2)
        assert speakers[f"sp0.5-{u}"] == f"sp0.5-{speakers[u]}"


@pytest.mark.parametrize("norm", ["level", "speaker"])
def test_processes_do_not_change_the_units(recipe, norm):
    save_bank(Path("bank"), norm=norm)
    given = bridge("--src_lang", "one")
    bridge("--src_lang", "two", "--nj", "2")
    one, two = (
        Path(f"dump/{name}/raw/train/text.rm.{name}").read_text()
        for name in ("one", "two")
    )
    assert one == two and given["--src_lang"] == "one"


@pytest.mark.parametrize("norm", ["level", "speaker"])
def test_a_command_runs_once_for_its_segments_at_every_speed(recipe, norm):
    save_bank(Path("bank"), norm=norm)
    names = read_table("data/train/text")
    wav = {u: f"echo x >> count; cat {u}.wav |" for u in names}
    write_table("data/train/wav.scp", wav)
    parts = {f"{u}-{at}": f"{u} 0.{at} 0.{at + 2}" for u in names for at in (0, 2)}
    for table, values in (("segments", parts), ("text", dict.fromkeys(parts, "one"))):
        write_table(f"data/train/{table}", values)
    write_table("data/train/utt2spk", {u: u[0] for u in parts})
    options = ["--speed_perturb_factors", "0.9", "1.0"]
    given = bridge(*options, "--src_lang", "piped", "--allow_pipe", "true")
    assert Path("count").read_text() == "x\n" * len(names)
    write_table("data/train/wav.scp", {u: f"{u}.wav" for u in names})
    plain = bridge(*options, "--src_lang", "plain")
    piped, files = (
        read_table(f"{t['--dumpdir']}/raw/train_sp/text.rm.{t['--src_lang']}")
        for t in (given, plain)
    )
    assert piped == files and len(files) == 2 * len(parts)


def test_segments_are_cut(recipe):
    given = bridge("--deduplicate", "false")
    [(u, whole), *_] = read_table(given["--src_bpe_train_text"]).items()
    wav = read_table("data/train/wav.scp")
    names = read_table("data/train/text")
    write_table("data/train/segments", {n: f"{n} 0.0 0.2" for n in names})
    write_table("data/train/wav.scp", wav)
    bridge("--deduplicate", "false")
    assert len(read_table(given["--src_bpe_train_text"])[u]) < len(whole) / 2


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"options": ["--stream", "single"], "n_levels": 2},
            "one level.*--stream multi",
        ),
        ({"n_levels": 2}, "--asr_config is missing"),
        ({"system": "specific-soft"}, "specific-soft.*asr2 reads one"),
        ({"options": ["--src_nbpe", "5"]}, "--src_nbpe 5: .* different units"),
        ({"n_levels": 3}, "n_levels is 3, expected 1 to 2"),
        ({"options": ["--sets", "train", "train"]}, "twice"),
        ({"options": ["--sets", "train", "none"]}, "wav.scp is missing.*stage 1"),
        ({"missing": "data/dev/text"}, "text is missing"),
        ({"other": "data/dev/text"}, "'a-dev0' is in only one of text"),
        ({"missing": "a-train0.wav"}, "a-train0.*missing"),
    ],
)
def test_what_cannot_be_is_refused(recipe, change, message):
    if "missing" in change:
        Path(change["missing"]).unlink()
    if "other" in change:
        write_table(change["other"], {"zzz": "one"})
    options = {k: change[k] for k in ("system", "n_levels") if k in change}
    with pytest.raises((ValueError, OSError), match=message):
        bridge(*change.get("options", []), **options)
    assert not Path("exp/asr/emoq_units.json").exists()


def test_more_joint_ids_than_characters_are_refused(recipe):
    save_bank(Path("large"), sizes=[10451])
    with pytest.raises(ValueError, match="2 experts of K=10451 make 20902 .* 20900"):
        bridge(quantizer="large")
    assert not Path("dump").exists()


def test_frontend_of_another_kind_in_the_configuration_is_refused(recipe):
    Path("train.yaml").write_text("frontend: embed\n")
    with pytest.raises(ValueError, match="frontend is 'embed'.*emoq_units"):
        bridge("--asr_config", "train.yaml", n_levels=2)


def test_word_errors_are_counted_over_all_words():
    reference = {"a": "one two three", "b": "four", "c": ""}
    found = word_errors(reference, {"a": "one six three", "b": "", "c": "five"})
    assert (found["substitutions"], found["deletions"], found["insertions"]) == (
        1,
        1,
        1,
    )
    assert found["wer"]["mean"] == pytest.approx(3 / 4)
    assert found["wer"]["low"] <= 3 / 4 <= found["wer"]["high"]


def test_undecoded_utterances_are_no_perfect_score():
    with pytest.raises(ValueError, match="'b' is only in the reference"):
        word_errors({"a": "one", "b": "two"}, {"a": "one"})


def test_units_of_narrow_band_audio_are_those_of_what_stage_2_stores(recipe):
    # The upper band is empty: whether it holds rounding or nothing decides the units.
    samples = np.random.default_rng(0).normal(size=4000).astype("float32") / 9
    soundfile.write("narrow.wav", samples, RATE // 2)
    stored = resample(*read_audio("narrow.wav"), RATE)
    soundfile.write("stored.flac", stored, RATE, subtype="PCM_16")
    quantizer = emoq_plugin.load("bank", system="balanced", n_levels=2)
    direct, formatted = quantizer.units(["narrow.wav", "stored.flac"])
    assert (direct.codes == formatted.codes).mean() > 0.9
