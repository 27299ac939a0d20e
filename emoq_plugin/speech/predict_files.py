"""Audio files to emotions: what the router hears, and what the units say."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from emoq_plugin.options import Count
from emoq_plugin.pretrained import DEFAULT
from emoq_plugin.speech.recordings import (
    QuantizerOptions,
    check_all_used,
    each_as_given,
    find_audio,
    open_speech,
)

if TYPE_CHECKING:
    from torch import Tensor

    from emoq_plugin.routing.quantizer import RoutedQuantizer
    from emoq_plugin.speech.pipeline import SpeechToUnits


@dataclass(frozen=True, kw_only=True)
class PredictOptions(QuantizerOptions):
    """Whose ears.

    Attributes
    ----------
    n_levels
        Levels of the units; all when left out.
    """

    quantizer: str = DEFAULT
    n_levels: Count | None = None


def predict(options: PredictOptions) -> None:
    """Print a JSON object for each recording as soon as it is there.

    Raises
    ------
    ValueError
        For a quantizer without posteriors, before any recording is read; at the end
        for recordings that could not be used.
    """
    paths = find_audio(options.audio)

    speech = open_speech(options, n_levels=options.n_levels)
    check_hears(speech.quantizer, options.quantizer)
    for line in limits(speech.quantizer):
        logging.warning("%s: %s", options.quantizer, line)
    from emoq_plugin.speech.pipeline import BATCH_FILES

    failed: list[str] = []
    found = each_as_given(
        partial(hear, speech), speech, paths, options, failed=failed, size=BATCH_FILES
    )
    for name, heard in found:
        print(json.dumps({"name": name, **heard}, ensure_ascii=False), flush=True)
    check_all_used(failed, paths)


def check_hears(quantizer: "RoutedQuantizer", name: str) -> None:
    """Refuse a quantizer that cannot say anything of emotion.

    Raises
    ------
    ValueError
        If neither a router nor a head gives posteriors.
    """
    router = quantizer.system.router
    if quantizer.has_head or (router and router.gives_posteriors):
        return
    why = f"the router '{router.name}' has no posteriors" if router else "no experts"
    raise ValueError(
        f"{name}, system '{quantizer.system.name}': {why} and no emotion head, so "
        "nothing says an emotion: take a quantizer of emoq quantizers or emoq learn, "
        "or a system with the calibrated router"
    )


def limits(quantizer: "RoutedQuantizer") -> list[str]:
    """Return what a reader of posteriors must know, a sentence or a few each."""
    from emoq_plugin.core.model_card import score_in_words

    card = quantizer.bank.card
    score = score_in_words(card.get("held_out") or {"none": "its card has none"})
    classes = ", ".join(quantizer.bank.emotions)
    found = [
        f"posteriors are over {classes} alone: any other emotion is called one of them",
        score,
    ]
    if said := card.get("about", {}).get("limits"):
        found.append(said)
    return found


def hear(
    speech: "SpeechToUnits",
    files: Sequence[str],
    *,
    multi_channel: str = "error",
    speaker_mean: "Tensor | None" = None,
) -> Iterator[dict[str, Any]]:
    """Yield what is heard in each recording.

    Returns
    -------
    found : iterator of dict
        `emotion`, its most likely class: by the head on the units where there is one,
        else by the router; `posteriors` of that; `expert`, the one that was chosen (of
        a mixture the heavier); `router_posteriors`, where the router has them.
    """
    quantizer = speech.quantizer
    emotions = quantizer.bank.emotions
    waves = [speech.read(file, multi_channel=multi_channel) for file in files]
    for frames in speech.features(waves, names=files):
        mean = None if speaker_mean is None else speaker_mean[None].to(frames)
        route = quantizer(frames[None], speaker_mean=mean)
        place = int(route.route[0, int(route.weights[0].argmax())])
        router = quantizer.router_posteriors(frames[None], speaker_mean=mean)
        by_units = None
        if quantizer.has_head:
            by_units = quantizer.predict_proba(frames[None], speaker_mean=mean)[0]
        posteriors = router[0] if by_units is None else by_units
        found = {
            "emotion": emotions[int(posteriors.argmax())],
            "posteriors": _by_name(emotions, posteriors),
            "expert": quantizer.bank.experts[place],
        }
        if router is not None:
            found["router_posteriors"] = _by_name(emotions, router[0])
        yield found


def _by_name(emotions: Sequence[str], posteriors: Any) -> dict[str, float]:
    return {name: round(float(p), 4) for name, p in zip(emotions, posteriors)}
