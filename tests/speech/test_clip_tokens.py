"""`emoq clip-tokens`: clip codes in front of units that another tokenizer made."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import emoq_plugin
from emoq_plugin.bin import clip_tokens
from emoq_plugin.files import read_table
from emoq_plugin.speech.pipeline import SpeechToUnits
from emoq_plugin.units.clip_tokens import ClipVocabulary, read_unit_lines
from emoq_plugin.units.text import to_cjk
from tests.speech.test_pipeline import two_scale

NAMES = ("a", "b", "deep/c")
UNITS = {"b": [3, 3, 99], "a": [0], "deep/c": [7, 98]}


@pytest.fixture(scope="module")
def place(folder):
    """Hold recordings, quantizers with clip codes and units of another tokenizer."""
    two_scale().save_pretrained(folder / "whole")
    two_scale(clip_window=0.5, frame_rate=50.0).save_pretrained(folder / "windows")
    lines = [f"{n} {' '.join(map(str, units))}" for n, units in UNITS.items()]
    (folder / "km100.txt").write_text("\n".join(lines) + "\n")
    return folder


def call(place, *options, quantizer="whole", units="km100.txt", audio=("audio",)):
    audio = [str(place / name) if name != "-" else name for name in audio]
    fixed = ["--quantizer", str(place / quantizer), "--units", str(place / units)]
    arguments = [*audio, *fixed, *map(str, options)]
    if "--n_units" not in arguments:
        arguments += ["--n_units", "100"]
    clip_tokens.main(arguments)


@pytest.fixture
def refusal(place, tmp_path, caplog):
    """Return a function that must fail without output; it gives the message."""

    def run(*options, **where):
        output = tmp_path / "out.txt"
        with pytest.raises(SystemExit) as caught:
            call(place, *options, "--output", output, **where)
        assert caught.value.code == 1 and not output.exists()
        return caplog.records[-1].getMessage()

    return run


def expected_codes(place, name, quantizer="whole"):
    speech = SpeechToUnits(emoq_plugin.load(str(place / quantizer)))
    path = next((place / "audio").glob(f"{name}.*"))
    return next(speech([path])).clip_codes


@pytest.mark.parametrize("quantizer", ["whole", "windows"])
def test_clip_codes_come_first_and_both_parts_are_got_back(place, tmp_path, quantizer):
    call(place, "--output", tmp_path / "new.txt", quantizer=quantizer)
    found = read_table(tmp_path / "new.txt")
    assert list(found) == list(UNITS)  # the order of the units
    card = json.loads((tmp_path / "new.txt.json").read_text())
    code = emoq_plugin.load(str(place / quantizer)).bank.clip_code
    vocabulary = ClipVocabulary(card["n_units"], card["clip_sizes"])
    assert card["clip_sizes"] == code.sizes and card["clip_first"][0] == 100
    assert len(vocabulary) == card["n_tokens"] == 100 + sum(code.sizes)
    for name, text in found.items():
        codes, units = vocabulary.split(np.array(text.split(), dtype=int))
        assert units.tolist() == UNITS[name]
        expected = expected_codes(place, name, quantizer)
        np.testing.assert_array_equal(codes, expected)
    assert card["seconds"] == {"a": 0.7, "b": 0.4, "deep/c": 0.5}


def test_clip_tokens_alone_and_characters(place, tmp_path):
    call(place, "--output", tmp_path / "alone.txt", "--join", "false")
    alone = read_table(tmp_path / "alone.txt")
    characters = [f"{name} {to_cjk(units)}" for name, units in UNITS.items()]
    (tmp_path / "units.cjk").write_text("\n".join(characters) + "\n")
    units = tmp_path / "units.cjk"
    call(place, "--output", tmp_path / "new.cjk", "--form", "cjk", units=units)
    for name, text in read_table(tmp_path / "new.cjk").items():
        tokens = [int(word) for word in alone[name].split()]
        assert min(tokens) >= 100
        assert text == to_cjk(tokens + UNITS[name])


def test_a_list_on_standard_input_names_the_recordings(place, tmp_path, piped):
    paths = {"x": "a.wav", "y": "b.flac"}
    lines = "".join(f"{n} {place / 'audio' / p}\n" for n, p in paths.items())
    piped(lines)
    (tmp_path / "xy.txt").write_text("y 1 2\nx 3\n")
    call(place, "--output", tmp_path / "new", audio=["-"], units=tmp_path / "xy.txt")
    found = read_table(tmp_path / "new")
    assert list(found) == ["y", "x"]
    codes = expected_codes(place, "a")
    sizes = emoq_plugin.load(str(place / "whole")).bank.clip_code.sizes
    expected = ClipVocabulary(100, sizes).join(codes, np.array([3]))
    assert found["x"].split() == list(map(str, expected))


def test_utterances_of_one_of_the_two_are_refused(place, tmp_path, refusal):
    fewer, more = tmp_path / "fewer.txt", tmp_path / "more.txt"
    text = (place / "km100.txt").read_text()
    fewer.write_text("".join(text.splitlines(keepends=True)[:1]))
    more.write_text(text + "z 1\n")
    message = refusal(units=fewer)
    assert "2 utterances have audio, but no units" in message and "'a'" in message
    message = refusal(units=more)
    assert "1 utterances have units" in message and "first 'z'" in message


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a 100", "unit 0 is 100, expected 0 to 99"),
        ("a 5 -1", "unit 1 is -1"),
        ("a 5 x", "expected units as numbers divided by blanks"),
        ("a 一丁", "expected units as numbers divided by blanks"),
        ("a", "'a': no units"),
        ("b 1", "duplicate key 'b'"),
    ],
)
def test_what_is_no_unit_is_refused_with_its_line(tmp_path, refusal, line, fault):
    units = tmp_path / "bad.txt"
    units.write_text(f"b 1\n{line}\n")
    message = refusal(units=units)
    assert "bad.txt:2: " in message and fault in message


def test_a_quantizer_without_a_clip_code_is_refused(refusal):
    message = refusal("--system", "balanced", quantizer="quantizer")
    assert "has no clip code" in message and "clip_bits" in message


def test_a_bad_recording_leaves_no_output(place, tmp_path, refusal, monkeypatch):
    (tmp_path / "z.wav").write_text("no audio")
    (tmp_path / "z.txt").write_text("z 1\n")
    message = refusal(audio=[tmp_path / "z.wav"], units=tmp_path / "z.txt")
    assert "1 of 1 recordings cannot be used" in message


def test_an_output_over_the_units_is_refused(place, caplog):
    before = (place / "km100.txt").read_text()
    with pytest.raises(SystemExit):
        call(place, "--output", place / "km100.txt")
    assert "expected another file" in caplog.text
    assert (place / "km100.txt").read_text() == before


@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.integers(1, 3),
    st.lists(st.integers(0, 8), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_joining_and_splitting_lose_nothing(n_units, sizes, n_windows, units, random):
    codes = [[random.randrange(s) for s in sizes] for _ in range(n_windows)]
    units = np.array([u % n_units for u in units], dtype=np.int64)
    vocabulary = ClipVocabulary(n_units, sizes)
    tokens = vocabulary.join(np.array(codes), units)
    assert tokens.max() < len(vocabulary)
    back, rest = vocabulary.split(tokens)
    assert back.tolist() == codes and rest.tolist() == units.tolist()
    with pytest.raises(ValueError, match="clip tokens in front|are not clip codes"):
        vocabulary.split(np.append(tokens, n_units))
    with pytest.raises(ValueError, match="clip tokens in front|are not clip codes"):
        vocabulary.split(units)


def test_unit_lines_are_read_alike_in_both_forms(tmp_path):
    (tmp_path / "a").write_text("u 5 0 5\n")
    (tmp_path / "b").write_text(f"u {to_cjk([5, 0, 5])}\n")
    one, other = (
        read_unit_lines(tmp_path / name, form, n_units=6)["u"].tolist()
        for name, form in (("a", "pseudo_labels"), ("b", "cjk"))
    )
    assert one == other == [5, 0, 5]


def test_the_commands_on_the_page_run(tmp_path):
    """From a folder with recordings, their labels and the units of some others."""
    random = np.random.default_rng(0)
    for place, count in (("recordings", 80), ("data/wavs", 2)):
        (tmp_path / place).mkdir(parents=True)
        for n in range(count):
            noise = random.normal(size=4000)
            samples = np.cumsum(noise) / 400 if n % 2 else noise / 20
            soundfile.write(tmp_path / place / f"{n}.wav", samples, 16000)
    rows = ["file,emotion,speaker"]
    rows += [f"{n}.wav,{('calm', 'angry')[n % 2]},s{n // 20}" for n in range(80)]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "pseudo_labels_km500.txt").write_text("1 7 7 499\n0 7 7 499\n")
    page = (Path(__file__).parents[2] / "docs/clip_codes.md").read_text("utf-8")
    [block] = re.findall(r"```bash\n(emoq learn .*?)```", page, re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    joined = read_table(tmp_path / "joined.txt")
    assert list(joined) == ["1", "0"]
    for text in joined.values():
        tokens = [int(word) for word in text.split()]
        assert tokens[-3:] == [7, 7, 499] and min(tokens[:-3]) >= 500
