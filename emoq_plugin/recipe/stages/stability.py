"""Encode recordings as they are and disturbed, and compare their units."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emoq_plugin.files import write_json
from emoq_plugin.options import Count
from emoq_plugin.progress import progress
from emoq_plugin.speech.recordings import (
    QuantizerOptions,
    check_all_used,
    each_as_given,
    find_audio,
    open_speech,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StabilityOptions(QuantizerOptions):
    """Which quantizer, which of its units.

    Attributes
    ----------
    n_levels
        Levels of the stream; all when left out.
    output
        JSON file for the shares.
    """

    n_levels: Count | None = None
    output: Path | None = None


def stability(options: StabilityOptions) -> None:
    """Print the share of units that stay under each disturbance."""
    from emoq_plugin.evaluation.stability import Shares, table_of_shares
    from emoq_plugin.speech.disturbances import DISTURBANCES

    paths = find_audio(options.audio)
    speech = open_speech(options, n_levels=options.n_levels)
    failed: list[str] = []
    rate = speech.encoder.sample_rate
    shares = {name: Shares() for name in DISTURBANCES}

    def all_units(
        files: list[str], *, multi_channel: str, speaker_mean: "Tensor | None"
    ) -> list[list]:
        [path] = files
        wave = speech.read(path, multi_channel=multi_channel)
        random = np.random.default_rng(zlib.crc32(Path(path).name.encode()))
        waves = [wave]
        waves += [d.change(wave, rate, random) for d in DISTURBANCES.values()]
        return [list(speech([(w, rate) for w in waves], speaker_mean=speaker_mean))]

    found = each_as_given(all_units, speech, paths, options, failed=failed)
    n_usable = len(paths) - len(failed)
    for _, (before, *changed) in progress(found, n_usable, "disturbing"):
        for (name, kind), after in zip(DISTURBANCES.items(), changed, strict=True):
            shares[name].add(before, after, speed=kind.speed)
    means = {name: each.means() for name, each in shares.items()}
    if any(means.values()):
        print(table_of_shares(means.items()))
    if options.output:
        write_json(options.output, means)
    check_all_used(failed, paths)
