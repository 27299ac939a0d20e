"""Features without a dump: every read encodes the audio again."""

from collections.abc import Iterator, Mapping

import numpy as np

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.progress import progress
from emoq_plugin.speech.audio import read_audio
from emoq_plugin.speech.encoders.encoder import Encoder
from emoq_plugin.speech.golden import golden_features


class EncodedOnTheFly(Mapping[str, np.ndarray]):
    """Takes the place of a `FeatureStore`, for corpora too large to dump.

    Parameters
    ----------
    data : DataDirectory
        Formatted audio (stage 2), mono at the encoder's rate.
    encoder : Encoder

    Attributes
    ----------
    specification : FeatureSpecification
    lengths : dict of str to int
        Frames of each utterance, from one pass over the audio when first asked for.
    utterances : list of str
    """

    def __init__(self, data: DataDirectory, encoder: Encoder):
        self.data = data
        self.encoder = encoder
        self.specification = encoder.specification
        self.utterances = list(data.utterances)
        self._lengths: dict[str, int] | None = None

    @property
    def lengths(self) -> dict[str, int]:
        """Frames of each utterance."""
        if self._lengths is None:
            items = progress(self.utterances, len(self.utterances), "counting frames")
            self._lengths = {utterance: len(self[utterance]) for utterance in items}
        return self._lengths

    @property
    def golden(self) -> np.ndarray:
        """Features of the golden clip, see `speech.golden`."""
        return golden_features(self.encoder)

    def __getitem__(self, utterance: str) -> np.ndarray:
        """Encode one utterance, (T, D) float32."""
        samples, _ = read_audio(
            self.data.wav[utterance], sample_rate=self.encoder.sample_rate
        )
        return self.encoder([samples], utterances=[utterance])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.utterances)

    def __len__(self) -> int:
        return len(self.utterances)
