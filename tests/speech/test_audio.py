"""Every unusable recording is refused by name; what is read is what was written."""

import numpy as np
import pytest
import soundfile

from emoq_plugin.speech.audio import fits_as_it_is, read_audio, resample

RATE = 16000


@pytest.fixture
def wav(tmp_path):
    def write(samples, rate=RATE, name="a b.wav", **how):
        path = str(tmp_path / name)
        soundfile.write(path, samples, rate, **how)
        return path

    return write


def noise(n=8000, channels=None, seed=0):
    shape = n if channels is None else (n, channels)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def test_float_audio_is_read_back_exactly(wav):
    samples = noise()
    read, rate = read_audio(wav(samples, subtype="FLOAT"), sample_rate=RATE)
    assert rate == RATE and read.dtype == np.float32
    np.testing.assert_array_equal(read, samples)


def test_a_segment_is_the_same_part_of_the_whole(wav):
    samples = noise()
    path = wav(samples, subtype="FLOAT")
    read, _ = read_audio(path, segment=(0.1, 0.3))
    np.testing.assert_array_equal(read, samples[1600:4800])


def test_a_small_overshoot_of_a_segment_is_cut_and_a_large_one_refused(wav):
    path = wav(noise())
    assert len(read_audio(path, segment=(0.1, 0.9))[0]) == 6400
    with pytest.raises(ValueError, match=r"1\.1 s, but the audio lasts 0\.500 s"):
        read_audio(path, segment=(0.1, 1.1))
    with pytest.raises(ValueError, match="0 <= start < end"):
        read_audio(path, segment=(0.3, 0.1))


@pytest.mark.parametrize(
    "samples, message",
    [
        (np.zeros(0, np.float32), "empty audio"),
        (np.zeros(800, np.float32), "silent audio"),
        (np.full(800, 0.25, np.float32), "silent audio"),
        (np.r_[noise(10), np.nan, np.inf].astype(np.float32), "2 of 12 samples.*10"),
    ],
)
def test_unusable_samples_are_refused_by_name(wav, samples, message):
    with pytest.raises(ValueError, match=f"a b.wav: {message}"):
        read_audio(wav(samples, subtype="FLOAT"))


def test_another_rate_is_refused_with_both_rates(wav):
    with pytest.raises(ValueError, match="a b.wav: 8000 Hz, expected 16000 Hz"):
        read_audio(wav(noise(), 8000), sample_rate=RATE)


def test_stereo_is_refused_unless_a_channel_rule_is_chosen(wav):
    samples = noise(channels=2)
    path = wav(samples, subtype="FLOAT")
    with pytest.raises(ValueError, match="2 channels, expected one"):
        read_audio(path)
    first, _ = read_audio(path, multi_channel="first")
    mean, _ = read_audio(path, multi_channel="mean")
    np.testing.assert_array_equal(first, samples[:, 0])
    np.testing.assert_allclose(mean, samples.mean(axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match="multi_channel 'left'"):
        read_audio(path, multi_channel="left")


def test_a_missing_and_a_garbled_file_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.wav: audio file is missing"):
        read_audio(str(tmp_path / "gone.wav"))
    garbled = tmp_path / "garbled.wav"
    garbled.write_bytes(b"no audio at all")
    with pytest.raises(ValueError, match="garbled.wav: unreadable audio"):
        read_audio(str(garbled))


def test_a_command_runs_only_when_allowed(wav, tmp_path):
    samples, witness = noise(), tmp_path / "witness"
    command = f"touch {witness}; cat '{wav(samples, subtype='FLOAT')}' |"
    with pytest.raises(ValueError, match="refused"):
        read_audio(command)
    assert not witness.exists()
    np.testing.assert_array_equal(read_audio(command, allow_pipe=True)[0], samples)


def test_a_failing_command_shows_its_status_and_message():
    with pytest.raises(ValueError, match="exit status 3: broken"):
        read_audio("echo broken >&2; exit 3 |", allow_pipe=True)


def test_resampling_keeps_duration_and_a_tone():
    time = np.arange(44100) / 44100
    samples = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    out = resample(samples, 44100, RATE)
    assert len(out) == RATE and np.abs(out).max() <= 1.0
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(out[1000:-1000], expected[1000:-1000], atol=1e-3)
    assert resample(samples, RATE, RATE) is samples


def test_only_lossless_mono_audio_at_the_rate_fits_as_it_is(wav):
    assert fits_as_it_is(wav(noise()), RATE)
    assert fits_as_it_is(wav(noise(), name="a.flac"), RATE)
    assert not fits_as_it_is(wav(noise(), 8000), RATE)
    assert not fits_as_it_is(wav(noise(channels=2)), RATE)
    assert not fits_as_it_is(wav(noise(), subtype="FLOAT"), RATE)
    assert not fits_as_it_is(wav(noise(), name="a.ogg"), RATE)
    assert not fits_as_it_is("cat a.wav |", RATE)
