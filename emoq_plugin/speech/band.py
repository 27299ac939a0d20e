"""Up to which frequency recordings hold sound: narrower speech takes other codes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory

RATES, BANDS = "utt2rate", "utt2band"
TELEPHONE_HZ = 4000
# Resampling filters end at 1.1 times the band. Above it speech that was recorded with
# a wider one has -12 to -30 dB of its power, rounding to 16 bits less than -60 dB.
_EDGE = 1.1
_LEAST_SHARE = 10**-5.5
_WINDOW = 1024  # samples


def band_of(samples: np.ndarray, rate: int, sample_rate: int) -> int:
    """Return the frequency above which a recording has nothing.

    Speech of 8 kHz is recognised in a file of a higher rate too, where a filter with a
    steep edge made it; what was recorded or coded with another width is not.

    Parameters
    ----------
    samples : (N,) float array
        As recorded.
    rate : int, Hz
        Of the samples.
    sample_rate : int, Hz
        That they are resampled to.

    Returns
    -------
    int, Hz
    """
    top = min(rate, sample_rate) // 2
    if top <= _EDGE * TELEPHONE_HZ:
        return top
    padded = np.pad(samples - samples.mean(), (0, -len(samples) % _WINDOW))
    blocks = padded.reshape(-1, _WINDOW) * np.hanning(_WINDOW)
    power = (np.abs(np.fft.rfft(blocks)) ** 2).sum(axis=0)  # (_WINDOW / 2 + 1,)
    above = np.fft.rfftfreq(_WINDOW, 1 / rate) >= _EDGE * TELEPHONE_HZ
    return TELEPHONE_HZ if power[above].sum() < _LEAST_SHARE * power.sum() else top


def band_metadata(
    data: "DataDirectory",
    utterances: Iterable[str] | None = None,
    *,
    sample_rate: int | None,
) -> dict[str, Any]:
    """Count utterances by the rate they were recorded at and by their band.

    Parameters
    ----------
    data : DataDirectory
        Written by stage 2.
    utterances : iterable of str, optional
        All when left out.
    sample_rate : int, Hz, or None
        Of the features; None where unknown: twice the widest band.

    Returns
    -------
    dict
        `sampling_rates_hz` and `bands_hz`, counts by Hz, and `note` where a reader must
        know of them; empty where stage 2 did not write them.
    """
    chosen = list(data.utterances if utterances is None else utterances)
    if not {RATES, BANDS} <= set(data.extra):
        return {}
    metadata: dict[str, Any] = {
        name: dict(sorted(Counter(known[u] for u in chosen if u in known).items()))
        for name, known in (
            ("sampling_rates_hz", data.extra[RATES]),
            ("bands_hz", data.extra[BANDS]),
        )
    }
    note = band_note(metadata, sample_rate)
    return metadata | ({"note": note} if note else {})


def band_note(metadata: Mapping[str, Any], sample_rate: int | None) -> str:
    """Say that recordings are of several rates or of a narrow band.

    Parameters
    ----------
    metadata : mapping
        From `band_metadata`.
    sample_rate : int, Hz, or None
        Of the features; None where unknown: twice the widest band.

    Returns
    -------
    str
        Empty where all are of one rate and of the whole band.

    Examples
    --------
    >>> metadata = {"sampling_rates_hz": {"16000": 2}, "bands_hz": {"8000": 2}}
    >>> band_note(metadata, 16000)
    ''
    """
    rates, bands = metadata.get("sampling_rates_hz", {}), metadata.get("bands_hz", {})
    top = sample_rate // 2 if sample_rate else max(map(int, bands), default=0)
    notes = []
    if len(rates) > 1:
        notes.append(f"the recordings are of several sampling rates: {_counts(rates)}")
    if any(int(band) < top for band in bands):
        notes.append(
            f"the features look up to {top} Hz, but utterances by their highest "
            f"frequency are: {_counts(bands)}: the same speech in a narrower band "
            "takes other codes and other experts"
        )
    return "; ".join(notes)


def _counts(table: Mapping[str, int]) -> str:
    ordered = sorted(table.items(), key=lambda item: int(item[0]))
    return ", ".join(f"{hertz} Hz {count}" for hertz, count in ordered)
