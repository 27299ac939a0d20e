"""Every reader meets damaged files: documented errors that name the file, or a result.

A few inputs each by default. With EMOQ_FUZZ_EXAMPLES at least that many are spread
evenly over all readers, and each says how many it met and what became of them:
`EMOQ_FUZZ_EXAMPLES=100000 python -m pytest tests/fuzz`.
"""

import io
import json
import math
import os
from collections import Counter

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import emoq_plugin
from emoq_plugin.data.clip_table import read_clips
from emoq_plugin.data.directory import (
    DataDirectory,
    entry_faults,
    parse,
    read_emotions,
    table_faults,
)
from emoq_plugin.data.folds import Fold, read_folds, write_folds
from emoq_plugin.data.votes import parse_votes
from emoq_plugin.espnet_adapters.ser_inputs import load_units
from emoq_plugin.evaluation.predictions import (
    Prediction,
    read_predictions,
    write_predictions,
)
from emoq_plugin.files import read_json, read_options, read_places, read_table
from emoq_plugin.learning.fit_bank import QuantizerConfig
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.audio import fits_as_it_is, read_audio, write_audio
from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.encoders.registry import read_feature_config
from emoq_plugin.speech.store import FeatureStore, merge_feature_jobs, write_features
from emoq_plugin.units.rates import Rate
from emoq_plugin.units.store import UnitStore, UnitWriter, parse_route, write_cards
from tests.core.test_artifact import make as make_bank

TOTAL = os.environ.get("EMOQ_FUZZ_EXAMPLES")
EMOTIONS = ["angry", "happy", "sad"]
NOISE = 0.1 * np.random.default_rng(0).normal(size=(800, 1))

# ------------------------------------------------------------------------------ damage

TOKENS = """
-1 0 1e999 -0.0 NaN Infinity null true [] {} [[ { } ] " ' : , = | / ../ .. # & *a &a
!!int !!python/object - -- ? % @ ` ~ <<: 2001-99-99 0x_ 1_000 ² ٣ é
4294967295 9223372036854775808 99999999999999999999
"""
PIECES = [
    *(token.encode() for token in TOKENS.split()),
    *(b"\0", b"\n", b"\n\n", b"\r", b"\t", b" ", b"  ", b"\xff", b"\xed\xa0\x80"),
    *(b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"),
    *(b"\xff" * 8, b"\0" * 8, b"\x80\x04", b"9" * 5000, b"[" * 3000, b"a " * 99),
]


LEAVES = [None, True, 0, -1, 0.5, float("nan"), float("inf"), 10**12, 2**70, "", "x"]
LEAVES += ["../x", "é", [], {}, [[]], [1, "a", None], {"a": {"b": []}}, "1x1"]


def damaged(chance, content):
    """Replace, insert and remove some stretches of bytes, and maybe the end."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 5)):
        at = chance.randint(0, len(content))
        piece = chance.choice([chance.choice(PIECES), chance.randbytes(8), b""])
        content[at : at + chance.randint(0, 12)] = piece
    if chance.random() < 0.2:
        del content[chance.randint(0, len(content)) :]
    return bytes(content)


def damaged_json(chance, value):
    """Put another value at some place of a JSON value, or leave one out."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.2:
        return chance.choice(LEAVES)
    changed = value.copy()
    key = chance.choice(sorted(value) if isinstance(value, dict) else range(len(value)))
    if chance.random() < 0.1:
        del changed[key]
    else:
        changed[key] = damaged_json(chance, value[key])
    return changed


def damaged_file(chance, path, content):
    """Damage the bytes of a file, or the values of a JSON file."""
    if path.suffix not in (".json", ".jsonl") or chance.random() < 0.5:
        return damaged(chance, content)
    values = content.decode().splitlines() if path.suffix == ".jsonl" else [content]
    values[0] = json.dumps(damaged_json(chance, json.loads(values[0])))
    return "\n".join(values).encode()


# ----------------------------------------------------------------------------- readers


def make_tables(folder):
    tables = {
        "wav.scp": "r1 a b.wav\nr2 sph2pipe x |\n",
        "segments": "a-1 r1 0 1.5\na-2 r1 1.5 2e0\nb-1 r2 0 1\n",
        "utt2spk": "a-1 a\na-2 a\nb-1 b\n",
        "spk2utt": "a a-1 a-2\nb b-1\n",
        "utt2emo": "a-1 angry\na-2 sad\n",
        "utt2votes": "a-1 angry=3 sad=0.5\na-2 sad=2\nb-1 happy=1 sad=1\n",
        "text": "a-1 Grüße an alle\n",
    }
    for name, text in tables.items():
        (folder / name).write_text(text)


def read_data(folder):
    try:
        data = DataDirectory.read(folder, EMOTIONS)
        data.targets(data.utterances, EMOTIONS)
        data.labels(data.utterances, EMOTIONS)
    finally:
        data, _ = parse(folder, None)
        table_faults(data, EMOTIONS)
        entry_faults(data)


def make_fold(folder):
    write_folds(folder, [Fold("1", ("a-1", "a-2"), ("c-1",), ("b-1",))])


def make_audio(folder):
    write_audio(folder / "a.wav", NOISE, 16000)
    write_audio(folder / "a.flac", NOISE, 16000)
    for suffix, form in (("ogg", "OGG"), ("mp3", "MP3"), ("aiff", "AIFF")):
        memory = io.BytesIO()
        soundfile.write(memory, NOISE, 16000, format=form)
        (folder / f"a.{suffix}").write_bytes(memory.getvalue())


def read_sounds(folder):
    for path in sorted(folder.iterdir()):
        fits_as_it_is(str(path), 16000)
        samples, rate = read_audio(str(path))
        assert np.isfinite(samples).all() and rate > 0


def make_features(folder):
    specification = FeatureSpecification("fbank", [], 3, 50.0, 16000)
    frames = np.arange(12, dtype=np.float32).reshape(4, 3)
    write_features(folder, specification, [("a-1", frames), ("b-1", frames[:2])])
    merge_feature_jobs(folder, 1)
    for path in folder.glob("*.1.*[!k]"):
        path.unlink()


def read_features(folder):
    store = FeatureStore(folder)
    for frames in store.values():
        assert (
            frames.shape[1] == store.specification.dimension
            and np.isfinite(frames).all()
        )


def make_units(folder):
    with UnitWriter(folder, size=8, n_levels=2, routed=True) as writer:
        codes = np.arange(8).reshape(4, 2)
        writer.write("a-1", codes, {"specific/sad": 1.0})
        mixed = {"specific/sad": 0.25, "specific/angry": 0.75}
        writer.write("b-1", np.hstack([codes, codes]), mixed)
    card = {"experts": ["specific/sad", "specific/angry"], "n_levels": 2}
    card |= {"rate": "8x2", "system": "specific-soft", "codebooks_sha256": "0" * 64}
    write_cards(folder, card, {"nominal": 300.0, "entropy": 250.0, "side_info": 1.0})
    for path in folder.glob("pseudo_labels*"):
        path.unlink()


def read_units(folder):
    store = UnitStore(folder)
    for utterance in store:
        load_units(store, utterance, [8, 8])


def make_predictions(folder):
    rates = {"nominal": 300.0, "entropy": 250.0, "side_info": 1.0}
    cells = [
        Prediction("1", "8x2", "balanced", "route", rates, EMOTIONS, ["a", "b"], rows)
        for rows in (np.eye(3)[:2], np.full((2, 3), 1 / 3))
    ]
    write_predictions(folder / "posteriors.jsonl", cells)


def make_csv(folder):
    header = "file,speaker,emotion,text,gender,votes_angry,votes_sad,part\n"
    rows = 'x/1.wav,a,angry,"well, ""so""",f,3,0,train\n2.wav,b,,hm,m,0.5,1,test\n'
    (folder / "t.csv").write_text(header + rows)


def make_marker(folder):
    (folder / "input").write_text("x")
    Stage(folder, inputs=[folder / "input"], settings={"size": 4, "a": [1]}).finish()
    (folder / ".lock").unlink(missing_ok=True)


def read_marker(folder):
    Stage(folder, inputs=[folder / "input"], settings={"size": 4, "a": [1]}).is_done()
    Stage(folder / "next", inputs=[folder]).is_done()


def one(name, text):
    return lambda folder: (folder / name).write_text(text)


QUANTIZER = """norm: level
expert_sets: [balanced, specific]
chunk_frames: 4096
memory_mb: 512.0
learning: {max_iterations: 2, tolerance: 1.0e-4, init: k-means++}
"""
# Name -> what makes good files in a directory, what reads them.
READERS = {
    "table": (one("t", "a 1\nb  2 3 \nc\n"), lambda f: read_table(f / "t")),
    "places": (one("t", "a x.ark:5\nb y/x.ark:7\n"), lambda f: read_places(f / "t")),
    "json": (one("t", '{"a": [1, 2.5e3, null, "é"]}\n'), lambda f: read_json(f / "t")),
    "data directory": (make_tables, read_data),
    "emotions": (one("t", "angry\nhappy\nsad\n"), lambda f: read_emotions(f / "t")),
    "folds": (make_fold, read_folds),
    "audio": (make_audio, read_sounds),
    "features": (make_features, read_features),
    "units": (make_units, read_units),
    "artifact": (
        lambda folder: make_bank().save_pretrained(folder),
        lambda folder: emoq_plugin.load(str(folder), system="balanced"),
    ),
    "predictions": (
        make_predictions,
        lambda f: read_predictions(f / "posteriors.jsonl"),
    ),
    "quantizer options": (one("t", QUANTIZER), lambda f: QuantizerConfig.read(f / "t")),
    "probe options": (
        one("t", "C: 0.5\nmax_iter: 100\n"),
        lambda f: read_options(f / "t", ("C", "max_iter")),
    ),
    "feature options": (
        one("t", "encoder: fbank\nconf:\n  num_mel_bins: 40\n"),
        lambda f: read_feature_config(f / "t"),
    ),
    "csv": (make_csv, lambda f: read_clips(f / "t.csv", {})),
    "marker": (make_marker, read_marker),
}
STRINGS = {
    "votes": ("angry=3 sad=0.5", lambda text: parse_votes(text, EMOTIONS)),
    "route": (
        "sad=0.25 angry=0.75",
        lambda t: parse_route(t, {e: e for e in EMOTIONS}),
    ),
    "rate": ("64x2", Rate.parse),
    "entry": ("corpus/a b.wav", read_audio),
}
NUMBER = math.ceil(int(TOTAL) / (len(READERS) + len(STRINGS))) if TOTAL else 25
LIMITS = settings(
    max_examples=NUMBER,
    deadline=None,
    database=None,
    derandomize=TOTAL is None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def fates(request, capsys):
    """Return a counter of `read` and `refused`, which must add up to what was asked."""
    counter = Counter()
    yield counter
    if TOTAL:
        name = request.node.callspec.params["reader"]
        line = f"{name:18} {counter.total():7} inputs: {counter['read']} read, "
        with capsys.disabled():
            print(f"\n{line}{counter['refused']} refused with a documented error")
    assert counter.total() >= NUMBER


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_or_named(tmp_path, reader, fates):
    make, read = READERS[reader]
    make(tmp_path)
    read(tmp_path)
    good = {
        path: path.read_bytes()
        for path in sorted(tmp_path.rglob("*"))
        if path.is_file() and path.name != "README.md"
    }

    @LIMITS
    @given(st.randoms(use_true_random=True))
    def examine(chance):
        path = chance.choice(list(good))
        content = damaged_file(chance, path, good[path])
        note(f"{path.name}: {content!r}")
        path.write_bytes(content)
        try:
            read(tmp_path)
            fates["read"] += 1
        except (ValueError, OSError) as error:
            assert str(tmp_path) in str(error), f"does not name the file: {error!r}"
            fates["refused"] += 1
        finally:
            path.write_bytes(good[path])

    examine()


@pytest.mark.parametrize("reader", STRINGS)
def test_a_damaged_string_is_read_or_refused(reader, tmp_path, monkeypatch, fates):
    good, read = STRINGS[reader]
    monkeypatch.chdir(tmp_path)

    @LIMITS
    @given(st.randoms(use_true_random=True))
    def examine(chance):
        text = damaged(chance, good.encode()).decode(errors="replace")
        note(repr(text))
        try:
            read(text)
            fates["read"] += 1
        except (ValueError, OSError) as error:
            assert str(error)
            fates["refused"] += 1

    examine()
    assert not list(tmp_path.iterdir())
