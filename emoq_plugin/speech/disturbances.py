"""What recordings go through that leaves words and emotion as they are."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import soundfile

from emoq_plugin.speech.audio import resample

NOISE_DB = 20.0  # signal to noise
SPEED = 1.03
TELEPHONE_RATE = 8000  # Hz, so a band of 4 kHz
MP3_KBIT = 64
# By rate from which they hold: least and most kbit/s, where libsndfile interpolates.
MP3_RATES = {32000: (32, 320), 16000: (8, 160), 0: (8, 64)}


@dataclass(frozen=True)
class Disturbance:
    """A change of a recording.

    Attributes
    ----------
    change : callable
        Of samples, (N,) float32, their rate and a random generator.
    speed : float, default=1.0
        How much faster time passes in what it gives.
    """

    change: Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
    speed: float = 1.0


def add_noise(
    samples: np.ndarray, rate: int, random: np.random.Generator
) -> np.ndarray:
    """Add white noise, 20 dB below the mean power of the recording."""
    power = np.mean(np.square(samples, dtype=np.float64)) / 10 ** (NOISE_DB / 10)
    noise = random.standard_normal(len(samples)) * np.sqrt(power)
    return (samples + noise).astype(np.float32)


def change_speed(
    samples: np.ndarray, rate: int, random: np.random.Generator
) -> np.ndarray:
    """Play 3 % faster, pitch and all."""
    return resample(samples, round(1000 * SPEED), 1000)


def narrow(samples: np.ndarray, rate: int, random: np.random.Generator) -> np.ndarray:
    """Keep what a sampling rate of 8 kHz keeps."""
    there = resample(samples, rate, TELEPHONE_RATE)
    return resample(there, TELEPHONE_RATE, rate)[: len(samples)]


def as_mp3(samples: np.ndarray, rate: int, random: np.random.Generator) -> np.ndarray:
    """Write as MP3 of 64 kbit/s and read again."""
    least, most = next(r for start, r in MP3_RATES.items() if rate >= start)
    memory = io.BytesIO()
    soundfile.write(
        memory,
        samples,
        rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=(most - MP3_KBIT) / (most - least),
    )
    memory.seek(0)
    return soundfile.read(memory, dtype="float32")[0]


DISTURBANCES: Mapping[str, Disturbance] = {
    "noise at 20 dB": Disturbance(add_noise),
    "speed 1.03": Disturbance(change_speed, SPEED),
    "8 kHz": Disturbance(narrow),
    "MP3, 64 kbit/s": Disturbance(as_mp3),
}
