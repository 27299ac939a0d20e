"""Log-mel filter bank energies at the frame rate of the SSL encoders."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from emoq_plugin.speech.encoders.encoder import Encoder, FeatureCard

SAMPLE_RATE = 16000
INT16_SCALE = 32768  # Kaldi's filter bank takes waves in the range of 16-bit integers


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
        self.minimum_samples = int(SAMPLE_RATE * frame_length / 1000)
        self.card = FeatureCard(
            encoder="fbank",
            layers=[],
            dimension=num_mel_bins,
            frame_rate_hz=1000 / frame_shift,
            sample_rate=SAMPLE_RATE,
            settings=self.settings,
            versions={"torchaudio": version("torchaudio")},
        )

    def encode(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode every wave, one by one."""
        import torch
        from torchaudio.compliance import kaldi

        return [
            kaldi.fbank(
                torch.from_numpy(wave)[None] * INT16_SCALE,
                sample_frequency=SAMPLE_RATE,
                dither=0.0,
                **self.settings,
            ).numpy()
            for wave in waves
        ]
