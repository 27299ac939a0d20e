"""`emoq encode`: what it is given, names one to one, routes, one bad file."""

import logging
import shutil
import sys
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
import torch

import emoq_plugin
from emoq_plugin.bin import encode
from emoq_plugin.files import read_table
from emoq_plugin.speech.recordings import each_recording, find_audio
from emoq_plugin.units import formats
from emoq_plugin.units.store import parse_route
from emoq_plugin.units.subwords import learn_subwords, unit_text
from tests.speech.tiny_bank import make_bank

SYSTEM = "specific-distortion"


def call(quantizer, *arguments, system=SYSTEM):
    arguments = [
        *map(str, arguments),
        "--quantizer",
        str(quantizer),
        "--system",
        system,
    ]
    encode.main(arguments)


# ----------------------------------------------------------------- what is given


def test_linked_folders_are_searched_and_what_is_left_out_is_reported(
    folder, tmp_path, caplog
):
    corpus = tmp_path / "corpus"
    (corpus / "one").mkdir(parents=True)
    (corpus / "two").symlink_to(folder / "audio")
    (corpus / "one" / "x.wav").symlink_to(folder / "audio" / "a.wav")
    (corpus / "one" / "loop").symlink_to(corpus)
    (corpus / "one" / "._x.wav").write_text("macOS")
    (corpus / "one" / "notes.txt").write_text("notes")
    with caplog.at_level("INFO"):
        found = find_audio([str(corpus)])
    assert list(found) == ["one/x", "two/a", "two/b", "two/deep/c"]
    assert "4 audio files; left out: " in caplog.text
    for reason in ("1 hidden (one/._x.wav)", "(one/notes.txt)", "(one/loop)"):
        assert reason in caplog.text


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("rec1\t{a}", "rec1"),
        ("rec1  {a}", "rec1"),
        ("rec1 \t {blank}", "rec1"),
        ("{a}", "a"),
        ("{blank}", "c d"),
        ("{blank}\r", "c d"),
        ("  {a}  ", "a"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_of_a_list_are_read_as_tables_are(
    folder, tmp_path, piped, line, name, mark
):
    blank = tmp_path / "a b" / "c d.wav"
    blank.parent.mkdir()
    blank.symlink_to(folder / "audio" / "a.wav")
    paths = {"a": folder / "audio" / "a.wav", "blank": blank}
    text = f"{mark}{line.format(**paths)}\n\n"
    piped(text)
    expected = paths["blank" if "blank" in line else "a"]
    assert find_audio(["-"]) == {name: str(expected)}


def test_a_line_that_can_be_read_in_two_ways_is_refused(tmp_path, monkeypatch, piped):
    monkeypatch.chdir(tmp_path)
    for name in ("my file.wav", "file.wav"):
        (tmp_path / name).touch()
    piped("x file.wav\nmy file.wav\n")
    with pytest.raises(ValueError, match="standard input:2: 'my file.wav' is a file, "):
        find_audio(["-"])


def test_a_path_with_blanks_that_is_missing_is_reported_in_full(piped):
    piped("/no such/place.wav\n")
    assert find_audio(["-"]) == {"place": "/no such/place.wav"}


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_a_recording_on_standard_input_has_the_units_of_its_file(
    folder, tmp_path, piped, capsys, form
):
    samples, rate = soundfile.read(folder / "audio" / "a.wav")
    path = tmp_path / "stdin.audio"
    soundfile.write(path, samples, rate, format=form)
    call(folder / "quantizer", path)
    expected = capsys.readouterr().out
    piped(path.read_bytes())
    call(folder / "quantizer", "-")
    assert capsys.readouterr().out == expected != ""


def test_a_recording_whose_length_no_header_knows_can_be_piped(
    folder, tmp_path, piped, capsys
):
    """As sox and ffmpeg write to a pipe."""
    content = bytearray((folder / "audio" / "a.wav").read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = b"\xff" * 4
    piped(bytes(content))
    call(folder / "quantizer", "-", folder / "audio" / "a.wav")
    alone, beside = capsys.readouterr().out.splitlines()
    assert alone.split()[0] == "stdin" and alone.split()[1:] == beside.split()[1:]


def test_a_cut_recording_on_standard_input_is_refused(folder, piped, caplog):
    piped((folder / "audio" / "a.wav").read_bytes()[:-2000])
    with pytest.raises(SystemExit):
        call(folder / "quantizer", "-")
    assert "stdin: truncated audio or a wrong header" in caplog.text


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "standard input is empty"),
        (b" \n", "standard input is empty"),
        (b"\xff\x00\x01" * 50, "neither audio .* nor a list of paths in UTF-8"),
        ("grüße.wav\n".encode("latin-1"), "nor a list of paths in UTF-8: .* iconv"),
        ("a.wav\n".encode("utf-16"), "nor a list of paths in UTF-8"),
    ],
)
def test_what_is_neither_a_recording_nor_a_list_is_refused(piped, content, message):
    piped(content)
    with pytest.raises(ValueError, match=message):
        find_audio(["-"])


def test_a_terminal_is_no_recording(piped, monkeypatch):
    piped("")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(ValueError, match=r"terminal.*cat a.wav \| emoq encode -"):
        find_audio(["-"])


def test_equal_names_of_several_folders_are_refused(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.wav").touch()
    with pytest.raises(ValueError, match="one/a.wav' and '.*two/a.wav' are both"):
        find_audio([str(tmp_path / "one"), str(tmp_path / "two")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--output", "x.json"],
            "x.json with --format pseudo_labels: give --format jsonl",
        ),
        (["--output", "x.npz"], "x.npz with --format pseudo_labels: give --format npz"),
        (["--output", "x.npz", "--format", "json"], "give --format npz"),
        (["--output", "-", "--format", "npz"], "npz needs --output"),
        (["--output", "."], "is a directory"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_the_work(
    folder, tmp_path, monkeypatch, capsys, caplog, options, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        call(folder / "quantizer", folder / "audio", *options)
    assert message in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_dash_is_standard_output(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call(folder / "quantizer", folder / "audio")
    expected = capsys.readouterr().out
    call(folder / "quantizer", folder / "audio", "--output", "-")
    assert capsys.readouterr().out == expected
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------- names one to one


NAMES = ["a b", "a%20b", "a  b", "a\u2028b", "100%", "a"]


@pytest.fixture
def many(folder, tmp_path):
    place = tmp_path / "audio"
    place.mkdir()
    for name in NAMES:
        (place / f"{name}.wav").symlink_to(folder / "audio" / "a.wav")
    return place


@pytest.mark.parametrize("form", ["pseudo_labels", "cjk"])
def test_names_are_one_word_of_a_line_and_come_back(
    folder, many, tmp_path, caplog, form
):
    output = tmp_path / "units"
    call(folder / "quantizer", many, "--format", form, "--output", output)
    table = read_table(output)
    assert sorted(map(unquote, table)) == sorted(NAMES)
    assert len(set(table.values())) == 1  # of one recording
    assert "5 names hold blanks" in caplog.text


def test_npz_keeps_names_and_refuses_what_numpy_takes_for_another(
    folder, many, tmp_path
):
    output = tmp_path / "units.npz"
    call(folder / "quantizer", many, "--format", "npz", "--output", output)
    with np.load(output) as found:
        assert sorted(found["emoq/names"]) == sorted(NAMES)
        assert all(name in found for name in NAMES)
    for name, message in (("a.npy", "are one name"), ("emoq/sizes", "are taken")):
        path = many / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        with pytest.raises(ValueError, match=message):
            formats.check_output(output, "npz", find_audio([str(many)]))
        path.unlink()


# ------------------------------------------------------------------------- routes


@pytest.fixture
def routed(folder):
    """Return the units of the recordings, by their names, as Python gives them."""
    quantizer = emoq_plugin.load(str(folder / "quantizer"), system=SYSTEM)
    paths = find_audio([str(folder / "audio")])
    return dict(zip(paths, quantizer.units(list(paths.values()))))


@pytest.mark.parametrize("form", ["pseudo_labels", "cjk"])
def test_lines_of_text_have_their_routes_beside_them(
    folder, routed, tmp_path, capsys, caplog, form
):
    options = [folder / "audio", "--format", form]
    call(folder / "quantizer", *options)
    assert "the route is left out: --output" in caplog.text
    output = tmp_path / "units.txt"
    call(folder / "quantizer", *options, "--output", output)
    routes = read_table(f"{output}.utt2route")
    experts = {"angry": "specific/angry", "sad": "specific/sad"}
    found = {name: parse_route(text, experts) for name, text in routes.items()}
    assert found == {name: units.route for name, units in routed.items()}
    # Units without a route leave none of others behind.
    call(folder / "quantizer", *options, "--output", output, system="balanced")
    assert not (tmp_path / "units.txt.utt2route").exists()


def test_a_soft_route_says_that_labels_hold_one_of_two_experts(folder, capsys, caplog):
    call(folder / "quantizer", folder / "audio/a.wav", system="specific-soft")
    assert "only the units of the heavier of two experts" in caplog.text


@pytest.mark.parametrize("system", [SYSTEM, "specific-soft", "balanced"])
def test_npz_says_what_its_numbers_mean(folder, tmp_path, system):
    quantizer = emoq_plugin.load(str(folder / "quantizer"), system=system)
    output = tmp_path / "units.npz"
    options = ["--format", "npz", "--output", output]
    call(folder / "quantizer", folder / "audio", *options, system=system)
    with np.load(output) as found:
        metadata = {
            k.removeprefix("emoq/"): v for k, v in found.items() if "emoq/" in k
        }
        assert metadata["sizes"].tolist() == quantizer.bank.sizes
        assert metadata["frame_rate_hz"] == 50.0
        assert str(metadata["codebooks_sha256"]) == quantizer.codebooks_sha256
        for name, path in find_audio([str(folder / "audio")]).items():
            units = quantizer.units(path)
            row = metadata["names"].tolist().index(name)
            experts = metadata["experts"][metadata["route"][row]]
            assert np.array_equal(found[name], units.codes)
            assert dict(zip(experts, metadata["weights"][row])) == units.route


# ------------------------------------------------------------------ one bad file


def failing(kind):
    """Return a call that fails with `kind` wherever 'bad' is among the files."""

    def results(files):
        if "bad" in files:
            raise kind
        return [f"units of {file}" for file in files]

    return results


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (MemoryError(), "memory does not suffice"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "shorter record"),
        (torch.OutOfMemoryError("CUDA out of memory."), "memory does not suffice"),
        (RuntimeError("anything"), "anything"),
        (KeyError("anything"), "KeyError"),
        (OSError("unreadable"), "unreadable"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 16])
def test_whatever_a_recording_raises_the_others_are_encoded(
    caplog, kind, message, size
):
    paths = {name: name for name in ("a", "b", "bad", "c", "d")}
    failed = []
    found = dict(each_recording(failing(kind), paths, failed=failed, size=size))
    assert found == {name: f"units of {name}" for name in ("a", "b", "c", "d")}
    assert failed == ["bad"]
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.getMessage().startswith("bad: ") and message in record.getMessage()
    # What is no fault of the recording shows where it is.
    assert bool(record.exc_info) == (message in ("anything", "KeyError"))


def test_the_mean_of_a_speaker_is_that_of_the_recordings_that_can_be_read(
    folder, tmp_path, capsys, caplog
):
    make_bank("speaker").save_pretrained(tmp_path / "quantizer")
    (tmp_path / "noise.wav").write_text("no audio")
    good = [folder / "audio/a.wav", folder / "audio/b.flac"]
    options = ["--one_speaker", "true"]
    call(tmp_path / "quantizer", *good, *options, system="balanced")
    expected = capsys.readouterr().out
    with pytest.raises(SystemExit):
        audio = [good[0], tmp_path / "noise.wav", good[1]]
        call(tmp_path / "quantizer", *audio, *options, system="balanced")
    assert capsys.readouterr().out == expected
    assert "1 of 3 recordings cannot be used, the others are done" in caplog.text


def test_nothing_is_done_where_nothing_can_be_used(folder, caplog):
    with pytest.raises(SystemExit):
        call(folder / "quantizer", "missing.wav")
    said = caplog.records[-1].getMessage()
    assert said == "1 of 1 recordings cannot be used: missing.wav"


@pytest.mark.parametrize("system", [SYSTEM, "balanced"])
def test_subwords_of_the_artifact_lose_nothing_but_durations(folder, tmp_path, system):
    made = tmp_path / "quantizer"
    shutil.copytree(folder / "quantizer", made)
    model = learn_subwords(["一丁丂" * 9], n_units=8 + 6, n_sequences=3)
    (made / "subwords.model").write_bytes(model)
    output = tmp_path / "bpe.txt"
    options = ("--format", "bpe", "--output", output)
    call(made, folder / "audio" / "a.wav", *options, system=system)
    units = emoq_plugin.load(str(made), system=system).units(folder / "audio" / "a.wav")
    [text] = read_table(output).values()
    assert text.replace(" ", "") == unit_text(units.codes, [8, 6])
    routed = (tmp_path / "bpe.txt.utt2route").exists()
    assert routed is (system != "balanced")


def test_subwords_are_refused_where_none_or_others_were_learned(
    folder, tmp_path, caplog
):
    made = tmp_path / "quantizer"
    shutil.copytree(folder / "quantizer", made)
    audio = folder / "audio" / "a.wav"
    with pytest.raises(SystemExit):
        call(made, audio, "--format", "bpe")
    assert "subwords.model is missing" in caplog.text
    (made / "subwords.model").write_bytes(learn_subwords(["一丁"], 8 + 6, 1))
    with pytest.raises(SystemExit):
        call(made, audio, "--format", "bpe", "--n_levels", 1)
    assert "alphabet of 14 units, the quantizer has 8" in caplog.text
