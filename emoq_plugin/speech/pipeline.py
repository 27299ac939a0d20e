"""Speech in, units out: a quantizer and the encoder of its feature specification."""

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

import emoq_plugin
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.speech.audio import (
    MAX_PEAK,
    check_range,
    check_samples,
    read_audio,
    resample,
    scale,
)
from emoq_plugin.speech.band import band_of
from emoq_plugin.speech.encoders.encoder import Encoder, FeatureSpecification
from emoq_plugin.speech.encoders.registry import build_encoder, encoder_class
from emoq_plugin.speech.golden import check_golden_clip
from emoq_plugin.units.clip_units import Units

BATCH_FILES = 16
# Speech that is played at 0.9 of its speed, as in training, has lost nothing.
NARROW = 0.85
# What a field of a feature specification is about, where it is not the features.
OTHERS = {"layers": "layer", "weights_sha256": "weights"}


def build_from_specification(
    feature: Mapping[str, Any], *, device: str = "cpu", model_dir: str | None = None
) -> Encoder:
    """Build the encoder that made the features of a quantizer.

    Parameters
    ----------
    feature : mapping
        Feature specification, from the card of the quantizer.
    device : str, default="cpu"
    model_dir : str, optional
        Local model directory instead of the model that is specified.

    Raises
    ------
    ValueError
        If there is none, or the encoder gives other frames than it says, for
        example because its weights are others.
    """
    if not feature:
        raise ValueError(
            "this quantizer has no feature specification, so nobody knows its encoder: "
            "give features instead of audio, or import it with --feature_specification"
        )
    if isinstance(feature, Mapping):
        feature = dict(feature)
    spec = FeatureSpecification.from_json(
        feature, "feature specification of the quantizer"
    )
    known = inspect.signature(encoder_class(spec.encoder)).parameters
    options = {k: v for k, v in spec.settings.items() if k in known}
    if "layers" in known:
        options["layers"] = spec.layers
    if "model" in known:
        options["model"] = spec.versions.get("model", "")
    encoder = build_encoder(spec.encoder, device=device, model_dir=model_dir, **options)
    if encoder.specification.fingerprint() != spec.fingerprint():
        found = encoder.specification.to_json()
        differ = "; ".join(
            f"other {OTHERS.get(key, 'features')}: {key} {found[key]} "
            f"instead of {value}"
            for key, value in spec.to_json().items()
            if key != "versions" and found[key] != value
        )
        raise ValueError(f"encoder '{spec.encoder}' is not the one specified: {differ}")
    return encoder


Audio = str | Path | tuple[np.ndarray, int]


class SpeechToUnits:
    """Encoder and quantizer together.

    Parameters
    ----------
    quantizer : RoutedQuantizer
        With a feature specification in its card; moved to the device.
    device : str, default="cpu"
        torch device of both.
    model_dir : str, optional
        Local directory of the encoder's model.
    check : bool, default=True
        Whether features and codes of the golden clip are compared with those of the
        maker of the quantizer, see `speech.golden`.

    Attributes
    ----------
    encoder : Encoder
    quantizer : RoutedQuantizer

    Examples
    --------
    >>> from emoq_plugin.core import CodebookBank, Normalization
    >>> feature = build_encoder("fbank", num_mel_bins=12).specification.to_json()
    >>> norm = Normalization("level", torch.zeros(12), torch.ones(12))
    >>> codebooks = [torch.eye(12)[None], -torch.eye(12)[None]]
    >>> bank = CodebookBank(
    ...     ["balanced"], codebooks, norm, emotions=[], card={"feature": feature}
    ... )
    >>> speech = SpeechToUnits(RoutedQuantizer(bank, "balanced"))
    >>> tone = np.sin(np.arange(8000) / 9) / 2, 16000  # samples, Hz
    >>> [units] = speech([tone])
    >>> units.codes.shape, units.times[:3].tolist(), units.route
    ((24, 2), [0.0, 0.02, 0.04], {'balanced': 1.0})
    """

    def __init__(
        self,
        quantizer: RoutedQuantizer,
        *,
        device: str = "cpu",
        model_dir: str | None = None,
        check: bool = True,
    ):
        feature = quantizer.bank.card.get("feature")
        self.encoder = build_from_specification(
            feature, device=device, model_dir=model_dir
        )
        self.quantizer = quantizer.to(device)
        self.device = device
        if check:
            check_golden_clip(quantizer.bank, self.encoder)
        learned = quantizer.bank.card.get("audio", {}).get("bands_hz", {})
        whole = self.encoder.sample_rate // 2
        self._band = max(map(int, learned), default=whole)
        self._named: set[int] = set()

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        system: str | None = None,
        n_levels: int | None = None,
        device: str = "cpu",
        model_dir: str | None = None,
        check: bool = True,
    ) -> Self:
        """Load a quantizer, see `emoq_plugin.load`, and its encoder."""
        quantizer = emoq_plugin.load(
            name, system=system, n_levels=n_levels, check=check
        )
        return cls(quantizer, device=device, model_dir=model_dir, check=check)

    def read(self, audio: Audio, *, multi_channel: str = "error") -> np.ndarray:
        """Read a file, or take samples, at the encoder's sampling rate.

        The first recording of a narrower band than the quantizer was learned on, such
        as telephone speech, is named in the log.

        Parameters
        ----------
        audio : str, Path, or ((N,) array, Hz)
            Samples are float in -1 .. 1, or integers, whose type says full scale.
        multi_channel : {"error", "first", "mean"}, default="error"

        Returns
        -------
        samples : (N,) float32 array

        Raises
        ------
        ValueError
            For audio that cannot be used, see `speech.audio.read_audio`.
        """
        if isinstance(audio, tuple):
            samples, rate = scale(audio[0], "samples"), audio[1]
            check_samples(samples, "samples")
            check_range(samples, MAX_PEAK, "samples")
        else:
            samples, rate = read_audio(str(audio), multi_channel=multi_channel)
        where = "samples" if isinstance(audio, tuple) else audio
        self._warn_narrow(band_of(samples, rate, self.encoder.sample_rate), rate, where)
        return resample(samples, rate, self.encoder.sample_rate)

    def _warn_narrow(self, band: int, rate: int, where: str | Path) -> None:
        if band >= NARROW * self._band or band in self._named:
            return
        self._named.add(band)
        logging.warning(
            "%s: a recording of %d Hz with no sound above %d Hz, the quantizer knows "
            "speech up to %d Hz: the same speech in a narrower band takes other codes "
            "and other experts (said once for all such)",
            *(where, rate, band, self._band),
        )

    def features(
        self, waves: Sequence[np.ndarray], *, names: Sequence[str] | None = None
    ) -> list[torch.Tensor]:
        """Encode waves at the encoder's rate: (T, D) each, on the device."""
        frames = self.encoder(waves, utterances=names)
        return [torch.from_numpy(f).to(self.device) for f in frames]

    def __call__(
        self,
        recordings: Iterable[Audio],
        *,
        multi_channel: str = "error",
        speaker_mean: torch.Tensor | None = None,
    ) -> Iterator[Units]:
        """Return the units of recordings, in their order, a batch in memory at a time.

        Parameters
        ----------
        recordings : iterable of str, Path, or ((N,) float array, Hz)
        multi_channel : {"error", "first", "mean"}, default="error"
        speaker_mean : (D,) Tensor, optional
            Of the speaker of all recordings, where the quantizer removes it; see
            `speaker_mean`.
        """
        for batch in batched(recordings, BATCH_FILES):
            waves = [self.read(a, multi_channel=multi_channel) for a in batch]
            names = [a if isinstance(a, str | Path) else "samples" for a in batch]
            for wave, frames in zip(waves, self.features(waves, names=names)):
                yield self._quantize(frames, len(wave), speaker_mean)

    def _quantize(
        self, frames: torch.Tensor, n_samples: int, speaker_mean: torch.Tensor | None
    ) -> Units:
        mean = None if speaker_mean is None else speaker_mean[None].to(frames)
        found = self.quantizer(frames[None], speaker_mean=mean)
        experts = self.quantizer.bank.experts
        names = [experts[e] for e in found.route[0].tolist()]
        code, clip_codes = self.quantizer.bank.clip_code, found.clip_codes
        return Units(
            codes=found.codes[0].cpu().numpy(),
            route=dict(zip(names, found.weights[0].tolist())),
            n_levels=self.quantizer.n_levels,
            sizes=self.quantizer.bank.sizes[: self.quantizer.n_levels],
            seconds=n_samples / self.encoder.sample_rate,
            bits=float(found.bits[0]),
            frame_rate_hz=self.encoder.specification.frame_rate_hz,
            clip_codes=None if code is None else clip_codes[0].cpu().numpy(),
            clip_sizes=[] if code is None else code.sizes,
        )

    def speaker_mean(
        self, recordings: Iterable[Audio], *, multi_channel: str = "error"
    ) -> torch.Tensor:
        """Return the mean frame (D,) over all recordings of one speaker."""
        sums = (self.frame_sum(a, multi_channel=multi_channel) for a in recordings)
        return mean_frame(sums)

    def frame_sum(
        self, audio: Audio, *, multi_channel: str = "error"
    ) -> tuple[torch.Tensor, int]:
        """Return the sum (D,) of all frames of a recording in float64, and how many."""
        [frames] = self.features([self.read(audio, multi_channel=multi_channel)])
        return frames.double().sum(dim=0).cpu(), len(frames)


def mean_frame(sums: Iterable[tuple[torch.Tensor, int]]) -> torch.Tensor:
    """Return the mean frame (D,) float32 of what `SpeechToUnits.frame_sum` gave."""
    total, count = torch.zeros(()).double(), 0
    for frames, number in sums:
        total, count = total + frames, count + number
    return (total / max(count, 1)).float()
