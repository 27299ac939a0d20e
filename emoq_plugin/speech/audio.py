"""Reading audio: mono float32 samples, every unusable recording refused by name."""

import logging
import math
from io import BytesIO
from os.path import isfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from emoq_plugin.files import atomic_write
from emoq_plugin.speech.completeness import what_is_missing
from emoq_plugin.speech.mp3 import count_frames
from emoq_plugin.speech.pipes import is_pipe, run_pipe

# -80 dB of full scale, three steps of 16-bit audio: only digital silence is below.
SILENCE_PEAK = 1e-4
# Kaldi's extract-segments forgives as much (--max-overshoot).
MAX_OVERSHOOT_SECONDS = 0.5
# Samples of all channels (2 GiB of float32) that are read at a time: a file of some
# bytes may claim, and a compressed one may hold, more than memory does.
MAX_VALUES = 2**29
MIN_RATE = 1000  # Hz; resampling makes what is slower grow without bound
MULTI_CHANNEL = ("error", "first", "mean")
# A filter overshoots a step by 9 % (Gibbs), resampled speech at full scale by no more.
MAX_PEAK = 1.1
# Subtypes whose values nothing bounds; decoders of MP3 and Ogg overshoot too, but from
# recordings within full scale.
FLOATS = ("FLOAT", "DOUBLE")


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
        Within -1 .. 1.
    rate : int, Hz

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the audio is unreadable, truncated, empty, silent, not finite, out of range,
        too long for memory, at another rate, has several channels, or is shorter than
        the segment; or if a command fails or writes an error. The entry is named.
    """
    recording = Recording(entry, allow_pipe=allow_pipe)
    return recording.read(segment, sample_rate=sample_rate, multi_channel=multi_channel)


class Recording:
    """An entry of wav.scp, read in parts; a command runs once, for the first of them.

    Parameters
    ----------
    entry : str
        Path of an audio file (spaces allowed) or, with `allow_pipe`, a command that
        ends in `|` and writes audio to its standard output.
    allow_pipe : bool, default=False
        Run commands; they are refused otherwise, as a data directory may be foreign.
    """

    def __init__(self, entry: str, *, allow_pipe: bool = False):
        self.entry = entry
        self._allow_pipe = allow_pipe
        self._loaded: tuple[str | bytes, str] | None = None
        self._failure: Exception | None = None

    def read(
        self,
        segment: tuple[float, float] | None = None,
        *,
        sample_rate: int | None = None,
        multi_channel: str = "error",
    ) -> tuple[np.ndarray, int]:
        """Read all or a part; see `read_audio`."""
        if multi_channel not in MULTI_CHANNEL:
            raise ValueError(
                f"multi_channel '{multi_channel}', expected one of {MULTI_CHANNEL}"
            )
        entry = self.entry
        try:
            samples, rate, subtype = self._samples(segment)
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless
            raise ValueError(f"{entry}: unreadable audio: {error}") from error
        if sample_rate is not None and rate != sample_rate:
            raise ValueError(
                f"{entry}: {rate} Hz, expected {sample_rate} Hz: resample it (stage 2)"
            )
        if samples.shape[1] > 1 and multi_channel == "error":
            raise ValueError(
                f"{entry}: {samples.shape[1]} channels, expected one: "
                "choose --multi_channel first or mean in stage 2"
            )
        mono = samples.mean(axis=1) if multi_channel == "mean" else samples[:, 0]
        check_samples(mono, entry)
        if subtype in FLOATS:
            check_range(mono, MAX_PEAK, entry)
        logging.debug("read %s: %.3f s at %d Hz", entry, len(mono) / rate, rate)
        return np.ascontiguousarray(np.clip(mono, -1.0, 1.0), dtype=np.float32), rate

    def _samples(
        self, segment: tuple[float, float] | None
    ) -> tuple[np.ndarray, int, str]:
        """Decode a part: (N, channels) float32, Hz, libsndfile's subtype."""
        entry = self.entry
        source, fault = self._load()
        with _open(source) as stream:
            rate, channels = stream.samplerate, stream.channels
            if rate < MIN_RATE:
                raise ValueError(f"{entry}: {rate} Hz, expected at least {MIN_RATE}")
            # A part that a cut file still holds is whole.
            if fault and (segment is None or segment[1] * rate > stream.frames):
                raise ValueError(
                    f"{entry}: truncated audio or a wrong header: {fault}, "
                    f"{stream.frames / rate:.3f} s: copy or convert it again"
                )
            start, stop = _frames(entry, segment, rate, stream.frames)
            if (stop - start) * channels > MAX_VALUES:
                raise ValueError(
                    f"{entry}: {stop - start} samples of {channels} channel(s), at "
                    f"most {MAX_VALUES} are read at a time: cut it, or use segments"
                )
            stream.seek(start)
            samples = stream.read(stop - start, dtype="float32", always_2d=True)
            subtype = stream.subtype
        if len(samples) + MAX_OVERSHOOT_SECONDS * rate < stop - start:
            raise ValueError(
                f"{entry}: truncated audio, ends after {len(samples)} of "
                f"{stop - start} samples: copy it again"
            )
        return samples, rate, subtype

    def _load(self) -> tuple[str | bytes, str]:
        """Return path or content, and what is missing in it; once for all parts."""
        if self._failure is not None:
            raise self._failure
        if self._loaded is None:
            try:
                self._loaded = _complete(_fetch(self.entry, self._allow_pipe))
            except Exception as failure:
                self._failure = failure
                raise
        return self._loaded


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


def check_range(samples: np.ndarray, limit: float, where: str) -> None:
    """Refuse samples that no gain explains, such as 16-bit numbers.

    Parameters
    ----------
    samples : (N,) float array
    limit : float
        Full scale is 1.
    where : str
        Name for the message.

    Raises
    ------
    ValueError
        If one is larger.
    """
    peak = float(np.abs(samples).max(initial=0))
    if peak > limit:
        raise ValueError(
            f"{where}: values up to {peak:.6g}, expected -1 .. 1: divide 16-bit "
            "numbers by 32768, others by their full scale"
        )


def scale(samples: np.ndarray, where: str) -> np.ndarray:
    """Bring samples to float32 of full scale 1, by what their type says.

    Parameters
    ----------
    samples : (N,) array
        int8, int16, int32 and uint8 (128 is zero) have the full scale of the type.
    where : str
        Name for the message.

    Returns
    -------
    (N,) float32 array

    Raises
    ------
    ValueError
        For another shape, or a type without a full scale.

    Examples
    --------
    >>> scale(np.array([-32768, 16384], np.int16), "a").tolist()
    [-1.0, 0.5]
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"{where}: shape {samples.shape}, expected mono (N,)")
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i" and samples.dtype.itemsize <= 4:
        full = -float(np.iinfo(samples.dtype).min)
        return (samples / full).astype(np.float32)
    raise ValueError(
        f"{where}: samples of type {samples.dtype} have no full scale: give float in "
        "-1 .. 1, int16, int32 or uint8"
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


def write_audio(
    path: str | Path, samples: np.ndarray, rate: int, *, comment: str = ""
) -> None:
    """Write 16-bit audio, atomically; the suffix gives the format.

    Parameters
    ----------
    path : str or Path
        Ends in `.flac` or `.wav`.
    samples : (N,) float array
    rate : int, Hz
    comment : str, optional
        Kept in the file.
    """
    memory = BytesIO()  # libsndfile does not pass on that a disk is full
    form = Path(path).suffix[1:].upper()
    with soundfile.SoundFile(
        memory, "w", rate, channels=1, format=form, subtype="PCM_16"
    ) as sound:
        if comment:
            sound.comment = comment
        sound.write(samples)
    with atomic_write(path, "wb") as stream:
        stream.write(memory.getbuffer())


def fits_as_it_is(entry: str, sample_rate: int) -> bool:
    """Return whether a file is lossless mono audio at `sample_rate` already."""
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


def _fetch(entry: str, allow_pipe: bool) -> str | bytes:
    """Return the path of an entry, or what its command writes."""
    if not is_pipe(entry):
        if not isfile(entry):
            raise FileNotFoundError(f"{entry}: audio file is missing")
        return entry
    if not allow_pipe:
        raise ValueError(
            f"{entry}: a command in wav.scp, refused: "
            "allow it with --allow_pipe true if you trust this data directory"
        )
    return run_pipe(entry)


def _open(source: str | bytes) -> soundfile.SoundFile:
    return soundfile.SoundFile(source if isinstance(source, str) else BytesIO(source))


def _complete(source: str | bytes) -> tuple[str | bytes, str]:
    """Return the source with a right header, where that helps, and what is missing."""
    with _open(source) as stream:
        if stream.format != "MP3":
            return source, what_is_missing(stream, source)
    if isinstance(source, str):
        source = Path(source).read_bytes()
    return count_frames(source)


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
