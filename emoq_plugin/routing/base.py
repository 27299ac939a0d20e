"""Router: the class that every router extends, its inputs, and the registry."""

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch_encoding import BatchEncoding
from emoq_plugin.routing.training import FittedRouter, RouterTraining


@dataclass(frozen=True)
class RoutingInputs:
    """What a router may know of a batch of clips.

    Attributes
    ----------
    clips : BatchEncoding
        Evidence: features and the experts' codes.
    depth : int
        Levels that the evidence is computed with.
    utterances : sequence of B str
        Names of the clips; the draws of controls depend on them.
    emotions : sequence of B (str or None)
        True classes, which only controls look at.
    seed : int
        Of the controls.
    held_out : mapping of str to (B, C) Tensor
        Speaker-held-out posteriors by router: of training clips, by a router that was
        fitted without their speaker. A row of NaN where a clip has none.
    """

    clips: BatchEncoding
    depth: int = 1
    utterances: Sequence[str] = ()
    emotions: Sequence[str | None] = ()
    seed: int = 0
    held_out: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def bank(self) -> CodebookBank:
        """The bank whose experts give the evidence."""
        return self.clips.bank

    def places(self, experts: Sequence[str]) -> list[int]:
        """Return the places of experts in the bank."""
        return [self.bank.experts.index(expert) for expert in experts]


Route = dict[str, float]  # of one clip: expert -> mixing weight, summing to one
# Places in the list of experts (B, M) int64 and mixing weights (B, M).
Choice = tuple[Tensor, Tensor]


class Router(ABC):
    """Chooses the expert(s) that encode a clip.

    One subclass in a module of `emoq_plugin.routing.routers` is all that a new router
    needs: it is found by its `name`, as in the system ``specific-<name>``.

    Attributes
    ----------
    name : str
    title : str
        How readers see it, beside the name of the expert set.
    is_control : bool
        Looks at what no encoder knows (labels, names): never a result itself.
    shared : bool
        Looks at features alone: it is fitted once for all banks of a fold.
    of_class : bool
        Names a class, which must be that of an expert.
    n_streams : int
        M, experts that are mixed.
    also : tuple of str
        Further expert sets that a route may name.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    is_control: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    of_class: ClassVar[bool] = False
    n_streams: ClassVar[int] = 1
    also: ClassVar[tuple[str, ...]] = ()

    @property
    def learns(self) -> bool:
        """Whether it is fitted to training clips."""
        return type(self).fit is not Router.fit

    @property
    def gives_posteriors(self) -> bool:
        """Whether it has class posteriors."""
        return type(self).posteriors is not Router.posteriors

    def posteriors(self, inputs: RoutingInputs) -> Tensor | None:
        """Return class posteriors (B, C) of what it hears; None where it has none."""
        return None

    @abstractmethod
    def choose(self, inputs: RoutingInputs, experts: Sequence[str]) -> Choice:
        """Choose for every clip of a batch, without a loop over clips.

        Parameters
        ----------
        inputs : RoutingInputs
        experts : sequence of E str
            What `experts` gives.

        Returns
        -------
        places : (B, M) int64 Tensor
            In `experts`.
        weights : (B, M) Tensor
            Rows sum to one.
        """

    def experts(self, bank: CodebookBank, expert_set: str) -> list[str]:
        """Return the experts that a route may name: of the set, then of `also`."""
        return [e for name in (expert_set, *self.also) for e in bank.expert_set(name)]

    def side_bits(self, n_experts: int) -> float:
        """Side information of one clip, bits: log2 of the routes.

        Parameters
        ----------
        n_experts : int
            Of the expert set.
        """
        return math.log2(n_experts)

    def fit(self, training: RouterTraining) -> FittedRouter | None:
        """Learn from training clips; None for a router that has nothing to learn."""
        return None

    def parameters(self, bank: CodebookBank) -> dict[str, Tensor]:
        """Return what this router has learned about a bank, without its name.

        Raises
        ------
        ValueError
            If it has learned nothing.
        """
        prefix = f"{self.name}."
        found = {
            name.removeprefix(prefix): value
            for name, value in bank.router_parameters.items()
            if name.startswith(prefix)
        }
        if not found:
            raise ValueError(
                f"this bank has no {self.name} router: learn codebooks with labels and "
                "an expert set of one expert a class"
            )
        return found


def single(places: Tensor) -> Choice:
    """Make the choice of one expert a clip: (B,) places."""
    return places[:, None], torch.ones(len(places), 1, device=places.device)


def routers() -> dict[str, Router]:
    """Return all routers by name."""
    from emoq_plugin.routing import routers as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return {kind.name: kind() for kind in _subclasses(Router)}


def _subclasses(kind: type[Router]) -> list[type[Router]]:
    found = []
    for below in kind.__subclasses__():
        found += [below] * ("name" in vars(below)) + _subclasses(below)
    return found


def get_router(name: str) -> Router:
    """Return a router by name.

    Raises
    ------
    ValueError
        For an unknown name, with the names that exist.
    """
    known = routers()
    if name not in known:
        raise ValueError(f"unknown router '{name}', expected one of {sorted(known)}")
    return known[name]
