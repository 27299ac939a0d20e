"""Speech of a narrow band is recognised, and reported wherever it is used."""

import logging

import numpy as np
import pytest
import soxr

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.recipe.stages.format_data import FormatDataOptions, format_recording
from emoq_plugin.speech.band import band_note, band_of

RATE = 16000


def speech(rate=RATE, seconds=1.0, seed=0):
    """Noise whose spectrum falls as that of speech does, 9 dB an octave."""
    random = np.random.default_rng(seed)
    spectrum = np.fft.rfft(random.normal(size=round(seconds * rate)))
    hertz = np.fft.rfftfreq(round(seconds * rate), 1 / rate)
    samples = np.fft.irfft(spectrum * (np.maximum(hertz, 100) / 100) ** -1.5)
    return samples / np.abs(samples).max() / 2


def telephone(rate):
    """Speech that went through 8 kHz, in 16-bit steps at another rate."""
    narrow = soxr.resample(speech(48000), 48000, 8000)
    return np.rint(soxr.resample(narrow, 8000, rate) * 32767) / 32768


@pytest.mark.parametrize("rate", [11025, 16000, 22050, 44100, 48000])
def test_8_khz_speech_is_known_at_any_rate_and_wide_speech_is_not_taken_for_it(rate):
    assert band_of(telephone(rate), rate, RATE) == 4000
    for seed in range(5):
        wide = speech(rate, 0.3, seed)
        assert band_of(wide, rate, RATE) == min(rate, RATE) // 2
        # A quiet recording too: the steps of 16 bits are far below.
        quiet = np.rint(wide / 20 * 32767) / 32768
        assert band_of(quiet, rate, RATE) == min(rate, RATE) // 2


def test_the_band_ends_at_half_of_the_lower_rate():
    assert band_of(speech(8000), 8000, RATE) == 4000
    assert band_of(speech(12000), 12000, RATE) == 6000
    assert band_of(speech(48000), 48000, 8000) == 4000
    assert band_of(speech(RATE, 0.01), RATE, RATE) == 8000  # less than a window


def test_stage_2_notes_rates_and_bands_and_says_when_they_differ(
    corpus, stage2, caplog
):
    caplog.set_level(logging.INFO)
    for u in corpus.utterances:
        corpus.samples(u, speech())
    assert set(stage2().extra["utt2band"].values()) == {"8000"}
    assert "sampling rates" not in caplog.text and "band" not in caplog.text
    low, old, high, *_ = corpus.utterances
    corpus.samples(low, speech(8000), 8000)
    corpus.samples(old, telephone(RATE))
    corpus.samples(high, speech(48000), 48000)
    data = stage2()
    assert [data.extra["utt2rate"][u] for u in (low, old, high)] == [
        "8000", "16000", "48000",
    ]  # fmt: skip
    assert [data.extra["utt2band"][u] for u in (low, old, high)] == [
        "4000", "4000", "8000",
    ]  # fmt: skip
    assert "8000 Hz 1, 16000 Hz 6, 48000 Hz 1" in caplog.text
    assert "4000 Hz 2, 8000 Hz 6" in caplog.text


def test_a_file_of_an_interrupted_run_says_what_it_was_made_of(corpus):
    first, *_ = corpus.utterances
    corpus.samples(first, speech(44100), 44100)
    options = FormatDataOptions(
        data_dir=corpus.path,
        emotions=corpus.emotions_file,
        output_dir=corpus.root / "dump",
    )
    data = DataDirectory.read(corpus.path, corpus.emotions)
    made, again = (
        format_recording((first, [first]), data=data, options=options) for _ in range(2)
    )
    assert made == again and (made[0].rate, made[0].band) == (44100, 8000)


def test_rates_that_only_lie_above_are_reported_without_a_band():
    metadata = {
        "sampling_rates_hz": {"16000": 3, "44100": 2},
        "bands_hz": {"8000": 5},
    }
    assert band_note(metadata, RATE) == (
        "the recordings are of several sampling rates: 16000 Hz 3, 44100 Hz 2"
    )
    assert band_note({}, RATE) == ""
    # All of a corpus of telephone speech, also where nobody knows the features' rate.
    narrow = {"sampling_rates_hz": {"8000": 2}, "bands_hz": {"4000": 2}}
    assert "look up to 8000 Hz" in band_note(narrow, RATE)
    assert band_note(narrow, None) == ""
