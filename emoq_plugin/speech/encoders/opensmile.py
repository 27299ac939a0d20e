"""eGeMAPS low-level descriptors of openSMILE."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from emoq_plugin.optional import needs
from emoq_plugin.speech.encoders.encoder import Encoder, FeatureSpecification

SAMPLE_RATE = 16000
NATIVE_RATE_HZ = 100
PITCH_WINDOW_SECONDS = 0.06  # the longest window, so the shortest wave
DIMENSION = 25


class OpenSmile(Encoder):
    """eGeMAPSv02: loudness, pitch, formants, spectral balance; 25 values a frame.

    openSMILE gives 100 frames a second. Every `step`-th is kept: the frames that the
    same windows would give at a longer hop. Averaging would mix voiced frames with
    unvoiced ones, whose pitch is written as 0. See Eyben et al., "The Geneva
    Minimalistic Acoustic Parameter Set (GeMAPS)", 2016.

    Parameters
    ----------
    step : int, default=2
        1 = 100 Hz, 2 = 50 Hz.

    Raises
    ------
    ValueError
        If the package is missing; the message holds the command that installs it.
    """

    def __init__(self, step: int = 2):
        if not (isinstance(step, int) and step >= 1):
            raise ValueError(f"opensmile: step is {step}, expected 1, 2, ...")
        with needs("opensmile"):
            import opensmile
        self._step = step
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02,
            feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
        )
        self.minimum_samples = round(PITCH_WINDOW_SECONDS * SAMPLE_RATE)
        self.specification = FeatureSpecification(
            encoder="opensmile",
            layers=[],
            dimension=DIMENSION,
            frame_rate_hz=NATIVE_RATE_HZ / step,
            sample_rate=SAMPLE_RATE,
            settings={"feature_set": "eGeMAPSv02", "step": step},
            versions={"opensmile": version("opensmile")},
        )

    def encode(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode every wave, one by one."""
        return [
            self._smile.process_signal(wave, SAMPLE_RATE)
            .to_numpy(np.float32)[:: self._step]
            .copy()
            for wave in waves
        ]
