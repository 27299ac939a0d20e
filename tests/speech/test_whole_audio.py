"""Audio that is shorter than it should be is noticed, whatever holds it."""

import io
import struct

import numpy as np
import pytest
import soundfile

from emoq_plugin.speech.audio import Recording, read_audio, scale

RATE, SECONDS = 16000, 3
QUIET_THEN_LOUD = np.random.default_rng(0).normal(size=RATE * SECONDS) / 8
QUIET_THEN_LOUD[: len(QUIET_THEN_LOUD) // 2] /= 1000


def content(form="WAV", subtype=None, samples=QUIET_THEN_LOUD, **how):
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format=form, subtype=subtype, **how)
    return stream.getvalue()


def put(tmp_path, data, suffix="wav"):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    return str(path)


def with_size(data, chunk, size, order="<"):
    """Write another size of a chunk."""
    at = data.index(chunk) + 4
    return data[:at] + struct.pack(f"{order}I", size) + data[at + 4 :]


HOLDERS = [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"),
    ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"),
    ("AU", "PCM_16"), ("NIST", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


@pytest.mark.parametrize("form, subtype", HOLDERS)
@pytest.mark.parametrize("share", [0.4, 0.97])
def test_a_file_cut_while_copying_is_refused_by_name(tmp_path, form, subtype, share):
    data = content(form, subtype)
    assert len(read_audio(put(tmp_path, data))[0]) == pytest.approx(
        len(QUIET_THEN_LOUD), abs=1024  # ADPCM fills its last block
    )
    path = put(tmp_path, data[: int(len(data) * share)])
    with pytest.raises(ValueError, match="a.wav: (truncated|unreadable) audio"):
        read_audio(path)


def test_both_numbers_of_a_cut_wav_are_reported_and_whole_parts_are_read(tmp_path):
    data = content(subtype="PCM_16")
    path = put(tmp_path, data[: 44 + 2 * int(1.2 * RATE)])
    with pytest.raises(ValueError, match=r"96000 bytes.* 38400 of them, 1\.200 s"):
        read_audio(path)
    whole, _ = read_audio(path, segment=(0.5, 1.1))
    assert len(whole) == round(0.6 * RATE)
    with pytest.raises(ValueError, match="truncated"):
        read_audio(path, segment=(0.5, 1.3))


@pytest.mark.parametrize("size", [2**32 - 1, 2**31 - 1, 2**31 - 2**12])
def test_what_was_written_to_a_pipe_has_no_length(tmp_path, size):
    path = put(tmp_path, with_size(content(), b"data", size))
    assert len(read_audio(path)[0]) == len(QUIET_THEN_LOUD)


def test_headers_that_are_off_by_some_bytes_are_no_cut(tmp_path):
    data = content()
    path = put(tmp_path, with_size(data, b"data", len(data)))
    assert len(read_audio(path)[0]) == len(QUIET_THEN_LOUD)
    assert len(read_audio(put(tmp_path, data + b"TAG" * 40))[0]) == RATE * SECONDS


@pytest.mark.parametrize(
    "data",
    [
        with_size(content(), b"data", 32000),
        with_size(content(), b"data", 0),
        content("AU")[:8] + struct.pack(">I", 32000) + content("AU")[12:],
        with_size(content("AIFF"), b"SSND", 32008, ">"),
    ],
)
def test_a_header_that_counts_less_than_the_file_holds_is_refused(tmp_path, data):
    with pytest.raises(ValueError, match="wrong header: its header counts"):
        read_audio(put(tmp_path, data))


# MP3 of variable bit rate, whose first frame is a Xing header.


def mp3():
    return content("MP3", bitrate_mode="VARIABLE", compression_level=0.3)


def without_header(data):
    assert b"Xing" in data[:64]
    return data[data.index(data[:2], 2) :]


@pytest.mark.parametrize("louder_first", [False, True])
def test_an_mp3_without_a_xing_header_is_read_to_its_end(tmp_path, louder_first):
    samples = QUIET_THEN_LOUD[:: -1 if louder_first else 1]
    data = content("MP3", samples=samples, bitrate_mode="VARIABLE")
    plain = without_header(data)
    with soundfile.SoundFile(io.BytesIO(plain)) as stream:  # what libsndfile guesses
        assert abs(stream.frames - len(samples)) > RATE / 2
    whole, _ = read_audio(put(tmp_path, data))
    tag = b"ID3\x03\0\0\0\0\x10\0" + b"\xff\xfb" * 1024
    for variant in (plain, tag + plain, plain + b"TAG".ljust(128)):
        read, _ = read_audio(put(tmp_path, variant, "mp3"))
        # The header says what the coder put in front and behind, two frames at most.
        assert 0 <= len(read) - len(whole) <= 2 * 1152
        part, _ = read_audio(put(tmp_path, variant, "mp3"), segment=(2.0, 2.5))
        np.testing.assert_allclose(part, read[2 * RATE : 2 * RATE + 8000], atol=1e-6)


def test_an_mp3_joined_of_two_is_read_to_its_end(tmp_path):
    one = read_audio(put(tmp_path, mp3(), "mp3"))[0]
    both = read_audio(put(tmp_path, mp3() + mp3(), "mp3"))[0]
    assert len(both) >= 2 * len(one)


def test_a_cut_mp3_gives_both_numbers_of_frames(tmp_path):
    path = put(tmp_path, mp3()[:3000], "mp3")
    with pytest.raises(ValueError, match=r"header counts \d+ frames, the file holds"):
        read_audio(path)


# Commands.


def test_a_command_runs_once_for_all_parts_and_without_a_terminal(tmp_path):
    count, path = tmp_path / "count", put(tmp_path, content(subtype="FLOAT"))
    command = f"echo x >> {count}; cat >> {count}; cat {path} |"
    recording = Recording(command, allow_pipe=True)
    for start in range(SECONDS):
        part, _ = recording.read((start, start + 1))
        expected = QUIET_THEN_LOUD[start * RATE :][:RATE].astype(np.float32)
        np.testing.assert_array_equal(part, expected)
    assert count.read_text() == "x\n"
    failing = Recording(f"echo x >> {count}; exit 1 |", allow_pipe=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="exit status 1"):
            failing.read()
    assert count.read_text() == "x\n" * 2


@pytest.mark.parametrize(
    "said",
    [
        "[mov,mp4] stream 0, offset 0x30: partial file",
        "Error while decoding stream #0:0: Invalid data found when processing input",
        "sox WARN wav: Premature EOF on .wav input file",
    ],
)
def test_a_command_that_reports_damage_and_ends_with_0_is_refused(tmp_path, said):
    path = put(tmp_path, content())
    with pytest.raises(ValueError) as caught:
        read_audio(f"echo begin >&2; echo '{said}' >&2; cat {path} |", allow_pipe=True)
    assert said in str(caught.value) and "exit status 0" in str(caught.value)


def test_what_ffmpeg_says_when_asked_for_errors_only_is_one(tmp_path, monkeypatch):
    tool = tmp_path / "ffmpeg"
    tool.write_text('#!/bin/sh\necho "[aac] channel element 1.0" >&2\ncat "$4"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = put(tmp_path, content())
    with pytest.raises(ValueError, match=r"it says: \[aac\] channel element 1.0"):
        read_audio(f"ffmpeg -loglevel error -i {path} |", allow_pipe=True)
    read_audio(f"ffmpeg -loglevel info -i {path} |", allow_pipe=True)


def test_other_words_of_a_command_are_logged(tmp_path, caplog):
    said = "sox WARN wav: Length in output .wav header will be wrong"
    command = f"echo '{said}' >&2; cat {put(tmp_path, content())} |"
    assert len(read_audio(command, allow_pipe=True)[0]) == len(QUIET_THEN_LOUD)
    assert said in caplog.text and command in caplog.text


def test_the_first_program_of_a_pipeline_may_fail(tmp_path):
    path = put(tmp_path, content())
    with pytest.raises(ValueError, match="exit status 9"):
        read_audio(f"(cat {path}; exit 9) | cat |", allow_pipe=True)


# Full scale.


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_numbers_of_16_bits_in_a_float_file_are_refused(tmp_path, subtype):
    path = put(tmp_path, content(subtype=subtype, samples=QUIET_THEN_LOUD * 32768))
    with pytest.raises(ValueError, match="a.wav: values up to .*divide 16-bit"):
        read_audio(path)


def test_the_overshoot_of_a_filter_is_cut_at_full_scale(tmp_path):
    samples = QUIET_THEN_LOUD / np.abs(QUIET_THEN_LOUD).max() * 1.05
    read, _ = read_audio(put(tmp_path, content(subtype="FLOAT", samples=samples)))
    np.testing.assert_allclose(read, np.clip(samples, -1, 1), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint8])
def test_integers_are_scaled_by_their_type(dtype):
    info = np.iinfo(dtype)
    steps = (info.max - info.min + 1) // 2
    middle = info.min + steps
    samples = np.array([info.min, middle, middle + steps // 2], dtype)
    assert scale(samples, "a").tolist() == [-1.0, 0.0, 0.5]


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, bool, complex])
def test_a_type_without_full_scale_is_refused(dtype):
    with pytest.raises(ValueError, match=f"a: .*{np.dtype(dtype)} have no full scale"):
        scale(np.zeros(4, dtype), "a")
    with pytest.raises(ValueError, match=r"a: shape \(4, 2\), expected mono"):
        scale(np.zeros((4, 2)), "a")
