"""What is left of a clip, to listen to: log-mel features turned back into sound."""

import base64
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.recipe.report.blocks import Sound, Sounds, rate_name
from emoq_plugin.recipe.report.content import Content
from emoq_plugin.recipe.report.files import UNITS, Leftovers
from emoq_plugin.routing.systems import display_name
from emoq_plugin.speech.encoders.fbank import INT16_SCALE, SAMPLE_RATE

if TYPE_CHECKING:
    from torch import Tensor

    from emoq_plugin.speech.store import FeatureStore

# All sounds of a page together, as base64; a FLAC of speech takes about 20 kB/s.
MAX_BYTES = 4_000_000
LONGEST_SECONDS = 4.0
GOOD_SECONDS = 2.5
N_RATES = 3
# Griffin and Lim's phases need frames that overlap more than those of the features.
HOP_SAMPLES = 80
N_UPDATES = 30
TINY = 1e-20
PREEMPHASIS = 0.97  # of Kaldi's filter bank
LOG_FLOOR = -15.9424  # log of float32's epsilon, Kaldi's floor


def waveform(log_mel: np.ndarray, settings: Mapping[str, float]) -> np.ndarray:
    """Turn Kaldi's log-mel energies into a wave.

    Band energies are spread over frequencies (non-negative least squares by Lee and
    Seung's multiplicative updates: NeurIPS 2000), frames are interpolated in time,
    phases come from Griffin and Lim's iteration (librosa).
    The result is a sketch: the features hold no phase and little of the pitch.

    Parameters
    ----------
    log_mel : (T, D) float array
        As `features.fbank.Fbank` gives it.
    settings : mapping
        Of its card: `num_mel_bins`, `frame_length` and `frame_shift` in ms.

    Returns
    -------
    wave : (N,) float32 array
        At 16 kHz, full scale is 1.
    """
    import librosa
    from scipy.signal import lfilter
    from torchaudio.compliance.kaldi import get_mel_banks

    length = int(SAMPLE_RATE * settings["frame_length"] / 1000)
    shift = int(SAMPLE_RATE * settings["frame_shift"] / 1000)
    n_fft = 1 << (length - 1).bit_length()
    banks, _ = get_mel_banks(
        int(settings["num_mel_bins"]), n_fft, SAMPLE_RATE, 20.0, 0.0, 100.0, -500.0, 1.0
    )
    banks = np.pad(banks.numpy(), ((0, 0), (0, 1)))  # (D, n_fft / 2 + 1)
    places = np.arange(0, shift * (len(log_mel) - 1) + 1, HOP_SAMPLES) / shift
    steps = np.arange(len(log_mel))
    fine = np.stack([np.interp(places, steps, band) for band in log_mel.T])
    power = _spread(np.exp(np.maximum(fine, LOG_FLOOR)), banks)
    wave = librosa.griffinlim(
        np.sqrt(power),
        n_iter=32,
        hop_length=HOP_SAMPLES,
        win_length=length,
        n_fft=n_fft,
        window=np.hanning(length) ** 0.85,  # Kaldi's "povey" window
        rng=0,
    )
    return (lfilter([1.0], [1.0, -PREEMPHASIS], wave) / INT16_SCALE).astype(np.float32)


def _spread(energies: np.ndarray, banks: np.ndarray) -> np.ndarray:
    """Solve ``banks @ power = energies``: (D, T) and (D, F) to (F, T), nothing below 0.

    Starts from a flat spectrum inside each band; frequencies outside all bands stay 0.
    """
    power = banks.T @ (energies / banks.sum(axis=1, keepdims=True))
    for _ in range(N_UPDATES):
        power *= (banks.T @ energies) / np.maximum(banks.T @ (banks @ power), TINY)
    return power


def sound(label: str, wave: np.ndarray) -> Sound:
    """Pack a wave at 16 kHz as a FLAC data URI."""
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, wave, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    code = base64.b64encode(stream.getvalue()).decode("ascii")
    return Sound(label, f"data:audio/flac;base64,{code}")


def clips_to_hear(content: Content) -> tuple[list[Sounds], str]:
    """Return one test clip of each emotion at several rates, or say why there is none.

    Returns
    -------
    clips : list of Sounds
    missing : str
        Empty when there are clips.
    """
    files = Leftovers(content.path)
    if not files.folds:
        return [], "units were not found beside the scores: run stages 4 to 6 here"
    for units, fold in files.folds:
        tested = files.tested(fold)
        cells = _chosen_cells(content, units)
        if not tested or not cells:
            continue
        try:
            clips = _clips(files, cells, tested, content)
        except (FileNotFoundError, ValueError) as error:
            logging.warning("no sounds: %s", error)
            return [], "units or features could not be read, see the log"
        if clips:
            return clips, ""
    return [], "no fold has units with log-mel features and test predictions"


def _chosen_cells(content: Content, units: Path) -> list[Path]:
    """Choose the lowest, a middle and the highest rate, balanced and Emo-Q."""
    bits: dict[str, float] = {}
    for experiment in content.experiments:
        bits |= experiment.rates
    there = [r for r in bits if list(units.glob(f"{r}/*/{UNITS}"))]
    there.sort(key=lambda rate: (bits[rate], rate))
    some = np.unique(np.linspace(0, len(there) - 1, N_RATES).round().astype(int))
    names = [there[n] for n in some] if there else []
    cells = [
        units / r / system
        for r in names
        for system in (BALANCED, content.headline_system)
    ]
    return [cell for cell in cells if (cell / UNITS).exists()]


def _clips(
    files: Leftovers, cells: list[Path], tested: list[str], content: Content
) -> list[Sounds]:
    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.speech.store import FeatureStore
    from emoq_plugin.units.store import UnitStore

    stores = [UnitStore(cell) for cell in cells]
    banks = {
        path: CodebookBank.from_pretrained(path)
        for path in {_bank_of(store) for store in stores}
    }
    wanted = next(iter(banks.values())).card["feature_fingerprint"]
    features = None
    for path in sorted(files.dump.glob("*/*/feature.json")):
        store = FeatureStore(path.parent)
        if store.card.fingerprint() == wanted and tested[0] in store:
            features = store
    if features is None or features.card.encoder != "fbank":
        return []
    chosen = _one_of_each(files, features, tested, content.emotions)
    speaker = files.table("utt2spk", tested[0])
    made, size = [], 0
    for emotion, utterance in chosen.items():
        mean = _speaker_mean(features, speaker, utterance, banks)
        versions = [
            (f"{display_name(s.card['system'])}, {rate_name(s.card['rate'])}", s, mean)
            for s in stores
        ]
        clip = Sounds(
            f"{emotion} ({utterance})",
            list(_versions(features, utterance, versions, banks)),
        )
        size += sum(len(one.source) for one in clip.sounds)
        if size > MAX_BYTES:
            logging.info("sounds of %s left out: the page would be too large", emotion)
            break
        made.append(clip)
    return made


def _bank_of(store: Any) -> Path:
    return (store.directory / store.card["quantizer"]).resolve()


def _one_of_each(
    files: Leftovers,
    features: "FeatureStore",
    tested: list[str],
    emotions: list[str],
) -> dict[str, str]:
    """Choose for each emotion the test clip of the handiest length."""
    emotion = files.table("utt2emo", tested[0])
    rate = features.card.frame_rate_hz

    def awkward(utterance: str) -> tuple[float, str]:
        return abs(features.lengths[utterance] / rate - GOOD_SECONDS), utterance

    chosen = {}
    for name in emotions:
        clips = [u for u in tested if emotion.get(u) == name and u in features.lengths]
        if clips:
            chosen[name] = min(clips, key=awkward)
    return chosen


def _speaker_mean(
    features: "FeatureStore", speaker: dict, utterance: str, banks: Mapping
) -> "Tensor | None":
    from emoq_plugin.learning.fit_bank import speaker_means

    if all(bank.normalization.kind != "speaker" for bank in banks.values()):
        return None
    own = [u for u in features if speaker.get(u) == speaker[utterance]]
    return speaker_means({u: features[u] for u in own}, speaker)[speaker[utterance]]


def _versions(
    features: "FeatureStore", utterance: str, versions: list, banks: Mapping
) -> Iterator[Sound]:
    import torch

    from emoq_plugin.core.batch_encoding import decode_route

    settings = features.card.settings
    n_frames = int(LONGEST_SECONDS * features.card.frame_rate_hz)
    frames = torch.from_numpy(features[utterance])
    whole = waveform(frames[:n_frames].numpy(), settings)
    gain = 0.9 / max(float(np.abs(whole).max()), 1e-9)
    yield sound("continuous features", gain * whole)
    for label, store, speaker_mean in versions:
        bank = banks[_bank_of(store)]
        codes = torch.from_numpy(store[utterance].astype(np.int64))
        decoded = decode_route(bank, codes, store.routes[utterance])
        # The offset is not transmitted; here it is put back to make the clip audible.
        offset = bank.normalization.offset(frames, speaker_mean)
        log_mel = bank.normalization.inverse(decoded) + offset
        wave = waveform(log_mel[:n_frames].numpy(), settings)
        yield sound(label, np.clip(gain * wave, -1, 1))
