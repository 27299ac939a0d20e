"""Golden clips: whether an encoder here gives the frames that a quantizer learned on.

A seeded clip is encoded where features are made and where they are used. The artifact
holds a digest of its samples, a summary of its features and its codes, so that what
differs has a name: the features, the weights, the layer, or only the arithmetic.
"""

import copy
import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch_encoding import batch_encoding
from emoq_plugin.core.golden import (
    SEED,
    TIES,
    codes_by_expert,
    draw,
    share_that_differs,
)
from emoq_plugin.devices import exact_float32
from emoq_plugin.speech.encoders.encoder import Encoder
from emoq_plugin.speech.encoders.layers import LayeredEncoder

GOLDEN_CLIP = "golden_clip"  # in the card of a bank
SECONDS, PITCH_HZ, FORMANT = 0.5, 120, 0.9
N_PROJECTIONS = 16
# Deviation of the features, as a part of their spread. Half precision stays below the
# first; the second is that of float32 on another machine.
OTHER_FEATURES, SAME_ARITHMETIC = 0.1, 1e-4


def golden_clip(sample_rate: int, seed: int = SEED) -> np.ndarray:
    """Return half a second that is voiced, then noise: (N,) int16."""
    n = round(SECONDS * sample_rate)
    source = 0.1 * draw(n, seed)
    voiced = np.arange(n // 2)
    source[: n // 2] += voiced % (sample_rate // PITCH_HZ) == 0
    samples, state = np.empty(n), 0.0
    for i, value in enumerate(source):
        state = FORMANT * state + value
        samples[i] = state
    return np.round(samples / np.abs(samples).max() * 2**13).astype(np.int16)


def _digest(clip: np.ndarray) -> str:
    return hashlib.sha256(clip.astype("<i2").tobytes()).hexdigest()


def golden_features(encoder: Encoder) -> np.ndarray:
    """Return the features of the golden clip, (T, D) float32."""
    [frames] = encoder([golden_clip(encoder.sample_rate)], utterances=["golden clip"])
    return frames


def _projections(features: np.ndarray) -> np.ndarray:
    """Sum the features with seeded signs: as far apart as the features themselves."""
    flat = features.astype(np.float64).ravel()
    # One drawn number gives the sign of a value in many sums, each shifted.
    signs = np.sign(draw(flat.size + N_PROJECTIONS))
    found = [signs[k : k + flat.size] @ flat for k in range(N_PROJECTIONS)]
    # Shifted signs hardly see what is added to every value: the mean does.
    mean = np.sqrt(N_PROJECTIONS) * flat.mean()
    return np.append(np.array(found) / np.sqrt(flat.size), mean)


def _codes(features: np.ndarray, bank: CodebookBank) -> dict[str, list[str]]:
    """Return the frame codes of each expert; the speaker is that of this one clip."""
    x = torch.from_numpy(features)[None].to(bank.normalization.mean.device)
    with exact_float32():
        left = batch_encoding(bank, x, speaker_mean=x.mean(dim=1)).left[0]
    return codes_by_expert(left, bank.by_expert())


def record(features: np.ndarray, bank: CodebookBank, sample_rate: int) -> dict:
    """Return what the card of a bank keeps of the golden clip.

    Parameters
    ----------
    features : (T, D) array
        See `golden_features`.
    bank : CodebookBank
    sample_rate : int
        Of the encoder.
    """
    return {
        "seed": SEED,
        "waveform_sha256": _digest(golden_clip(sample_rate)),
        "shape": list(features.shape),
        "spread": float(features.std(dtype=np.float64)),
        "projections": [float(f"{p:.9g}") for p in _projections(features)],
        "codes": _codes(features, bank),
    }


def keep_golden_clip(bank: CodebookBank, features: Any) -> None:
    """Let the card of a bank say what it makes of the golden clip.

    Parameters
    ----------
    bank : CodebookBank
    features : FeatureStore or EncodedOnTheFly
        What it was learned on; a store of before there were golden clips adds nothing.
    """
    if (golden := features.golden) is not None:
        rate = features.specification.sample_rate
        bank.card[GOLDEN_CLIP] = record(golden, bank, rate)


def deviation(features: np.ndarray, golden: Mapping[str, Any]) -> float:
    """Return how far features are from the maker's, as a part of their spread."""
    if list(features.shape) != golden["shape"]:
        return np.inf
    kept = np.array(golden["projections"])  # older ones lack the mean
    apart = _projections(features)[: len(kept)] - kept
    return float(np.sqrt(np.square(apart).mean()) / golden["spread"])


def check_golden_clip(
    bank: CodebookBank,
    encoder: Encoder | Callable[[np.ndarray], np.ndarray],
    *,
    sample_rate: int | None = None,
) -> None:
    """Compare features and codes of the golden clip with those of the maker.

    Parameters
    ----------
    bank : CodebookBank
        Without a golden clip in its card nothing is compared.
    encoder : Encoder or callable
        Or whatever makes features of its own: (N,) int16 samples to (T, D).
    sample_rate : int, optional
        Of such a callable, Hz.

    Raises
    ------
    ValueError
        If the features are others, with what differs. Features that differ by
        arithmetic alone are reported in the log where codes differ.
    """
    golden = bank.card.get(GOLDEN_CLIP)
    if not golden:
        return
    rate = encoder.sample_rate if isinstance(encoder, Encoder) else sample_rate
    if rate is None:
        raise ValueError("sample_rate is missing: the rate that the features are of")
    clip = golden_clip(rate, golden["seed"])
    if _digest(clip) != golden["waveform_sha256"]:
        raise ValueError(
            f"golden clip: at {rate} Hz its samples are not those of the maker: the "
            "features are of audio at another sampling rate, or made by another Emo-Q"
        )
    if isinstance(encoder, Encoder):
        [features] = encoder([clip], utterances=["golden clip"])
    else:
        features = np.asarray(encoder(clip), dtype=np.float32)
    apart = deviation(features, golden)
    if apart > OTHER_FEATURES:
        raise ValueError(f"golden clip: {_what_differs(encoder, clip, features, bank)}")
    codes = _codes(features, bank)
    share = share_that_differs(codes, golden["codes"])
    if share > TIES and apart <= SAME_ARITHMETIC:
        raise ValueError(
            f"golden clip: {100 * share:.0f} % of its codes are not the maker's, "
            "though its features are: the arithmetic of the quantizer differs, so "
            "its codebooks, torch or Emo-Q are others"
        )
    if share > 0 and apart > SAME_ARITHMETIC:
        logging.warning(
            "golden clip: features differ by %.2g of their spread and %.1f %% of the "
            "codes with them, through arithmetic alone (precision, device, versions "
            "of libraries): units made here are nearly those of the maker",
            *(apart, 100 * share),
        )


def _what_differs(
    encoder: Any, clip: np.ndarray, features: np.ndarray, bank: CodebookBank
) -> str:
    """Name the cause of other features, as far as it can be known."""
    golden, made = bank.card[GOLDEN_CLIP], bank.card.get("feature", {})
    if list(features.shape) != golden["shape"]:
        return (
            f"its features have shape {features.shape}, the maker's "
            f"{tuple(golden['shape'])} (frames, dimension): other features"
        )
    far = f"its features differ by {deviation(features, golden):.2g} of their spread"
    if not isinstance(encoder, LayeredEncoder):
        return f"{far}: other features than the quantizer was learned on, {made}"
    for layer in range(encoder.n_layers + 1):
        other = copy.copy(encoder)
        other.layers, other.layer_weights = [layer], None
        [frames] = other([clip], utterances=["golden clip"])
        if deviation(frames, golden) <= OTHER_FEATURES:
            return f"{far}: they are of layers {encoder.layers}, the maker's of {layer}"
    versions = encoder.specification.versions
    return (
        f"{far}, those of every other layer too: the weights are others, or are used "
        f"otherwise by {versions} than by {made.get('versions')}"
    )
