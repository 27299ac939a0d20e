"""Files from strangers: nothing runs, memory is bounded, the error names the file."""

import contextlib
import io
import json
import logging
import os
import pickle
import re
import resource
import struct
import tarfile
import threading
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

import emoq_plugin
from emoq_plugin.bin import dump_features, encode, format_data
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.data.corpora.archives import unpack
from emoq_plugin.espnet_adapters.portable import PortableQuantizer
from emoq_plugin.evaluation.predictions import (
    Prediction,
    read_predictions,
    write_predictions,
)
from emoq_plugin.files import read_json, read_options, read_yaml, write_table
from emoq_plugin.learning.fit_bank import QuantizerConfig
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.speech.audio import read_audio
from emoq_plugin.speech.encoders.emotion2vec import read_checkpoint
from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.encoders.registry import read_feature_config
from emoq_plugin.speech.store import FeatureStore, merge_feature_jobs, write_features
from emoq_plugin.units.store import UnitStore, UnitWriter, write_cards

MEMORY = 256  # MiB that a refusal may take
SPECIFICATION = FeatureSpecification("fbank", [], 3, 50.0, 16000)
DEEP = "[" * 100_000


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


@pytest.fixture
def owned(tmp_path):
    """Return the file that a payload would make; it must not be there at the end."""
    path = tmp_path / "owned"
    yield path
    assert not path.exists(), "a payload ran"


@contextlib.contextmanager
def refused(message):
    """Expect a documented error in bounded memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((ValueError, OSError), match=message):
        yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY * 1024, f"{grown >> 10} MiB"


@pytest.fixture
def said(caplog):
    """Return a function that calls a command, which must fail, and gives its error."""

    def call(command, *options):
        with pytest.raises(SystemExit) as stop:
            command.main([str(option) for option in options])
        assert stop.value.code == 1
        errors = (r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR)
        return "\n".join(errors)

    return call


# ------------------------------------------------------------------ commands in tables


@pytest.fixture
def data(tmp_path, owned):
    """Return a data directory whose audio is a command."""
    clip = tmp_path / "clip.wav"
    tone = 0.1 * np.random.default_rng(0).normal(size=16000)
    soundfile.write(clip, tone, 16000)
    entry = f"touch '{owned}'; cat '{clip}' |"
    write_table(tmp_path / "data/wav.scp", {"a-1": entry, "b-1": entry})
    write_table(tmp_path / "data/utt2spk", {"a-1": "a", "b-1": "b"})
    write_table(tmp_path / "data/utt2emo", {"a-1": "happy", "b-1": "sad"})
    (tmp_path / "emotions").write_text("happy\nsad\n")
    return tmp_path / "data"


def formatting(data, **options):
    options |= {"data_dir": data, "emotions": data.parent / "emotions"}
    options |= {"output_dir": data.parent / "raw"}
    return [f"--{name}={value}" for name, value in options.items()]


def test_a_command_in_wav_scp_is_refused_and_named(data, said):
    message = said(format_data, *formatting(data))
    assert "wav.scp:1: a-1: touch" in message and "--allow_pipe true" in message


def test_a_command_in_wav_scp_runs_when_it_is_allowed(data, tmp_path, request):
    format_data.main(formatting(data, allow_pipe="true"))
    (tmp_path / "owned").unlink()
    assert (tmp_path / "raw/wav/a-1.flac").exists()


def test_later_stages_run_no_command(data, tmp_path, said):
    write_table(data / "utt2num_samples", {"a-1": 16000, "b-1": 16000})
    Stage(data).finish()
    (tmp_path / "fbank.yaml").write_text("encoder: fbank\n")
    options = ["--data_dir", data, "--output_dir", tmp_path / "fbank"]
    message = said(dump_features, *options, "--config", tmp_path / "fbank.yaml")
    assert "utterance 'a-1'" in message and "refused" in message


@pytest.mark.parametrize("given", ["argument", "list"])
def test_encode_runs_no_command(tmp_path, owned, said, piped, given):
    make_artifact(tmp_path / "units")
    command = f"touch '{owned}' |"
    piped(f"a {command}\n")
    name = command if given == "argument" else "-"
    options = ["--quantizer", tmp_path / "units", "--system", "balanced"]
    assert "refused" in said(encode, name, *options)


@pytest.mark.parametrize("table", ["feats.scp", "codes.scp"])
@pytest.mark.parametrize(
    "place", ["touch 'OWNED' |", "| touch 'OWNED'", "cat codes.ark |:0", "-:0", "x.ark"]
)
def test_a_command_in_a_table_of_arks_is_never_run(tmp_path, owned, table, place):
    folder, read = STORES[table](tmp_path)
    path = folder / table
    write_table(path, dict.fromkeys(("a", "b"), place.replace("OWNED", str(owned))))
    with refused(re.escape(str(path.parent))):
        list(read(folder).values())


@pytest.mark.parametrize("table", ["feats.scp", "codes.scp"])
@pytest.mark.parametrize("place", ["../secret.ark:2", "/etc/passwd:0", "..:0", "/:0"])
def test_arks_are_read_beside_their_table_only(tmp_path, table, place):
    folder, read = STORES[table](tmp_path)
    content = next(folder.glob("*.ark")).read_bytes()
    (folder.parent / "secret.ark").write_bytes(content)
    write_table(folder / table, {"a": place, "b": place})
    with refused(re.escape(str(folder))):
        list(read(folder).values())


# ----------------------------------------------------------- arrays, pickles, archives


def make_features(root):
    folder = root / "features"
    frames = {name: np.ones((4, 3), np.float32) for name in "ab"}
    write_features(folder, SPECIFICATION, frames.items())
    merge_feature_jobs(folder, 1)
    return folder, FeatureStore


def make_units(root):
    folder = root / "units"
    with UnitWriter(folder, size=8, n_levels=1, routed=False) as writer:
        for name in "ab":
            writer.write(name, np.zeros((4, 1), int), {"balanced": 1.0})
    write_cards(folder, {"experts": ["balanced"], "n_levels": 1}, {})
    return folder, UnitStore


STORES = {"feats.scp": make_features, "codes.scp": make_units}


def npy(array=None, *, shape=None, descr="<i2"):
    """Return an ark member in kaldiio's NPY mode, with any header."""
    stream = io.BytesIO()
    if shape is None:
        np.lib.format.write_array(stream, array, allow_pickle=True)
    else:
        metadata = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, metadata)
    return member(stream.getvalue())


def member(content):
    """Return an array as kaldiio writes it: mark, length of the length, length."""
    return b"NPY\4" + struct.pack("<I", len(content)) + content


def zipped():
    stream = io.BytesIO()
    np.savez_compressed(stream, codes=np.zeros(10**6))
    return member(stream.getvalue())


def matrix(rows, columns):
    return b"\0BFM \4" + struct.pack("<i", rows) + b"\4" + struct.pack("<i", columns)


@pytest.mark.parametrize("table", ["feats.scp", "codes.scp"])
@pytest.mark.parametrize(
    "hostile",
    [
        lambda path: b"PKL" + pickle.dumps(Touch(path)),
        lambda path: npy(np.array([Touch(path)], object)),
        lambda path: npy(shape=(2**40, 2**20)),
        lambda path: npy(shape=(2**30, 1)),
        lambda path: npy(shape=(4, 1), descr="|O"),
        lambda path: npy(np.zeros((4, 1))),
        lambda path: npy(np.array([["a"]] * 4)),
        lambda path: zipped(),
        lambda path: b"NPY\x08" + struct.pack("<q", 2**62),
        lambda path: matrix(2**31 - 1, 2**31 - 1),
        lambda path: matrix(2**30, 3),
        lambda path: matrix(-1, -3),
        lambda path: b"\0BCM \0\0\0\0",
        lambda path: b"AUDIO" + b"\4" + struct.pack("<i", 2**31 - 1),
        lambda path: b" [ 1 2\n 3 ]\n",
        lambda path: b"",
    ],
)
def test_a_hostile_array_is_refused(tmp_path, owned, table, hostile):
    folder, read = STORES[table](tmp_path)
    [ark] = folder.glob("*.ark")
    ark.write_bytes(b"a " + hostile(owned))
    write_table(folder / table, {"a": f"{ark}:2", "b": f"{ark}:2"})
    with refused(f"{ark.name}: utterance 'a'"):
        read(folder)["a"]


def test_a_checkpoint_of_strangers_runs_nothing(tmp_path, owned):
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {"w": torch.ones(2)}, "x": Touch(owned)}, path)
    assert read_checkpoint(path)["w"].tolist() == [1, 1]
    path.write_bytes(pickle.dumps(Touch(owned)))
    with refused("checkpoint.pt"):
        read_checkpoint(path)


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "tar.xz"])
def test_an_archive_that_unpacks_a_thousandfold_is_refused(tmp_path, form):
    path = tmp_path / f"corpus.{form}"
    size = 50 << 20
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
            stream.writestr("zeros.wav", bytes(size))
    elif form == "tar":
        info = tarfile.TarInfo("zeros.wav")
        info.size = 2**50  # claimed
        path.write_bytes(info.tobuf() + bytes(1024))
    else:
        with tarfile.open(path, f"w:{form[4:]}") as stream:
            info = tarfile.TarInfo("zeros.wav")
            info.size = size
            stream.addfile(info, io.BytesIO(bytes(size)))
    with refused(f"{path.name}: unpacks to more than"):
        unpack(path, tmp_path / "into")
    assert not list((tmp_path / "into").rglob("*.wav"))


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_an_archive_writes_below_its_directory_only(tmp_path, form):
    path = tmp_path / f"corpus.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as stream:
            stream.writestr("../../evil", "x")
        unpack(path, tmp_path / "a/b")
    else:
        with tarfile.open(path, "w") as stream:
            stream.addfile(tarfile.TarInfo("../../evil"))
        with refused("corpus.tar"):
            unpack(path, tmp_path / "a/b")
    outside = [p for p in tmp_path.rglob("evil") if "corpus" not in p.parts]
    assert not outside


@pytest.mark.parametrize("content", [b"PK\3\4", b"", b"\x1f\x8b\x08", b"PK\5\6" * 9])
def test_an_archive_of_garbage_is_named(tmp_path, content):
    path = tmp_path / "corpus.zip"
    path.write_bytes(content)
    with refused("corpus.zip"):
        unpack(path, tmp_path / "into")


def test_recordings_may_have_any_name_in_npz(tmp_path):
    from emoq_plugin.units.formats import write_npz

    class Units:
        codes = np.arange(4).reshape(2, 2)
        route = {"balanced": 1.0}
        clip_codes = None

    names = ("file", "allow_pickle", "a/b", "größe", "sizes")
    units = ((name, Units) for name in names)
    write_npz(tmp_path / "x.npz", units, experts=["balanced"], sizes=[3, 3])
    with np.load(tmp_path / "x.npz") as found:
        assert {name for name in found if not name.startswith("emoq/")} == set(names)
        assert found["emoq/names"].tolist() == list(names)
        assert (found["file"] == Units.codes).all()


# ------------------------------------------------------------------------- YAML, JSON


@pytest.mark.parametrize(
    "read",
    [
        read_yaml,
        read_feature_config,
        QuantizerConfig.read,
        lambda path: read_options(path, ("C",)),
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "C: !!python/object/apply:os.system [\"touch 'OWNED'\"]",
        "!!python/object/new:os.system [touch OWNED]",
        "C: !!python/name:os.system",
        "C: !!timestamp nonsense",
        "C: !!bool nonsense",
        "C: !!int ''",
        "C: 2001-99-99",
        f"C: {'9' * 5000}",
        "a: &a [x]\nb: *a",
        "[" * 51 + "]" * 51,
        "{" * 5000,
        "? [a]\n: b",
        "\0",
        b"\xff\xfe",
    ],
)
def test_yaml_of_strangers_is_plain_values_or_refused(tmp_path, owned, read, text):
    path = tmp_path / "options.yaml"
    text = text.replace("OWNED", str(owned)) if isinstance(text, str) else text
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with refused("options.yaml"):
        read(path)


def test_aliases_that_fill_memory_are_refused(tmp_path):
    path = tmp_path / "options.yaml"
    lines = [f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)},' * 9}]"
             for i in range(20)]  # fmt: skip
    path.write_text("\n".join(["a: &a [x]", *lines]))
    with refused("options.yaml: .*alias"):
        read_options(path, ("C",))


@pytest.mark.parametrize(
    "text", [DEEP, '{"a":' * 50_000, "9" * 5000, "\ud800".encode("utf-8", "replace")]
)
def test_json_of_strangers_is_refused_by_name(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if text == b"?":
        path.write_bytes(b"\xed\xa0\x80")
    with refused("x.json:1: not "):
        read_json(path)


PREDICTION = {
    "fold": "1",
    "rate": "8x1",
    "system": "balanced",
    "head": "route",
    "bitrate_bps": {"nominal": 1.0, "entropy": 1.0, "side_info": 0.0},
    "emotions": ["a", "b"],
    "utterances": ["x"],
    "posteriors": [[0.5, 0.5]],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("posteriors", [[float("nan"), 1.0]]),
        ("posteriors", [[float("inf"), 0.0]]),
        ("posteriors", [[10**400, 0]]),
        ("posteriors", [[0.5], [0.5, 0.5]]),
        ("posteriors", {"a": 1}),
        ("posteriors", "0.5"),
        ("bitrate_bps", 3),
        ("bitrate_bps", {"nominal": float("nan"), "entropy": 1, "side_info": 0}),
        ("bitrate_bps", {"nominal": [], "entropy": 1, "side_info": 0}),
        ("utterances", [["x"]]),
        ("utterances", [{}]),
        ("emotions", [1, 2]),
        ("fold", "../../1"),
        ("fold", 1),
        ("head", ["route"]),
        ("rate", None),
    ],
)
def test_hostile_predictions_are_named_by_line(tmp_path, field, value):
    path = tmp_path / "posteriors.jsonl"
    write_predictions(path, [Prediction(**PREDICTION)])
    assert len(read_predictions(path)) == 1
    with open(path, "a") as stream:
        json.dump(PREDICTION | {field: value}, stream)
    with refused(r"posteriors.jsonl:2: "):
        read_predictions(path)


# -------------------------------------------------------------------------- artifacts


def make_artifact(folder, *, system=None):
    generator = torch.Generator().manual_seed(0)
    norm = Normalization("corpus", torch.zeros(3), torch.ones(3))
    codebooks = [torch.randn(1, 8, 3, generator=generator) for _ in range(2)]
    fbank = {"num_mel_bins": 3, "frame_length": 25.0, "frame_shift": 20.0}
    card = {"feature": SPECIFICATION.to_json() | {"settings": fbank}}
    bank = CodebookBank(["balanced"], codebooks, norm, emotions=["a", "b"], card=card)
    made = RoutedQuantizer(bank, system) if system else bank
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize(
    "change",
    [
        {"experts": "balanced"},
        {"experts": [1]},
        {"experts": ["balanced", "../../x"]},
        {"experts": []},
        {"sizes": [-8, 8]},
        {"sizes": [10**12, 8]},
        {"sizes": [8]},
        {"sizes": []},
        {"sizes": 8},
        {"sizes": [8, 8, 8]},
        {"sizes": {"0": 8}},
        {"emotions": 3},
        {"emotions": None},
        {"normalization": "../corpus"},
        {"normalization": ["corpus"]},
        {"codebooks_sha256": 3},
        {"codebooks_sha256": "0" * 64},
        {"card": []},
        {"card": "x"},
        {"system": "specific-cosine"},
        {"system": 3},
        {"system": "../../x"},
        {"depth": -1},
        {"depth": 10**9},
        {"depth": "1"},
        {"n_levels": -1},
        {"n_levels": 10**9},
        {"n_levels": 1.5},
        {"n_levels": True},
        {"type": "os.system"},
        {"type": ["CodebookBank"]},
    ],
)
def test_a_hostile_config_is_refused(tmp_path, change):
    folder = tmp_path / "artifact"
    make_artifact(folder, system="balanced")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with refused(re.escape(str(folder))):
        emoq_plugin.load(str(folder), system="balanced")


def raw(header, content=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def tensor(shape, end, dtype="F32"):
    return {"codebooks.0": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\4",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 99_000_000) + b"{}",
        raw(DEEP.encode()),
        raw({}),
        raw([]),
        raw(tensor([2**40, 2**40], 4), bytes(4)),
        raw(tensor([2**62], 2**63), bytes(4)),
        raw(tensor([0, 2**62, 2**62], 0)),
        raw(tensor([-1, -1], 4), bytes(4)),
        raw(tensor([1], 4, "PICKLE"), bytes(4)),
        raw(tensor([2], 4), bytes(4)),
    ],
)
def test_hostile_safetensors_are_refused(tmp_path, content):
    make_artifact(tmp_path / "artifact")
    (tmp_path / "artifact/model.safetensors").write_bytes(content)
    with refused("artifact: damaged"):
        CodebookBank.from_pretrained(tmp_path / "artifact")


@pytest.mark.parametrize("dump", [joblib.dump, torch.save])
def test_an_artifact_of_pickle_is_refused(tmp_path, owned, dump):
    make_artifact(tmp_path / "artifact")
    dump(Touch(owned), tmp_path / "artifact/model.safetensors")
    with refused("artifact: damaged"):
        CodebookBank.from_pretrained(tmp_path / "artifact")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("codebooks.1", torch.full((1, 8, 3), torch.nan), "codebooks.1 holds NaN"),
        ("codebooks.1", torch.zeros(1, 8, 3, dtype=torch.int64), "expected float32"),
        ("codebooks.1", torch.zeros(3), "damaged"),
        ("codebooks.0", torch.zeros(1, 0, 3), "damaged"),
        ("normalization.scale", torch.zeros(3), "not positive"),
        ("normalization.mean", torch.tensor(1.0), "damaged"),
    ],
)
def test_tensors_that_would_spoil_every_result_are_refused(
    tmp_path, name, value, message
):
    bank = make_artifact(tmp_path / "artifact")
    tensors = {k: v.contiguous() for k, v in bank.tensors().items()} | {name: value}
    save_file(tensors, tmp_path / "artifact/model.safetensors")
    with refused(message):
        CodebookBank.from_pretrained(tmp_path / "artifact")


@pytest.mark.parametrize(
    "feature",
    [
        "fbank",
        ["fbank"],
        {"encoder": "fbank"},
        SPECIFICATION.to_json() | {"encoder": "os:system"},
        SPECIFICATION.to_json() | {"encoder": ["fbank"]},
        SPECIFICATION.to_json() | {"dimension": -3},
        SPECIFICATION.to_json() | {"frame_rate_hz": 0},
        SPECIFICATION.to_json() | {"sample_rate": 1e400},
        SPECIFICATION.to_json() | {"settings": []},
        SPECIFICATION.to_json() | {"settings": {"num_mel_bins": "3"}},
    ],
)
def test_a_hostile_feature_specification_builds_no_encoder(tmp_path, feature):
    from emoq_plugin.speech.pipeline import build_from_specification

    with refused("specification|encoder"):
        build_from_specification(feature)


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"codebooks.0": [2**40, 2**40]},
        {"codebooks.0": [-(2**40)], "codebooks.1": [2**41]},
        {"codebooks.0": [2**30]},
        {"codebooks.0": [1, -8, 3]},
        {"codebooks.0": "abc"},
        {"codebooks.0": [[1]]},
        [],
        None,
    ],
)
def test_a_hostile_configuration_of_espnet_is_refused(tmp_path, shapes):
    quantizer = make_artifact(tmp_path / "artifact", system="balanced")
    saved = {"config": quantizer.config(), "shapes": shapes}
    with refused("'saved' is damaged"):
        PortableQuantizer({"saved": saved, "codebooks_sha256": "0" * 64})


# ------------------------------------------------------------------------------ audio


def flac(frames):
    """Return a FLAC file that claims to hold so many frames."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).normal(size=1600) * 0.1
    soundfile.write(stream, noise, 16000, format="FLAC", subtype="PCM_16")
    content = bytearray(stream.getvalue())
    content[21] = content[21] & 0xF0 | frames >> 32
    content[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    return bytes(content)


def mp3(size):
    """Return the beginning of an MP3 file of ten seconds."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).normal(size=160_000) * 0.1
    soundfile.write(stream, noise, 16000, format="MP3")
    return stream.getvalue()[:size]


def wav(channels, rate, size=4096):
    head = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * 2, 2 * channels, 16)
    body = (
        b"WAVEfmt " + head + b"data" + struct.pack("<I", size) + b"\1\2" * (size // 2)
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.flac", flac(2**36 - 1), "at most"),
        ("a.flac", flac(10**8), "truncated|unreadable"),
        ("a.flac", flac(160_000)[:2000], "truncated|unreadable"),
        ("a.mp3", mp3(10_000), "truncated"),
        ("a.wav", wav(1, 1), "1 Hz, expected at least"),
        ("a.wav", wav(1, 0), "unreadable"),
        ("a.wav", wav(1024, 16000, 2**14), "1024 channels"),
        ("a.raw", bytes(100), "unreadable"),
        ("a.wav", b"", "unreadable"),
        ("a.wav", pickle.dumps(1), "unreadable"),
        ("a b;touch x.wav", b"RIFF", "unreadable"),
    ],
)
def test_hostile_audio_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with refused(f"{re.escape(name)}: .*({message})"):
        read_audio(str(path))


@pytest.mark.parametrize(
    "kind", ["directory", "fifo", "/dev/zero", "-", "a\0b", "x" * 999]
)
def test_what_is_no_file_is_no_audio(tmp_path, kind):
    path = Path(kind)
    if kind == "directory":
        path = tmp_path
    elif kind == "fifo":
        path = tmp_path / "fifo"
        os.mkfifo(path)
        # Whoever opens it meets an empty file, and does not wait for ever.
        threading.Thread(target=path.write_bytes, args=(b"",), daemon=True).start()
    with refused(f"{re.escape(str(path)[:50])}.*: audio file is missing"):
        read_audio(str(path))
