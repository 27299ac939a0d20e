"""Voice quality and level, which espeak-ng cannot set, and their measurement."""

import warnings
from dataclasses import dataclass

import numpy as np
import soxr

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pyworld asks for pkg_resources, out of date
    import pyworld

SAMPLE_RATE = 16000
ACOUSTICS = ("pitch", "pitch_range", "tempo", "level", "tilt")
_FRAME = 400  # samples, 25 ms
_PERIOD = 10.0  # ms from one WORLD frame to the next: half the work of its default
_ACTIVE_DB = 35.0  # frames more than this below the loudest one are pauses


@dataclass(frozen=True)
class Expression:
    """How one clip departs from the speaker's neutral voice.

    Parameters
    ----------
    pitch : float, semitones
    pitch_range, tempo : float, octaves
        log2 of the factor on the range of F0 and on the speech rate.
    level : float, dB
    tilt : float, dB per octave
        Positive makes the spectrum flatter (pressed, loud voice).
    breath : float, 0 to 1
        Share of the periodic part given to noise, towards high frequencies.
    jitter : float
        Standard deviation of log F0 from frame to frame.
    formants : float, octaves
        log2 of the factor on the formant frequencies (spread lips raise them).
    """

    pitch: float = 0.0
    pitch_range: float = 0.0
    tempo: float = 0.0
    level: float = 0.0
    tilt: float = 0.0
    breath: float = 0.0
    jitter: float = 0.0
    formants: float = 0.0


def _pitch_track(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    f0, times = pyworld.dio(
        wave, SAMPLE_RATE, f0_floor=60.0, f0_ceil=700.0, frame_period=_PERIOD
    )
    return pyworld.stonemask(wave, f0, times, SAMPLE_RATE), times


def _frames(wave: np.ndarray) -> np.ndarray:
    count = len(wave) // _FRAME
    return wave[: count * _FRAME].reshape(count, _FRAME)  # (T, _FRAME)


def _active(wave: np.ndarray) -> np.ndarray:
    level = 10 * np.log10(np.mean(_frames(wave) ** 2, axis=1) + 1e-12)
    return level > level.max() - _ACTIVE_DB


def _reshape_envelope(envelope: np.ndarray, expression: Expression) -> np.ndarray:
    bins = envelope.shape[1]
    hertz = np.arange(bins) * SAMPLE_RATE / (2 * (bins - 1))
    position = np.minimum(np.arange(bins) / 2**expression.formants, bins - 1)
    low = np.minimum(position.astype(int), bins - 2)
    share = position - low
    moved = (1 - share) * envelope[:, low] + share * envelope[:, low + 1]
    octaves = np.log2(np.clip(hertz, 200.0, 6000.0) / 1000.0)
    return np.ascontiguousarray(moved * 10 ** (expression.tilt * octaves / 10))


def express(
    wave: np.ndarray,
    expression: Expression,
    rng: np.random.Generator,
    *,
    sample_rate: int,
    level: float,
    noise_level: float,
) -> np.ndarray:
    """Return a clip its voice quality, level and room.

    Analysis and synthesis are WORLD's (Morise, Yokomori and Ozawa, IEICE Trans. Inf.
    Syst. E99-D, 2016). Pitch, range and tempo of `expression` are not applied here:
    espeak-ng has done it.

    Parameters
    ----------
    wave : (N,) float64 array
        At `sample_rate`.
    expression : Expression
    rng : numpy.random.Generator
        Draws the jitter, the pauses at both ends and the room noise.
    sample_rate : int, Hz
    level : float, dB re full scale
        Active speech level of this speaker's neutral voice.
    noise_level : float, dB re full scale

    Returns
    -------
    (M,) int16 array
        16 kHz.
    """
    wave = soxr.resample(wave, sample_rate, SAMPLE_RATE)
    spoken = np.flatnonzero(_active(wave))
    wave = wave[spoken[0] * _FRAME : (spoken[-1] + 1) * _FRAME]

    f0, times = _pitch_track(wave)
    envelope = pyworld.cheaptrick(wave, f0, times, SAMPLE_RATE)  # (T, 513)
    aperiodicity = pyworld.d4c(wave, f0, times, SAMPLE_RATE)
    f0 = f0 * np.exp(expression.jitter * rng.standard_normal(len(f0)))
    slope = np.linspace(0.3, 1.0, envelope.shape[1])
    aperiodicity = aperiodicity ** (1 - np.clip(expression.breath, 0, 1) * slope)
    envelope = _reshape_envelope(envelope, expression)
    wave = pyworld.synthesize(f0, envelope, aperiodicity, SAMPLE_RATE, _PERIOD)

    spoken_power = np.mean(_frames(wave)[_active(wave)] ** 2)
    wave = wave * 10 ** ((level + expression.level) / 20) / np.sqrt(spoken_power)
    wave = np.pad(wave, tuple(rng.integers(800, 2400, size=2)))  # 0.05 to 0.15 s
    wave = wave + 10 ** (noise_level / 20) * rng.standard_normal(len(wave))
    return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)


def measure(samples: np.ndarray, *, syllables: int) -> np.ndarray:
    """Measure what a listener could use, from the finished audio.

    Parameters
    ----------
    samples : (N,) int16 array
        16 kHz.
    syllables : int
        Number of syllables in the sentence.

    Returns
    -------
    (5,) float64 array
        In the order of `ACOUSTICS`: mean of F0 (semitones re 1 Hz), log2 of the
        standard deviation of F0 in semitones, log2 of the syllables per second of
        speech, active speech level (dB re full scale), slope of the long-term average
        spectrum from 300 Hz to 5 kHz (dB per octave).
    """
    wave = samples / 32768.0
    f0, _ = _pitch_track(wave)
    semitones = 12 * np.log2(f0[f0 > 0])
    active = _active(wave)
    speech = _frames(wave)[active]
    power = np.mean(np.abs(np.fft.rfft(speech * np.hanning(_FRAME))) ** 2, axis=0)
    hertz = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)
    band = (hertz >= 300) & (hertz <= 5000)
    octaves = np.log2(hertz[band])
    octaves = octaves - octaves.mean()
    tilt = np.sum(octaves * 10 * np.log10(power[band])) / np.sum(octaves**2)
    return np.array(
        [
            semitones.mean(),
            np.log2(semitones.std()),
            np.log2(syllables * SAMPLE_RATE / (active.sum() * _FRAME)),
            10 * np.log10(np.mean(speech**2)),
            tilt,
        ]
    )
