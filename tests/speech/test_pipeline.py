"""Speech to units: in Python, on the command line, in pieces."""

import copy
import json
import pickle

import numpy as np
import pytest
import soundfile
import torch

import emoq_plugin
from emoq_plugin import EmoQuantizer
from emoq_plugin.bin import encode, pack
from emoq_plugin.files import read_table
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.speech.pipeline import SpeechToUnits, build_from_specification
from emoq_plugin.speech.streaming import StreamingEncoder
from tests.speech.tiny_bank import RATE, make_bank


def call(folder, capsys, *options, audio=("audio",)):
    names = [name if name == "-" else str(folder / name) for name in audio]
    encode.main(
        [*names, "--quantizer", str(folder / "quantizer")]
        + ["--system", "specific-distortion", *options]
    )
    return capsys.readouterr().out.splitlines()


def test_units_are_those_of_the_quantizer_on_the_features(folder, quantizer):
    units = quantizer.units(folder / "audio" / "a.wav")
    wave, _ = soundfile.read(folder / "audio" / "a.wav", dtype="float32")
    [frames] = build_encoder("fbank", num_mel_bins=12)([wave])
    expected = quantizer(torch.from_numpy(frames)[None])
    assert np.array_equal(units.codes, expected.codes[0].numpy())
    [(expert, weight)] = units.route.items()
    assert (expert, weight) == (quantizer.bank.experts[int(expected.route[0])], 1.0)
    assert units.seconds == pytest.approx(0.7)
    assert units.bits_per_second == pytest.approx(float(expected.bits[0]) / 0.7)
    assert [ord(c) - 0x4E00 for c in units.cjk(1)] == units.codes[:, 1].tolist()


def test_times_are_those_of_the_frames(folder, quantizer):
    samples, rate = soundfile.read(folder / "audio" / "a.wav")
    samples[: rate // 4] = 1e-4 * samples[: rate // 4]
    [loud] = quantizer.units([(samples, rate)])
    [frames] = build_encoder("fbank", num_mel_bins=12)([samples.astype(np.float32)])
    assert len(loud.times) == len(loud.codes) == len(frames)
    # The first frame that hears what begins at 0.25 s ends after it.
    jump = np.diff(frames.mean(axis=1)).argmax() + 1
    assert loud.times[jump - 1] + 0.025 <= 0.26 and 0.225 < loud.times[jump] <= 0.25


def test_lists_samples_and_files_give_the_same_units(folder, quantizer):
    paths = [folder / "audio" / name for name in ("a.wav", "b.flac", "deep/c.wav")]
    together = quantizer.units(paths)
    for path, units in zip(paths, together):
        samples = soundfile.read(path, dtype="float32")
        assert np.array_equal(units.codes, quantizer.units(path).codes)
        assert np.array_equal(units.codes, quantizer.units(samples).codes)
    assert together[2].seconds == pytest.approx(0.5)  # resampled from 8 kHz


def test_samples_are_scaled_where_their_type_says_so_and_refused_elsewhere(
    folder, quantizer
):
    path = folder / "audio" / "a.wav"
    integers, rate = soundfile.read(path, dtype="int16")
    units = quantizer.units(path)
    assert np.array_equal(quantizer.units((integers, rate)).codes, units.codes)
    for wrong in (integers.astype(np.float32), integers.astype(np.int64)):
        with pytest.raises(ValueError, match="samples.*(expected -1 .. 1|int64 have)"):
            quantizer.units((wrong, rate))


def test_a_recording_of_a_narrower_band_than_the_quantizer_knows_is_named_once(
    folder, tmp_path, caplog
):
    paths = [folder / "audio" / "a.wav", folder / "audio" / "deep" / "c.wav"]
    SpeechToUnits(RoutedQuantizer(make_bank(), "balanced")).read(paths[0])
    assert not caplog.messages
    wide = SpeechToUnits(RoutedQuantizer(make_bank(), "balanced"))
    list(wide([*paths, paths[1]]))
    [said] = caplog.messages
    assert "c.wav: a recording of 8000 Hz with no sound above 4000 Hz" in said
    caplog.clear()
    learned = make_bank(audio={"bands_hz": {"4000": 3}, "note": "of telephones"})
    SpeechToUnits(RoutedQuantizer(learned, "balanced")).read(paths[1])
    assert not caplog.messages
    learned.save_pretrained(tmp_path)
    assert "of telephones" in (tmp_path / "README.md").read_text("utf-8")


def two_scale(**options):
    encoder = build_encoder("fbank", num_mel_bins=12)
    random = np.random.default_rng(0)
    waves = [random.normal(size=4000 + 50 * n).astype(np.float32) / (4 + n)
             for n in range(24)]  # fmt: skip
    clips = encoder(waves)
    found = EmoQuantizer(8, router=None, norm="corpus", clip_bits=4, **options)
    quantizer = found.fit(clips).quantizer_
    quantizer.bank.card["feature"] = encoder.specification.to_json()
    return quantizer


@pytest.mark.parametrize("window", [None, 0.5])
def test_units_hold_the_clip_codes_and_decode_without_anything_else(folder, window):
    quantizer = two_scale(clip_window=window, frame_rate=20.0)
    units = quantizer.units(folder / "audio" / "a.wav")
    wave, _ = soundfile.read(folder / "audio" / "a.wav", dtype="float32")
    [frames] = build_encoder("fbank", num_mel_bins=12)([wave])
    expected = quantizer(frames[None])
    values = json.loads(json.dumps(units.as_dict()))
    assert values["clip_codes"] == expected.clip_codes[0].tolist()
    assert len(values["clip_codes"]) == (1 if window is None else len(frames) // 10)
    assert values["clip_sizes"] == quantizer.bank.clip_code.sizes
    clip_bits = 4 * len(values["clip_codes"])
    assert units.bits == pytest.approx(3 * len(frames) + clip_bits)
    decoded = quantizer.decode(
        np.array([values["codes"]]),
        np.zeros((1, 1), int),
        clip_codes=np.array([values["clip_codes"]]),
    )
    np.testing.assert_array_equal(decoded, expected.features)
    with pytest.raises(ValueError, match="known only at the end of a clip or window"):
        StreamingEncoder(SpeechToUnits(quantizer))


def test_a_file_without_room_for_clip_codes_is_refused(folder, tmp_path, capsys):
    two_scale().save_pretrained(tmp_path / "quantizer")
    command = [str(folder / "audio" / "a.wav"), "--quantizer"]
    command.append(str(tmp_path / "quantizer"))
    encode.main([*command, "--format", "jsonl"])
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["clip_codes"]
    options = ["--format", "bpe", "--output", str(tmp_path / "u.bpe")]
    with pytest.raises(SystemExit):
        encode.main([*command, *options])
    assert not (tmp_path / "u.bpe").exists()


@pytest.mark.parametrize("window", [None, 0.5])
def test_clip_tokens_come_before_the_units_of_a_line(folder, tmp_path, window):
    quantizer = two_scale(clip_window=window, frame_rate=20.0)
    quantizer.save_pretrained(tmp_path / "quantizer")
    names = {"a": "a.wav", "b": "b.flac"}
    audio = [str(folder / "audio" / name) for name in names.values()]
    command = [*audio, "--quantizer", str(tmp_path / "quantizer")]

    def encoded(form, *options):
        path = tmp_path / f"units.{form}"
        encode.main([*command, "--format", form, "--output", str(path), *options])
        return path

    starts = 8 + np.cumsum([0, *quantizer.bank.clip_code.sizes[:-1]])
    expected = dict(zip(names, quantizer.units(audio)))
    clip = {n: (u.clip_codes + starts).ravel().tolist() for n, u in expected.items()}
    labels = read_table(encoded("pseudo_labels"))
    characters = read_table(encoded("cjk", "--repeat", "false"))
    arrays = np.load(encoded("npz"))
    for name, units in expected.items():
        frames = units.codes[:, 0].tolist()
        assert labels[name].split() == [*map(str, clip[name] + frames)]
        kept = [c for n, c in enumerate(frames) if n == 0 or c != frames[n - 1]]
        assert [ord(c) - 0x4E00 for c in characters[name]] == clip[name] + kept
        np.testing.assert_array_equal(arrays[name], units.codes)
    ends = np.cumsum(arrays["emoq/clip_windows"])[:-1]
    for units, codes in zip(
        expected.values(), np.split(arrays["emoq/clip_codes"], ends), strict=True
    ):
        np.testing.assert_array_equal(codes, units.clip_codes)
    assert arrays["emoq/clip_sizes"].tolist() == units.clip_sizes


def test_units_without_a_clip_code_name_none(folder, quantizer):
    assert not {"clip_codes", "clip_sizes"} & set(
        quantizer.units(folder / "audio" / "a.wav").as_dict()
    )


def test_a_soft_route_gives_its_weights(folder):
    soft = emoq_plugin.load(
        str(folder / "quantizer"), system="specific-soft", n_levels=1
    )
    units = soft.units(folder / "audio" / "a.wav")
    assert units.codes.shape[1] == 2
    assert sum(units.route.values()) == pytest.approx(1.0)


def test_what_cannot_be_encoded_is_reported(folder, quantizer, tmp_path):
    short = tmp_path / "short.wav"
    soundfile.write(short, np.random.default_rng(0).normal(size=100) / 8, RATE)
    with pytest.raises(ValueError, match="short.wav'.*shorter than one frame"):
        quantizer.units(short)
    with pytest.raises(ValueError, match="has no feature specification"):
        build_from_specification({})
    specification = make_bank().card["feature"] | {"weights_sha256": "abc"}
    with pytest.raises(ValueError, match="not the one specified.*None instead of abc"):
        build_from_specification(specification)
    with pytest.raises(ValueError, match="is a control"):
        RoutedQuantizer(make_bank(), "specific-random").units(short)
    with pytest.raises(ValueError, match="give speaker_mean"):
        RoutedQuantizer(make_bank("speaker"), "balanced").units(
            folder / "audio" / "a.wav"
        )


# The command.


def test_pseudo_labels_of_a_directory(folder, quantizer, capsys):
    lines = call(folder, capsys)
    assert [line.split()[0] for line in lines] == ["a", "b", "deep/c"]
    units = quantizer.units(folder / "audio" / "b.flac")
    assert lines[1].split()[1:] == [str(code) for code in units.codes[:, 0]]


def test_cjk_without_repetitions(folder, quantizer, capsys):
    options = ("--format", "cjk", "--level", "1", "--repeat", "false")
    [line] = call(folder, capsys, *options, audio=["audio/a.wav"])
    units = quantizer.units(folder / "audio" / "a.wav")
    assert line == f"a {units.cjk(1, repeat=False)}"


def test_json_and_npz_hold_all_levels(folder, quantizer, capsys, tmp_path):
    [line] = call(folder, capsys, "--format", "jsonl", audio=["audio/a.wav"])
    found = json.loads(line)
    units = quantizer.units(folder / "audio" / "a.wav")
    assert found["name"] == "a"
    assert found["codes"] == units.codes.tolist()
    assert found["route"] == units.route
    assert found["frame_rate_hz"] == units.frame_rate_hz == 50.0
    assert found["bits_per_second"] == pytest.approx(units.bits_per_second)
    output = tmp_path / "units.npz"
    call(folder, capsys, "--format", "npz", "--output", str(output))
    with np.load(output) as arrays:
        recordings = [name for name in arrays if not name.startswith("emoq/")]
        assert sorted(recordings) == ["a", "b", "deep/c"]
        assert np.array_equal(arrays["a"], units.codes)


def test_a_list_on_standard_input(folder, capsys, piped):
    a, c = folder / "audio" / "a.wav", folder / "audio" / "deep" / "c.wav"
    piped(f"{a}\nthird {c}\n")
    lines = call(folder, capsys, "--n_levels", "1", audio=["-"])
    assert [line.split()[0] for line in lines] == ["a", "third"]


def test_one_speaker_gives_the_mean_that_a_speaker_normalisation_needs(
    folder, tmp_path, capsys
):
    make_bank("speaker").save_pretrained(tmp_path)
    options = ["--quantizer", str(tmp_path), "--system", "balanced"]
    files = [str(folder / "audio" / name) for name in ("a.wav", "b.flac")]
    encode.main([*files, *options, "--one_speaker", "true"])
    lines = capsys.readouterr().out.splitlines()
    quantizer = emoq_plugin.load(str(tmp_path), system="balanced")
    speech = SpeechToUnits(quantizer)
    frames = [speech.features([speech.read(f)])[0] for f in files]
    mean = torch.cat(frames).mean(dim=0)
    for line, clip in zip(lines, frames):
        codes = quantizer.encode(clip[None], speaker_mean=mean[None])[0, :, 0]
        assert line.split()[1:] == [str(int(code)) for code in codes]


@pytest.mark.parametrize(
    ("options", "audio", "message"),
    [
        (["--level", "2"], ["audio"], "--level 2, expected 0 to 1"),
        (["--format", "npz"], ["audio"], "npz needs --output"),
        ([], ["audio/a.wav", "audio/a.wav"], "are both called 'a'"),
        ([], ["quantizer"], "holds no audio file"),
        ([], ["audio/none.wav"], "audio file is missing"),
        (["--system", "wrong-distortion"], ["audio"], "no expert set 'wrong'"),
    ],
)
def test_wrong_calls_end_with_a_message(
    folder, capsys, caplog, options, audio, message
):
    with pytest.raises(SystemExit):
        call(folder, capsys, *options, audio=audio)
    assert message in caplog.text


def test_a_file_that_fails_is_named_and_the_others_are_written(
    folder, quantizer, capsys, caplog, tmp_path
):
    (tmp_path / "noise.wav").write_text("no audio")
    audio = ["audio/a.wav", str(tmp_path / "noise.wav"), "audio/b.flac"]
    with pytest.raises(SystemExit):
        call(folder, capsys, "--output", str(tmp_path / "units"), audio=audio)
    lines = (tmp_path / "units").read_text().splitlines()
    for line, name in zip(lines, ("a.wav", "b.flac"), strict=True):
        codes = quantizer.units(folder / "audio" / name).codes[:, 0]
        assert line.split() == [name[0], *map(str, codes)]
    messages = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert messages[0].startswith("noise: ")
    assert messages[1].startswith("1 of 3 recordings cannot be used")


# In pieces.


def pieces(wave, sizes=(1, 399, 5, 320, 2000)):
    start, at = 0, 0
    while start < len(wave):
        yield wave[start : start + sizes[at % len(sizes)]]
        start, at = start + sizes[at % len(sizes)], at + 1


@pytest.mark.parametrize("kind, dtype", [("corpus", "i2"), ("speaker", "f4")])
def test_pieces_give_the_codes_of_the_whole(folder, kind, dtype):
    speech = SpeechToUnits(RoutedQuantizer(make_bank(kind), "balanced"))
    wave = speech.read(folder / "audio" / "a.wav")
    mean = speech.speaker_mean([(wave, RATE)]) if kind == "speaker" else None
    stream = StreamingEncoder(speech, speaker_mean=mean)
    # As a sound card gives them: the file has 16 bits.
    given = wave if dtype == "f4" else np.rint(wave * 32768).astype(dtype)
    found = np.concatenate([stream.push(piece) for piece in pieces(given)])
    [whole] = speech([(wave, RATE)], speaker_mean=mean)
    assert np.array_equal(found, whole.codes)


def test_streaming_says_where_it_cannot_be_the_same():
    for kind in ("clip", "level"):
        speech = SpeechToUnits(RoutedQuantizer(make_bank(kind), "balanced"))
        with pytest.raises(ValueError, match=f"mean {kind} of the whole recording"):
            StreamingEncoder(speech)
    speech = SpeechToUnits(RoutedQuantizer(make_bank("corpus"), "specific-distortion"))
    with pytest.raises(ValueError, match="chooses its expert on the whole recording"):
        StreamingEncoder(speech)
    StreamingEncoder(speech, expert="specific/sad")
    speech.encoder.windowed = False
    with pytest.raises(ValueError, match="depend on the whole recording"):
        StreamingEncoder(speech, expert="specific/sad")


# Ready to share.


def test_a_packed_system_encodes_as_the_bank_does(folder, quantizer, tmp_path, caplog):
    options = ["--quantizer", str(folder / "quantizer"), "--output_dir", str(tmp_path)]
    options += ["--system", "specific-distortion", "--n_levels", "1"]
    pack.main(options)
    packed = emoq_plugin.load(str(tmp_path))
    assert packed.bank.experts == ["specific/angry", "specific/sad"]
    assert packed.bank.sizes == [8]
    a = folder / "audio" / "a.wav"
    assert np.array_equal(packed.units(a).codes, quantizer.units(a).codes[:, :1])
    assert "RoutedQuantizer" in (tmp_path / "README.md").read_text()
    with caplog.at_level("INFO"):
        pack.main(options)
    assert "nothing to do" in caplog.text


def test_a_copy_between_two_calls_has_an_encoder_of_its_own(folder, quantizer):
    audio = folder / "audio" / "a.wav"
    expected = quantizer.units(audio)
    for twin in (copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        assert np.array_equal(twin.units(audio).codes, expected.codes)
        assert twin._speech[1].quantizer is twin
        assert twin._speech[1].encoder is not quantizer._speech[1].encoder
    assert np.array_equal(quantizer.units(audio).codes, expected.codes)


def test_a_quantizer_that_was_moved_comes_back_to_the_device_of_the_call(
    folder, quantizer, monkeypatch
):
    audio, asked = folder / "audio" / "a.wav", []
    expected = quantizer.units(audio)
    move = RoutedQuantizer.to
    monkeypatch.setattr(
        RoutedQuantizer, "to", lambda self, *a: (asked.append(a), move(self, *a))[1]
    )
    quantizer.to(torch.float64)  # stays float32
    assert np.array_equal(quantizer.units(audio).codes, expected.codes)
    assert asked[-1] == ("cpu",)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_units_of_a_moved_quantizer_are_the_same(folder, quantizer):
    audio = folder / "audio" / "a.wav"
    expected = quantizer.units(audio)
    for device in ("cuda", "cpu"):
        quantizer.to(device)
        assert np.array_equal(quantizer.units(audio).codes, expected.codes)
