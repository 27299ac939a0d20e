"""What an encoder is, and what must be known of its frames."""

import hashlib
import json
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from emoq_plugin.devices import exact_float32
from emoq_plugin.files import check_types
from emoq_plugin.speech.audio import check_range, scale

# Noise and reverberation that training adds stay below, 16-bit numbers do not.
LOUDEST = 16.0


@dataclass(frozen=True)
class FeatureSpecification:
    """What a quantizer must know of the features that it was learned on.

    Parameters
    ----------
    encoder : str
        Name in the registry.
    layers : list of int
        Hidden layers, counted from 0 (the input of the first block); empty where the
        encoder has none.
    dimension : int
        D, values in a frame.
    frame_rate_hz : float
        Frames in a second.
    sample_rate : int
        Rate of the audio that the encoder takes, Hz.
    settings : dict
        Options that change what a frame means.
    weights_sha256 : str or None
        Digest of the weights; None where nothing was learned.
    versions : dict of str to str
        Packages, source of the weights and precision: for the reader, no part of
        the fingerprint.

    Examples
    --------
    >>> specification = FeatureSpecification("fbank", [], 80, 50.0, 16000)
    >>> FeatureSpecification.from_json(specification.to_json()) == specification
    True
    """

    encoder: str
    layers: list[int]
    dimension: int
    frame_rate_hz: float
    sample_rate: int
    settings: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the specification as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any], where: str | Path = "specification"):
        """Make a specification from what `to_json` gave.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of another type; the message begins with
            `where`.
        """
        expected = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != expected:
            raise ValueError(
                f"{where}: not a feature specification: found {reprlib.repr(values)}, "
                f"expected {sorted(expected)}"
            )
        check_types(values, get_type_hints(cls), where)
        for name in ("dimension", "frame_rate_hz", "sample_rate"):
            if not 0 < values[name] < float("inf"):
                raise ValueError(f"{where}: {name} is {values[name]}, expected > 0")
        return cls(**values)

    def fingerprint(self) -> str:
        """Return 64 hexadecimal digits: equal where frames mean the same."""
        values = self.to_json()
        del values["versions"]
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Encoder(ABC):
    """Waves in, frames out; no wave depends on another.

    A subclass sets `specification` and `minimum_samples` (shortest wave that gives one
    frame) in its constructor and defines `encode`. A constructor that names a `device`
    argument is given the device to compute on.
    """

    # Raised by an encoder whose frames come out otherwise than before.
    VERSION: int = 1
    specification: FeatureSpecification
    minimum_samples: int
    # Frame t depends on no samples but the `minimum_samples` from t times the shift on.
    windowed: bool = False
    # Called with the samples of each batch that is done, for progress.
    on_batch: Callable[[int], None] = staticmethod(lambda samples: None)

    @property
    def sample_rate(self) -> int:
        """Rate of the waves, Hz."""
        return self.specification.sample_rate

    @classmethod
    def input_files(cls, **conf: Any) -> list[Path]:
        """List the local files that the output depends on, given the options."""
        return []

    @abstractmethod
    def encode(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode checked waves, `(N,) float32` in [-1, 1], to `(T, D) float32`."""

    def __call__(
        self, waves: Sequence[np.ndarray], *, utterances: Sequence[str] | None = None
    ) -> list[np.ndarray]:
        """Encode waves; the result does not depend on what else is in the list.

        Parameters
        ----------
        waves : sequence of (N,) array
            At `sample_rate`; float in [-1, 1], or integers of a type that says full
            scale.
        utterances : sequence of str, optional
            Names for error messages.

        Returns
        -------
        list of (T, D) float32 array

        Raises
        ------
        ValueError
            If a wave is not mono, not finite, out of range or shorter than one frame,
            or a frame of it is not finite.
        """
        names = utterances or [f"wave {i}" for i in range(len(waves))]
        scaled = []
        for name, given in zip(names, waves, strict=True):
            wave = scale(given, f"utterance '{name}'")
            if len(wave) < self.minimum_samples:
                raise ValueError(
                    f"utterance '{name}': {len(wave)} samples, shorter than one frame "
                    f"of {self.specification.encoder} ({self.minimum_samples} samples "
                    f"at {self.sample_rate} Hz): drop it or raise the minimum duration"
                )
            if not np.isfinite(wave).all():
                raise ValueError(f"utterance '{name}': the audio holds NaN or infinity")
            check_range(wave, LOUDEST, f"utterance '{name}'")
            scaled.append(wave)
        with exact_float32():
            encoded = self.encode(scaled)
        for name, frames in zip(names, encoded, strict=True):
            if (bad := first_bad_frame(frames)) is not None:
                raise ValueError(
                    f"utterance '{name}': encoder '{self.specification.encoder}' gives "
                    f"NaN or infinity at frame {bad}: its weights are damaged, or a "
                    "precision of float16 is too small for it (bfloat16 or float32 "
                    "are not)"
                )
        return encoded


def first_bad_frame(frames: np.ndarray) -> int | None:
    """Find the first frame of (T, D) that holds NaN or infinity; None if all are good.

    A sum is NaN or infinite if any element is: one pass, no temporary array.
    """
    if np.isfinite(frames.sum(dtype=np.float64)):
        return None
    return int((~np.isfinite(frames)).any(axis=1).argmax())
