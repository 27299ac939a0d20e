"""Reading audio: mono float32 samples, every unusable recording refused by name."""

import io
import math
import subprocess
from os.path import isfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from emoq_plugin.files import atomic_write

# -80 dB of full scale, three steps of 16-bit audio: only digital silence is below.
SILENCE_PEAK = 1e-4
# Kaldi's extract-segments forgives as much (--max-overshoot).
MAX_OVERSHOOT_SECONDS = 0.5
# Samples of all channels (2 GiB of float32) that are read at a time: a file of some
# bytes may claim, and a compressed one may hold, more than memory does.
MAX_VALUES = 2**29
MIN_RATE = 1000  # Hz; resampling makes what is slower grow without bound
MULTI_CHANNEL = ("error", "first", "mean")


def is_pipe(entry: str) -> bool:
    """Tell whether an entry of wav.scp is a command (`sph2pipe x.sph |`)."""
    return entry.rstrip().endswith("|")


def read_audio(
    entry: str,
    *,
    segment: tuple[float, float] | None = None,
    sample_rate: int | None = None,
    allow_pipe: bool = False,
    multi_channel: str = "error",
) -> tuple[np.ndarray, int]:
    """Read one entry of wav.scp.

    Parameters
    ----------
    entry : str
        Path of an audio file (spaces allowed) or, with `allow_pipe`, a command that
        ends in `|` and writes audio to its standard output.
    segment : (start, end), seconds, optional
        Part to read.
    sample_rate : int, Hz, optional
        The rate that is required. Nothing is resampled here, see `resample`.
    allow_pipe : bool, default=False
        Run commands; they are refused otherwise, as a data directory may be foreign.
    multi_channel : {"error", "first", "mean"}, default="error"
        What to do with more than one channel.

    Returns
    -------
    samples : (N,) float32 array
        Within -1 .. 1 for integer formats.
    rate : int, Hz

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the audio is unreadable, truncated, empty, silent, not finite, too long for
        memory, at another rate, has several channels, or is shorter than the segment;
        the entry is named.
    """
    if multi_channel not in MULTI_CHANNEL:
        raise ValueError(
            f"multi_channel '{multi_channel}', expected one of {MULTI_CHANNEL}"
        )
    try:
        with soundfile.SoundFile(_source(entry, allow_pipe)) as stream:
            rate, channels = stream.samplerate, stream.channels
            if rate < MIN_RATE:
                raise ValueError(f"{entry}: {rate} Hz, expected at least {MIN_RATE}")
            start, stop = _frames(entry, segment, rate, stream.frames)
            if (stop - start) * channels > MAX_VALUES:
                raise ValueError(
                    f"{entry}: {stop - start} samples of {channels} channel(s), at "
                    f"most {MAX_VALUES} are read at a time: cut it, or use segments"
                )
            stream.seek(start)
            samples = stream.read(stop - start, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless
        raise ValueError(f"{entry}: unreadable audio: {error}") from error
    if len(samples) + MAX_OVERSHOOT_SECONDS * rate < stop - start:
        raise ValueError(
            f"{entry}: truncated audio, ends after {len(samples)} of {stop - start} "
            "samples: copy it again"
        )
    if sample_rate is not None and rate != sample_rate:
        raise ValueError(
            f"{entry}: {rate} Hz, expected {sample_rate} Hz: resample it (stage 2)"
        )
    if channels > 1 and multi_channel == "error":
        raise ValueError(
            f"{entry}: {channels} channels, expected one: "
            "choose --multi_channel first or mean in stage 2"
        )
    mono = samples.mean(axis=1) if multi_channel == "mean" else samples[:, 0]
    check_samples(mono, entry)
    return np.ascontiguousarray(mono, dtype=np.float32), rate


def check_samples(samples: np.ndarray, where: str) -> None:
    """Refuse samples that are empty, not finite or silent.

    Parameters
    ----------
    samples : (N,) float array
    where : str
        Name for the message.

    Raises
    ------
    ValueError
        If they are.
    """
    if len(samples) == 0:
        raise ValueError(f"{where}: empty audio, expected at least one sample")
    finite = np.isfinite(samples)
    if not finite.all():
        raise ValueError(
            f"{where}: {np.count_nonzero(~finite)} of {len(samples)} samples are NaN "
            f"or infinite, the first is sample {int(np.argmin(finite))}"
        )
    # A constant offset is as silent as zeros.
    peak = float(np.ptp(samples)) / 2
    if peak < SILENCE_PEAK:
        raise ValueError(
            f"{where}: silent audio, peak {peak:.1e} of full scale, "
            f"expected at least {SILENCE_PEAK:.0e}"
        )


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Resample with soxr (quality HQ) and keep within -1 .. 1.

    Parameters
    ----------
    samples : (N,) float32 array
    rate, target : int, Hz

    Returns
    -------
    (M,) float32 array
        `samples` itself when the rates are equal.
    """
    if rate == target:
        return samples
    # The filter may overshoot where the recording was at full scale. In steps of 16
    # bits, as stage 2 stores it: the log of an empty band is that of these steps.
    steps = np.clip(soxr.resample(samples, rate, target), -1.0, 1.0) * 32767
    return (np.rint(steps) / 32768).astype(np.float32)


def write_audio(path: str | Path, samples: np.ndarray, rate: int) -> None:
    """Write 16-bit audio, atomically; the suffix tells the format.

    Parameters
    ----------
    path : str or Path
        Ends in `.flac` or `.wav`.
    samples : (N,) float array
    rate : int, Hz
    """
    memory = io.BytesIO()  # libsndfile does not pass on that a disk is full
    form = Path(path).suffix[1:].upper()
    soundfile.write(memory, samples, rate, format=form, subtype="PCM_16")
    with atomic_write(path, "wb") as stream:
        stream.write(memory.getbuffer())


def fits_as_it_is(entry: str, sample_rate: int) -> bool:
    """Tell whether a file is lossless mono audio at `sample_rate` already."""
    if is_pipe(entry):
        return False
    try:
        info = soundfile.info(entry)
    except (soundfile.SoundFileError, TypeError):
        return False
    return (
        info.samplerate == sample_rate
        and info.channels == 1
        and info.format in ("WAV", "WAVEX", "FLAC")
        and info.subtype.startswith("PCM")
    )


def _source(entry: str, allow_pipe: bool) -> str | io.BytesIO:
    if not is_pipe(entry):
        if not isfile(entry):
            raise FileNotFoundError(f"{entry}: audio file is missing")
        return entry
    if not allow_pipe:
        raise ValueError(
            f"{entry}: a command in wav.scp, refused: "
            "allow it with --allow_pipe true if you trust this data directory"
        )
    command = entry.rstrip()[:-1]
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip()
        raise ValueError(f"{entry}: exit status {done.returncode}: {message}")
    return io.BytesIO(done.stdout)


def _frames(
    entry: str, segment: tuple[float, float] | None, rate: int, frames: int
) -> tuple[int, int]:
    """Turn a segment in seconds into first and last + 1 frame of the file."""
    if segment is None:
        return 0, frames
    start, end = segment
    if not (0 <= start < end and math.isfinite(end)):
        raise ValueError(
            f"{entry}: segment {start} .. {end} s, expected 0 <= start < end"
        )
    seconds = frames / rate
    if start >= seconds or end > seconds + MAX_OVERSHOOT_SECONDS:
        raise ValueError(
            f"{entry}: segment {start} .. {end} s, but the audio lasts {seconds:.3f} s"
        )
    return round(start * rate), min(round(end * rate), frames)
