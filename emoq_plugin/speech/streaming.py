"""Codes of a recording that arrives in pieces."""

import numpy as np
import torch

from emoq_plugin.speech.audio import MAX_PEAK, check_range, scale
from emoq_plugin.speech.pipeline import SpeechToUnits


class StreamingEncoder:
    """Codes of a recording that arrives in pieces, the same as those of the whole.

    Parameters
    ----------
    speech : SpeechToUnits
    expert : str, optional
        Expert that encodes; needed unless the system has only one, because a router
        looks at the whole recording.
    speaker_mean : (D,) Tensor, optional
        Where the quantizer removes it.

    Raises
    ------
    ValueError
        Where codes of pieces cannot be those of the whole: a normalisation by the clip
        or its level, a clip code, a route, or an encoder whose frames look further than
        a window.
    """

    def __init__(
        self,
        speech: SpeechToUnits,
        *,
        expert: str | None = None,
        speaker_mean: torch.Tensor | None = None,
    ):
        quantizer, encoder = speech.quantizer, speech.encoder
        if quantizer.bank.clip_code is not None:
            raise ValueError(
                "frame codes of this quantizer are of what its clip code leaves, and a "
                "clip code is known only at the end of a clip or window: stream with a "
                "quantizer learned without clip_bits"
            )
        kind = quantizer.bank.normalization.kind
        if kind in ("clip", "level"):
            raise ValueError(
                f"this quantizer removes the mean {kind} of the whole recording, which "
                "is unknown before its end: stream with a quantizer learned with "
                "'normalization: corpus' or 'speaker'"
            )
        if not encoder.windowed:
            raise ValueError(
                f"frames of encoder '{encoder.specification.encoder}' depend on the "
                "whole recording: stream with a windowed one, such as fbank"
            )
        if expert is None and quantizer.system.router is not None:
            raise ValueError(
                f"system '{quantizer.system.name}' chooses its expert on the whole "
                f"recording: name the expert, one of {quantizer.bank.experts}, or use "
                "'balanced'"
            )
        self._expert = quantizer.bank.expert(expert or quantizer.bank.experts[0])
        self._speech = speech
        self._mean = speaker_mean
        self._shift = round(encoder.sample_rate / encoder.specification.frame_rate_hz)
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, give the codes of the frames that are complete.

        Parameters
        ----------
        samples : (N,) array
            At the encoder's sampling rate; types as in `SpeechToUnits.read`.

        Returns
        -------
        codes : (T, L) int64 array
            T may be 0.
        """
        samples = scale(samples, "samples")
        check_range(samples, MAX_PEAK, "samples")
        rest = np.concatenate([self._rest, samples])
        window = self._speech.encoder.minimum_samples
        n_frames = max(0, 1 + (len(rest) - window) // self._shift)
        self._rest = rest[n_frames * self._shift :]
        n_levels = self._speech.quantizer.n_levels
        if n_frames == 0:
            return np.zeros((0, n_levels), np.int64)
        used = rest[: (n_frames - 1) * self._shift + window]
        [frames] = self._speech.features([used])
        codes = self._expert.encode_clip(
            frames, n_levels=n_levels, speaker_mean=self._mean
        )
        return codes.cpu().numpy()
