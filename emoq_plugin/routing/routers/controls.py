"""Controls: routes by the true class or by chance, to read other routes beside."""

import hashlib
from collections.abc import Sequence

import torch

from emoq_plugin.core.bank import places_of_classes
from emoq_plugin.routing.base import Choice, Router, RoutingInputs, single


class _Control(Router):
    """Chooses by name and class, one clip at a time: names are text."""

    is_control = True

    def choose(self, inputs: RoutingInputs, experts: Sequence[str]) -> Choice:
        """Take what `place` gives."""
        n_clips = len(inputs.clips.lengths)
        names = list(inputs.utterances) or [""] * n_clips
        emotions = list(inputs.emotions) or [None] * n_clips
        places = [
            self.place(name, emotion, experts, inputs.seed)
            for name, emotion in zip(names, emotions)
        ]
        return single(torch.tensor(places, device=inputs.clips.lengths.device))

    def place(
        self, utterance: str, emotion: str | None, experts: Sequence[str], seed: int
    ) -> int:
        """Choose for one clip."""
        raise TypeError(f"{type(self).__name__} chooses nothing")


class OracleRoute(_Control):
    """Takes the expert of the true class."""

    name = "oracle"
    of_class = True
    title = "oracle route (control)"

    def place(
        self, utterance: str, emotion: str | None, experts: Sequence[str], seed: int
    ) -> int:
        """Return the expert of the class."""
        return places_of_classes(experts, [_known(utterance, emotion)])[0]


class WrongRoute(_Control):
    """Takes a random expert of another class."""

    name = "wrong"
    of_class = True
    title = "wrong route (control)"

    def place(
        self, utterance: str, emotion: str | None, experts: Sequence[str], seed: int
    ) -> int:
        """Draw one of the others."""
        [true] = places_of_classes(experts, [_known(utterance, emotion)])
        others = [place for place in range(len(experts)) if place != true]
        return others[_draw(utterance, seed) % len(others)]


class RandomRoute(_Control):
    """Takes a random expert."""

    name = "random"
    title = "random route (control)"

    def place(
        self, utterance: str, emotion: str | None, experts: Sequence[str], seed: int
    ) -> int:
        """Draw one."""
        return _draw(utterance, seed) % len(experts)


def _known(utterance: str, emotion: str | None) -> str:
    if emotion is None:
        raise ValueError(
            f"utterance '{utterance}' has no class, which a control route needs"
        )
    return emotion


def _draw(utterance: str, seed: int) -> int:
    if not utterance:
        raise ValueError("a clip has no name, which the draw of a control depends on")
    digest = hashlib.sha256(f"{seed} {utterance}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
