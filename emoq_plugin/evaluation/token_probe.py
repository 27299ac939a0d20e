"""Emotion in the units of another tokenizer, with and without clip tokens beside."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.core.clip_code import ClipCode
from emoq_plugin.evaluation.emotion_probe import ProbeTask
from emoq_plugin.evaluation.predictions import RETRAINED, Prediction
from emoq_plugin.routing.systems import CLIP, WITH
from emoq_plugin.units.bitrate import StreamCounts, bitrates
from emoq_plugin.units.clip_tokens import ClipVocabulary
from emoq_plugin.units.rates import Rate


@dataclass
class TokenStream:
    """Clip codes and units of utterances.

    Attributes
    ----------
    vocabulary : ClipVocabulary
    clip_codes : dict of str to (N, C) int64 array
    units : dict of str to (T,) int64 array
    seconds : dict of str to float
    """

    vocabulary: ClipVocabulary
    clip_codes: dict[str, np.ndarray]
    units: dict[str, np.ndarray]
    seconds: Mapping[str, float]


def pooled_units(units: np.ndarray, n_units: int) -> np.ndarray:
    """Return mean and deviation over time of one-hot units, (2 n_units,).

    Examples
    --------
    >>> pooled_units(np.array([0, 0, 2, 2]), 3)
    array([0.5, 0. , 0.5, 0.5, 0. , 0.5])
    """
    share = np.bincount(units, minlength=n_units) / len(units)
    return np.concatenate([share, np.sqrt(share * (1 - share))])


def token_bitrates(
    stream: TokenStream, train: Sequence[str], test: Sequence[str], *, clip: bool
) -> dict[str, float]:
    """Return the bits/s of test clips, see `units.bitrate.bitrates`."""
    sizes, codes_per_test = stream.vocabulary.sizes, 0.0

    def counted(names: Sequence[str]) -> tuple[StreamCounts, StreamCounts]:
        frames = StreamCounts([stream.vocabulary.n_units])
        windows = StreamCounts(sizes)
        for name in names:
            frames.add(stream.units[name][:, None], [BALANCED])
            windows.add(stream.clip_codes[name], [CLIP])
        return frames, windows

    (units, codes), (known_units, known_codes) = counted(test), counted(train)
    if clip:
        codes_per_test = codes.frames / codes.clips * sum(map(math.log2, sizes))
    return bitrates(
        units,
        known_units,
        frame_rate_hz=units.frames / sum(stream.seconds[u] for u in test),
        n_streams=1,
        side_bits_per_clip=codes_per_test,
        clip_test=codes if clip else None,
        clip_train=known_codes if clip else None,
    )


def probe_tokens(
    task: ProbeTask, stream: TokenStream, code: ClipCode
) -> Iterator[Prediction]:
    """Score units alone, then with the decoded clip code.

    Parameters
    ----------
    task : ProbeTask
    stream : TokenStream
        Of all clips of the task.
    code : ClipCode
        That decodes the clip codes.

    Yields
    ------
    prediction : Prediction
        Head `retrained` of the systems ``balanced`` (one codebook for all emotions,
        which is what the units are of) and ``balanced+clip<bits>``.
    """
    n_units = stream.vocabulary.n_units
    for clip in (False, True):
        pooled = {}
        for name in task.clips:
            pooled[name] = pooled_units(stream.units[name], n_units)
            if clip:
                codes = torch.from_numpy(stream.clip_codes[name])
                known = code.pooled(codes[None])[0].numpy()
                pooled[name] = np.concatenate([pooled[name], known])
        yield task.predict(
            task.head(pooled, dimension=n_units),
            pooled,
            rate=str(Rate(n_units, 1)),
            system=f"{BALANCED}{WITH}{CLIP}{round(code.bits)}" if clip else BALANCED,
            name=RETRAINED,
            bitrate=token_bitrates(stream, task.train, task.predicted, clip=clip),
            seconds=sum(stream.seconds[u] for u in task.predicted),
        )
