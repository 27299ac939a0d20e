"""Properties of raw-audio decoding through a trained asr2 model."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import soundfile
import torch
import yaml

import emoq_plugin
from emoq_plugin.bin.transcribe import main as transcribe
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.espnet_adapters import registration
from emoq_plugin.espnet_adapters.asr2 import CARD, Asr2Units
from emoq_plugin.espnet_adapters.transcribe import Transcriber, find_checkpoint
from emoq_plugin.files import read_json, read_table, write_json, write_table
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.units.flat import flatten_codes, token_list
from emoq_plugin.units.text import deduplicate, to_cjk

RATE, DIMENSION, SIZES, SYSTEM = 16000, 8, [6, 5], "specific-distortion"
EXPERTS = ["specific/angry", "specific/sad"]
WORDS = ["one", "two", "three", "four", "five", "six"]
TOKENS = ["<blank>", "<unk>", *WORDS, "<sos/eos>"]
BLOCK = {"attention_heads": 2, "linear_units": 8, "num_blocks": 1}
# By CTC alone, because what a barely trained decoder says depends on no input.
DECODING = {"beam_size": 3, "ctc_weight": 1.0}
QUANTIZER = "exp/quantizer"
FRONTENDS = {
    "single": {"frontend": "embed", "frontend_conf": {"embed_dim": 8}},
    "multi": {
        "frontend": "emoq_units",
        "frontend_conf": {
            "quantizer": {"path": QUANTIZER, "experts": EXPERTS},
            "output_size": 8,
        },
    },
}


def make_audio():
    """Make noise that jumps from band to band, so that units change."""
    random = np.random.default_rng(0)
    for n in range(6):
        length = 6000 + 900 * n
        steps = np.repeat(random.uniform(0.05, 1, size=12), length // 12 + 1)
        phase = np.cumsum(steps[:length] * np.pi + random.normal(size=length) / 4)
        yield (np.sin(phase) / 4).astype(np.float32)


def make_bank(seed=0):
    """Make experts out of frames of half of the recordings each, so both are used."""
    random = torch.Generator().manual_seed(seed)
    encoder = build_encoder("fbank", num_mel_bins=DIMENSION)
    norm = Normalization("level", torch.zeros(DIMENSION), torch.full((DIMENSION,), 2.0))
    clips = [norm(torch.from_numpy(f)) for f in encoder(list(make_audio()))]
    halves = [torch.cat(clips), torch.cat(clips[::2]), torch.cat(clips[1::2])]
    codebooks = [
        torch.stack(
            [half[torch.randperm(len(half), generator=random)[:k]] for half in halves]
        )
        / (level + 1) ** 3
        for level, k in enumerate(SIZES)
    ]
    experts, card = ["balanced", *EXPERTS], {"feature": encoder.specification.to_json()}
    return CodebookBank(experts, codebooks, norm, emotions=["angry", "sad"], card=card)


def sources(stream, units):
    """Write units as the model of a stream reads them."""
    for found in units:
        [expert] = found.route
        place = EXPERTS.index(expert)
        if stream == "multi":
            ids = flatten_codes(found.codes, SIZES, expert=place)
            yield " ".join(map(str, ids))
        else:
            yield to_cjk(deduplicate(found.codes[:, 0]) + place * SIZES[0])


def train(stream, names):
    """Train one epoch by ESPnet's own command in the current directory."""
    from espnet2.tasks.mt import MTTask

    n_levels = 2 if stream == "multi" else 1
    quantizer = emoq_plugin.load(QUANTIZER, system=SYSTEM, n_levels=n_levels)
    units = quantizer.units([f"audio/{name}.wav" for name in names])
    folder = Path("data", stream)
    texts = list(sources(stream, units))
    write_table(folder / "units", dict(zip(names, texts)))
    write_table(folder / "shape", {name: 9 for name in names})
    options = {"src_bpemodel": None, "src_token_type": None}
    if stream == "multi":
        tokens = token_list(SIZES, n_experts=2)
    else:
        (folder / "lines").write_text("\n".join(texts) + "\n")
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "lines"), model_prefix=str(folder / "bpe"),
            vocab_size=20, character_coverage=1.0, hard_vocab_limit=False,
            minloglevel=2,
        )  # fmt: skip
        rows = (folder / "bpe.vocab").read_text(encoding="utf-8").splitlines()
        tokens = ["<blank>", "<unk>", *(r.split("\t")[0] for r in rows[3:])]
        tokens.append("<sos/eos>")
        options = {"src_bpemodel": str(folder / "bpe.model"), "src_token_type": "bpe"}
    (folder / "tokens").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    conf = {
        **FRONTENDS[stream],
        **options,
        "src_token_list": str(folder / "tokens"),
        "token_list": "data/tokens",
        "token_type": "word",
        "model": "discrete_asr",
        "model_conf": {"patch_size": n_levels, "ctc_weight": 0.3},
        "encoder": "transformer",
        "encoder_conf": {**BLOCK, "output_size": 8, "input_layer": "linear"},
        "decoder": "transformer",
        "decoder_conf": BLOCK,
        "max_epoch": 1,
        "optim": "adam",
        "optim_conf": {"lr": 0.02},
        "batch_type": "unsorted",
        "batch_size": 3,
        "num_workers": 0,
        "use_tensorboard": False,
        "output_dir": f"exp/asr_{stream}",
    }
    kind = "text" if stream == "single" else "text_int"
    for part in ("train", "valid"):
        conf[f"{part}_data_path_and_name_and_type"] = [
            [f"data/{stream}/units", "src_text", kind],
            ["data/text", "text", "text"],
        ]
        conf[f"{part}_shape_file"] = [f"data/{stream}/shape"]
    (folder / "train.yaml").write_text(yaml.safe_dump(conf))
    MTTask.main(cmd=["--config", str(folder / "train.yaml")])
    files = {key: f"../../{options[key]}" for key in ("src_bpemodel",) if options[key]}
    Asr2Units.describe(
        quantizer,
        path="../quantizer",
        stream=stream,
        deduplicate=stream == "single",
        src_lang="units",
        **files,
    ).write(f"exp/asr_{stream}")


@pytest.fixture(scope="module")
def recipe_once(tmp_path_factory):
    """Lay out a recipe: quantizer, audio, and a trained model for each stream."""
    emoq_plugin.register()
    root = tmp_path_factory.mktemp("asr2")
    names = [f"u{n}" for n in range(6)]
    with contextlib.chdir(root):
        make_bank().save_pretrained(QUANTIZER)
        Path("audio").mkdir()
        for name, samples in zip(names, make_audio()):
            soundfile.write(f"audio/{name}.wav", samples, RATE)
        Path("data").mkdir()
        Path("data/tokens").write_text("\n".join(TOKENS) + "\n")
        Path("decode.yaml").write_text(yaml.safe_dump(DECODING))
        write_table("data/text", dict(zip(names, WORDS)))
        for stream in FRONTENDS:
            train(stream, names)
    return root


@pytest.fixture
def asr(recipe_once, tmp_path):
    """Return a model that a test may spoil, in a copy of the recipe elsewhere."""

    def copied(stream):
        return shutil.copytree(recipe_once, tmp_path / "moved") / f"exp/asr_{stream}"

    return copied


@pytest.fixture(scope="module", params=list(FRONTENDS))
def model(request, recipe_once):
    """Return the stream and its model, loaded once."""
    options = {"inference_config": recipe_once / "decode.yaml"}
    path = recipe_once / "exp" / f"asr_{request.param}"
    return request.param, Transcriber.from_pretrained(path, **options)


@pytest.fixture(scope="module")
def files(recipe_once):
    return sorted(map(str, (recipe_once / "audio").glob("*.wav")))


def change(path, **values):
    write_json(path, read_json(path) | values)


def test_text_of_audio_is_that_of_its_units_by_mt_inference(recipe_once, model, files):
    from espnet2.bin.mt_inference import main as mt_inference

    stream, transcriber = model
    kind = "text" if stream == "single" else "text_int"
    with contextlib.chdir(recipe_once):
        mt_inference(
            ["--mt_train_config", f"exp/asr_{stream}/config.yaml"]
            + ["--mt_model_file", f"exp/asr_{stream}/valid.acc.ave.pth"]
            + ["--data_path_and_name_and_type", f"data/{stream}/units,src_text,{kind}"]
            + ["--output_dir", f"by_hand/{stream}", "--config", "decode.yaml"]
            + ["--num_workers", "0"]
        )
        expected = read_table(f"by_hand/{stream}/1best_recog/text")
    texts = [found.text for found in transcriber(files)]
    assert texts == list(expected.values())
    # The model listens, and both experts speak: otherwise the above says little.
    assert len(set(texts)) > 3
    routes = [found.units.route for found in transcriber(files)]
    assert {expert for route in routes for expert in route} == set(EXPERTS)


def test_a_list_gives_what_its_recordings_give_alone(model, files):
    _, transcriber = model
    for path, found in zip(files, transcriber(files)):
        alone = transcriber(path)
        assert (found.text, found.seconds) == (alone.text, alone.seconds)
        assert np.array_equal(found.units.codes, alone.units.codes)
        samples, rate = soundfile.read(path, dtype="float32")
        assert transcriber((samples, rate)).text == found.text
        assert found.seconds == len(samples) / rate


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_the_command_reads_files_directories_and_lists(
    recipe_once, files, form, capsys, monkeypatch
):
    options = ["--asr", str(recipe_once / "exp/asr_multi"), "--format", form]
    options += ["--inference_config", str(recipe_once / "decode.yaml")]
    lines = f"first {files[0]}\n{files[1]}\n"
    listed = io.TextIOWrapper(io.BytesIO(lines.encode()))
    monkeypatch.setattr("sys.stdin", listed)
    transcribe(["-", files[2], *options])
    found = dict(read_line(line, form) for line in capsys.readouterr().out.splitlines())
    transcribe([str(recipe_once / "audio"), *options])
    every = dict(read_line(line, form) for line in capsys.readouterr().out.splitlines())
    assert list(found) == ["first", "u1", "u2"]
    assert list(every) == [f"u{n}" for n in range(6)]
    assert found == {"first": every["u0"], "u1": every["u1"], "u2": every["u2"]}


def read_line(line, form):
    if form == "text":
        return line.split(" ", 1)
    values = json.loads(line)
    assert {"codes", "route", "seconds", "bits_per_second"} < set(values)
    return values["name"], values["text"]


def test_a_file_that_cannot_be_read_is_named_and_the_others_go_on(
    recipe_once, files, tmp_path, capsys, caplog
):
    (tmp_path / "noise.wav").write_text("no audio")
    soundfile.write(tmp_path / "short.wav", np.sin(np.arange(100)) / 4, RATE)
    bad = [str(tmp_path / name) for name in ("noise.wav", "short.wav", "gone.wav")]
    asr = str(recipe_once / "exp/asr_multi")
    with pytest.raises(SystemExit) as ended:
        transcribe([files[0], *bad, files[1], "--asr", asr])
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["u0", "u1"]
    messages = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert [m.split(":")[0] for m in messages[:3]] == ["noise", "short", "gone"]
    assert messages[3].startswith("3 of 5 recordings cannot be used, the others")
    assert all(name in messages[3] for name in bad)


def test_a_packed_model_transcribes_as_the_original(
    asr, files, model, recipe_once, monkeypatch
):
    from espnet2.bin.pack import main as pack

    stream, transcriber = model
    recipe = asr(stream).parents[1]
    monkeypatch.chdir(recipe)
    folder, options = f"exp/asr_{stream}", [QUANTIZER, f"exp/asr_{stream}/{CARD}"]
    options += ["data/single/bpe.model"] if stream == "single" else []
    pack(
        ["asr", "--asr_train_config", f"{folder}/config.yaml"]
        + ["--asr_model_file", f"{folder}/valid.acc.ave.pth"]
        + ["--outpath", "../asr.zip"]
        + [word for name in options for word in ("--option", name)]
    )
    monkeypatch.chdir(recipe.parent)
    shutil.rmtree(recipe)
    decoding = {"inference_config": recipe_once / "decode.yaml"}
    packed = Transcriber.from_pretrained("asr.zip", **decoding)
    assert [f.text for f in packed(files)] == [f.text for f in transcriber(files)]


def test_a_recording_too_short_for_the_model_is_reported(model, files, monkeypatch):
    from espnet2.legacy.nets.pytorch_backend.transformer import subsampling

    def refuse(ids):
        raise subsampling.TooShortUttError("too short", len(ids), 400)

    _, transcriber = model
    monkeypatch.setattr(transcriber, "text2text", refuse)
    with pytest.raises(ValueError, match=r"units of 0.375 s are too few.*too short"):
        transcriber(files[0])


# What is reported before anything is decoded.


def test_a_model_of_which_the_units_are_unknown_is_refused(asr, files):
    directory = asr("single")
    (directory / CARD).unlink()
    with pytest.raises(FileNotFoundError, match="emoq_units.json is missing.*writes"):
        Transcriber.from_pretrained(directory)
    write_json(directory / CARD, {"quantizer": "../quantizer", "system": SYSTEM})
    with pytest.raises(ValueError, match="emoq_units.json: .*missing.*'n_levels'"):
        Transcriber.from_pretrained(directory)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"a: [1"),
        ("config.yaml", b"- 1"),
        ("config.yaml", b"\xff\xfe"),
        ("config.yaml", b"token_type: word"),
        ("valid.acc.ave.pth", b"version https://git-lfs.github.com/spec/v1"),
        ("valid.acc.ave.pth", b""),
        ("valid.acc.ave.pth", b"PK\3\4 cut"),
    ],
)
def test_a_damaged_file_of_the_model_is_named(asr, name, content):
    directory = asr("multi")
    (directory / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: .*: bring the directory"):
        Transcriber.from_pretrained(directory)


def test_a_model_that_was_not_trained_is_refused(asr):
    directory = asr("multi")
    for path in directory.glob("*.pth"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no valid.acc.ave.pth and nothing"):
        Transcriber.from_pretrained(directory)
    (directory / "config.yaml").unlink()
    with pytest.raises(FileNotFoundError, match="config.yaml is missing: give the"):
        Transcriber.from_pretrained(directory)


@pytest.mark.parametrize("stream", FRONTENDS)
def test_another_quantizer_than_that_of_the_training_is_refused(asr, stream):
    directory = asr(stream)
    make_bank(seed=1).save_pretrained(directory / "other")
    change(directory / CARD, quantizer="other")
    with pytest.raises(ValueError, match="quantizer 'other' has codebooks with sha256"):
        Transcriber.from_pretrained(directory)
    shutil.rmtree(directory / "other")
    with pytest.raises(ValueError, match="other'? is neither a directory"):
        Transcriber.from_pretrained(directory)


def test_a_model_with_other_codebooks_inside_is_refused(asr):
    directory = asr("multi")
    make_bank(seed=1).save_pretrained(directory / "other")
    other = emoq_plugin.load(str(directory / "other"), system=SYSTEM)
    change(directory / CARD, quantizer="other", codebooks_sha256=other.codebooks_sha256)
    with pytest.raises(ValueError, match=r"sha256 \['.*trained with \['"):
        Transcriber.from_pretrained(directory)


def edit_tokens(directory, edit):
    path = directory / "config.yaml"
    conf = yaml.safe_load(path.read_text(encoding="utf-8"))
    edit(conf["src_token_list"])
    path.write_text(yaml.safe_dump(conf))


@pytest.mark.parametrize("stream", FRONTENDS)
def test_units_outside_the_token_list_are_reported(asr, stream):
    directory, foreign = asr(stream), to_cjk([2 * SIZES[0]])
    edit_tokens(directory, lambda tokens: tokens.insert(2, foreign))
    with pytest.raises(ValueError, match="the token list of the model has.*on others"):
        Transcriber.from_pretrained(directory)


def test_units_that_the_training_did_not_have_are_counted(asr, files, caplog):
    directory = asr("single")
    quantizer = emoq_plugin.load(
        str(directory / "../quantizer"), system=SYSTEM, n_levels=1
    )
    [line] = sources("single", [quantizer.units(files[0])])

    def lose(tokens):
        tokens[:] = [t if line[0] not in t else t * 9 for t in tokens]

    edit_tokens(directory, lose)
    Transcriber.from_pretrained(directory)(files[0])
    found = re.search(r"(\d+) of (\d+) tokens are of units", caplog.text)
    assert 1 <= int(found[1]) < int(found[2]) <= len(line) + 1


def test_another_espnet_is_refused(asr, monkeypatch):
    monkeypatch.setattr(registration, "version", lambda _: "202402")
    with pytest.raises(ValueError, match="ESPnet 202402 is installed.*202611"):
        Transcriber.from_pretrained(asr("multi"))


def test_unknown_decoding_options_are_refused(asr, tmp_path):
    (tmp_path / "decode.yaml").write_text("beam: 3")
    with pytest.raises(ValueError, match="decode.yaml: unknown option 'beam'"):
        Transcriber.from_pretrained(
            asr("multi"), inference_config=tmp_path / "decode.yaml"
        )


def test_the_checkpoint_is_the_one_asr2_decodes_with_or_the_nearest(tmp_path):
    names = ["9epoch.pth", "10epoch.pth", "valid.loss.best.pth", "valid.acc.best.pth"]
    names += ["valid.acc.ave_10best.pth", "valid.acc.ave.pth"]
    for name in names:
        (tmp_path / name).touch()
        if name != "9epoch.pth":
            assert find_checkpoint(tmp_path).name == name
    assert find_checkpoint(tmp_path, "9epoch.pth").name == "9epoch.pth"
    with pytest.raises(FileNotFoundError, match="no 7epoch.pth"):
        find_checkpoint(tmp_path, "7epoch.pth")
