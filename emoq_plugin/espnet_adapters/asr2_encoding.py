"""The recordings of a data directory as ids of asr2, at several speeds and in parts."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, groupby, tee
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from emoq_plugin.espnet_adapters.asr2 import read_recordings
from emoq_plugin.files import read_table
from emoq_plugin.progress import progress

if TYPE_CHECKING:
    from torch import Tensor

    from emoq_plugin.speech.pipeline import SpeechToUnits

Wave = tuple[np.ndarray, int]


class MakesIds(Protocol):
    """What makes the ids of a recording of its codes, route and clip codes."""

    def source(
        self,
        codes: np.ndarray,
        route: Mapping[str, float],
        clip_codes: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the ids."""


class EncodedRecording(NamedTuple):
    """Ids of one recording at one speed."""

    name: str
    ids: np.ndarray
    seconds: float
    bits: float


def speed_prefix(factor: str) -> str:
    """Return what ESPnet puts before names of recordings at another speed."""
    return "" if float(factor) == 1.0 else f"sp{factor}-"


@dataclass(frozen=True, kw_only=True)
class SetEncoder:
    """Encodes the recordings of one set.

    Parameters
    ----------
    source : Path
        Data directory.
    units : MakesIds
        Of a recogniser (`Asr2Units`) or a synthesis.
    quantizer : Path
        Packed.
    factors : tuple of str
        Speeds at which each recording is played.
    seconds : (shortest, longest), optional
        None keeps all, also those without a text.
    allow_pipe : bool
        Commands in wav.scp are run.
    multi_channel : {"error", "first", "mean"}
    device : str
    model_dir : str, optional
        Local directory of the encoder's model.
    nj : int
        Processes.
    """

    source: Path
    units: MakesIds
    quantizer: Path
    factors: tuple[str, ...]
    seconds: tuple[float, float] | None
    allow_pipe: bool
    multi_channel: str
    device: str
    model_dir: str | None
    nj: int

    def takes(self, seconds: float) -> bool:
        """Return whether a recording of this length is encoded."""
        return self.seconds is None or self.seconds[0] <= seconds <= self.seconds[1]

    def __iter__(self) -> Iterator[EncodedRecording]:
        parts = self._parts()
        if self.nj == 1:
            total = sum(map(len, parts)) * len(self.factors)
            for part in parts:
                found = self.encode_part(part)
                yield from progress(found, total, f"encoding {self.source}")
            return
        # Not forked: torch has threads.
        with ProcessPoolExecutor(self.nj, get_context("spawn")) as pool:
            for done in pool.map(self._encode_alone, parts):
                yield from done

    def _parts(self) -> list[list[str]]:
        """Divide the utterances; one part has all of a recording, to open it once."""
        texts = read_table(self.source / "text")
        recordings = read_recordings(self.source)
        names = sorted(
            (u for u in recordings if self.seconds is None or texts[u]),
            key=lambda u: (recordings[u][0], u),
        )
        groups = [list(g) for _, g in groupby(names, lambda u: recordings[u][0])]
        groups.sort()  # by utterance, so that a speaker stays together
        size = -(-len(groups) // self.nj)
        return [
            list(chain.from_iterable(groups[at : at + size]))
            for at in range(0, len(groups), size or 1)
        ]

    def _encode_alone(self, names: list[str]) -> list[EncodedRecording]:
        import torch

        torch.set_num_threads(1)
        return list(self.encode_part(names))

    def encode_part(self, names: list[str]) -> Iterator[EncodedRecording]:
        """Encode some recordings of the set, each at every speed."""
        from emoq_plugin.devices import pick_device
        from emoq_plugin.speech.pipeline import SpeechToUnits

        speech = SpeechToUnits.from_pretrained(
            str(self.quantizer),
            device=pick_device(self.device, 1),
            model_dir=self.model_dir,
        )
        if speech.quantizer.bank.normalization.kind != "speaker":
            waves = _Waves(self)
            yield from self._encode(speech, waves.read(names, self.factors), None)
            return
        speaker = read_table(self.source / "utt2spk")
        for who in dict.fromkeys(speaker[u] for u in names):
            # All of a speaker is kept open: read for the mean, and at every speed.
            waves = _Waves(self, n_open=None)
            spoken = [u for u in waves.recordings if speaker[u] == who]
            chosen = [u for u in names if speaker[u] == who]
            for factor in self.factors:
                mean = speech.speaker_mean(w for _, w in waves.read(spoken, [factor]))
                yield from self._encode(speech, waves.read(chosen, [factor]), mean)

    def _encode(
        self,
        speech: "SpeechToUnits",
        waves: Iterable[tuple[str, Wave]],
        mean: "Tensor | None",
    ) -> Iterator[EncodedRecording]:
        names, given = tee(waves)  # a batch is read before its units are there
        encoded = speech((wave for _, wave in given), speaker_mean=mean)
        for found, (name, _) in zip(encoded, names):
            ids = self.units.source(found.codes, found.route, found.clip_codes)
            yield EncodedRecording(name, ids, found.seconds, found.bits)


class _Waves:
    """Reads recordings of a set; a command runs once for all that are kept open."""

    def __init__(self, encoder: SetEncoder, *, n_open: int | None = 1):
        from emoq_plugin.speech.audio import Recording

        self.recordings = read_recordings(encoder.source)
        self._encoder = encoder
        opened = partial(Recording, allow_pipe=encoder.allow_pipe)
        self._open = lru_cache(n_open)(opened)

    def read(
        self, names: Iterable[str], factors: Iterable[str]
    ) -> Iterator[tuple[str, Wave]]:
        """Return (name, (samples, Hz)) of each at every speed, by recording.

        A recording played `factor` times as fast is one of `factor` times its rate.
        """
        for name in sorted(names, key=lambda u: (self.recordings[u][0], u)):
            entry, segment = self.recordings[name]
            try:
                samples, rate = self._open(entry).read(
                    segment or None, multi_channel=self._encoder.multi_channel
                )
            except (ValueError, OSError) as error:
                raise ValueError(
                    f"{self._encoder.source}: '{name}': {error}"
                ) from error
            for factor in factors:
                played = round(rate * float(factor))
                if self._encoder.takes(len(samples) / played):
                    yield f"{speed_prefix(factor)}{name}", (samples, played)
