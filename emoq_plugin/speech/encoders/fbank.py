"""Log-mel filter bank energies at the frame rate of the SSL encoders."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version

import numpy as np

from emoq_plugin.speech.encoders.encoder import Encoder, FeatureSpecification

SAMPLE_RATE = 16000
INT16_SCALE = 32768  # Kaldi's filter bank takes waves in the range of 16-bit integers
PIECE_FRAMES = 3000  # computed at a time, so that memory does not grow with the length


class Fbank(Encoder):
    """Kaldi's log-mel filter bank (torchaudio), without dither.

    Parameters
    ----------
    num_mel_bins : int, default=80
    frame_length : float, default=25.0
        Window, ms.
    frame_shift : float, default=20.0
        Hop, ms; 20 ms = 50 Hz.
    """

    windowed = True

    def __init__(
        self,
        num_mel_bins: int = 80,
        frame_length: float = 25.0,
        frame_shift: float = 20.0,
    ):
        for name, value in (
            ("num_mel_bins", num_mel_bins),
            ("frame_length", frame_length),
            ("frame_shift", frame_shift),
        ):
            if not value > 0:
                raise ValueError(f"fbank: {name} is {value}, expected more than 0")
        self.settings = {
            "num_mel_bins": num_mel_bins,
            "frame_length": float(frame_length),
            "frame_shift": float(frame_shift),
        }
        # Rounded as torchaudio does.
        self.minimum_samples = int(SAMPLE_RATE * frame_length * 0.001)
        self._shift = int(SAMPLE_RATE * frame_shift * 0.001)
        self.specification = FeatureSpecification(
            encoder="fbank",
            layers=[],
            dimension=num_mel_bins,
            frame_rate_hz=1000 / frame_shift,
            sample_rate=SAMPLE_RATE,
            settings=self.settings,
            versions={"torchaudio": version("torchaudio")},
        )

    def encode(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode every wave, one by one, long ones in pieces."""
        return [
            np.concatenate([self._frames(piece) for piece in self._pieces(wave)])
            for wave in waves
        ]

    def _pieces(self, wave: np.ndarray) -> Iterator[np.ndarray]:
        """Cut a wave so that the frames of the pieces are those of the whole."""
        n_frames = 1 + (len(wave) - self.minimum_samples) // self._shift
        for first in range(0, n_frames, PIECE_FRAMES):
            last = min(first + PIECE_FRAMES, n_frames) - 1
            start = first * self._shift
            yield wave[start : last * self._shift + self.minimum_samples]

    def _frames(self, wave: np.ndarray) -> np.ndarray:
        import torch
        from torchaudio.compliance import kaldi

        return kaldi.fbank(
            torch.from_numpy(wave)[None] * INT16_SCALE,
            sample_frequency=SAMPLE_RATE,
            dither=0.0,
            **self.settings,
        ).numpy()
