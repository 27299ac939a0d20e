"""What a system is: the codes of an expert set, its router, a route sent beside."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from emoq_plugin.core.bank import BALANCED, CodebookBank
from emoq_plugin.routing.base import Router, RoutingInputs, get_router, routers

CONTINUOUS = "continuous"  # features that nobody quantized: the upper bound
SPECIFIC = "specific"
CAPACITY = "capacity"
BIASED = "biased"
WITH_ROUTE_OF = "+"
EMOQ = f"{SPECIFIC}-distortion"
CAPACITY_CONTROL = f"{CAPACITY}-distortion"
CLIP = "clip"  # clip codes of so many bits: clip32, balanced+clip32
# Kinds of systems that stand beside each other at a rate.
EMOQ_ROLE, TWO_SCALE, CONTROL = "emoq", "two_scale", "control"
ROLES = {
    BALANCED: "balanced RVQ",
    EMOQ_ROLE: "best Emo-Q",
    TWO_SCALE: "two-scale",
    CAPACITY: "capacity control",
}
# Expert sets in the order of tables.
_ORDER = (CONTINUOUS, BALANCED, SPECIFIC, BIASED, CAPACITY)


@dataclass(frozen=True)
class System:
    """One way of encoding.

    Attributes
    ----------
    expert_set : str
        `balanced`, `specific`, `biased95`, `capacity`, ...
    router_name : str, optional
        None for a single expert.
    beside : System, optional
        In ``<a>+<b>``, b: the control that has the codes of a and the route of b sent
        beside them. What b has above it is in its codes, not in its route.

    Examples
    --------
    >>> System.parse("specific-distortion").title
    'Emo-Q, distortion router'
    >>> System.parse("balanced").name
    'balanced'
    >>> System.parse("balanced+specific-soft").beside.name
    'specific-soft'
    """

    expert_set: str
    router_name: str | None = None
    beside: "System | None" = None

    @classmethod
    def parse(cls, name: str, *, known: bool = True) -> "System":
        """Read ``balanced``, ``<expert set>-<router>``, or two of them with ``+``.

        Parameters
        ----------
        name : str
        known : bool, default=True
            False lets routers pass that do not exist: names of foreign results.

        Raises
        ------
        ValueError
            For another form or an unknown router.
        """
        codes, plus, beside = name.partition(WITH_ROUTE_OF)
        expert_set, dash, router = codes.partition("-")
        if not expert_set:
            raise ValueError(
                f"system '{name}', expected balanced or <expert set>-<router>"
            )
        if dash and known:
            get_router(router)
        after = cls.parse(beside, known=known) if plus else None
        return cls(expert_set, router if dash else None, after)

    @property
    def name(self) -> str:
        """The system as it is written in options and directory names."""
        name = self.expert_set
        if self.router_name is not None:
            name += f"-{self.router_name}"
        return name + (f"{WITH_ROUTE_OF}{self.beside.name}" if self.beside else "")

    @property
    def router(self) -> Router | None:
        """The router; None for a single expert."""
        return None if self.router_name is None else get_router(self.router_name)

    @property
    def title(self) -> str:
        """The system as readers see it.

        Examples
        --------
        >>> for name in ("continuous", "specific-oracle", "biased95-soft",
        ...              "capacity-distortion", "balanced+specific-distortion",
        ...              "balanced+clip32"):
        ...     print(System.parse(name).title)
        continuous features
        specific, oracle route (control)
        biased 95 %, soft mixture
        capacity control, distortion router
        balanced RVQ + route of Emo-Q, distortion router (control)
        balanced RVQ + clip code of 32 bits
        """
        if self.beside:
            codes = System(self.expert_set, self.router_name)
            if self.role == TWO_SCALE:
                bits = self.beside.expert_set.removeprefix(CLIP)
                return f"{codes.title} + clip code of {bits} bits"
            return f"{codes.title} + route of {self.beside.title} (control)"
        if self.router_name is None:
            titles = {CONTINUOUS: "continuous features", BALANCED: "balanced RVQ"}
            return titles.get(self.expert_set, self.expert_set)
        if self.expert_set.startswith(BIASED):
            name = f"biased {self.expert_set.removeprefix(BIASED)} %"
        elif self.expert_set == CAPACITY:
            name = "capacity control"
        elif self.expert_set == SPECIFIC and not self.needs_labels:
            name = "Emo-Q"
        else:
            name = self.expert_set
        known = routers().get(self.router_name)
        return f"{name}, {known and known.title or f'{self.router_name} router'}"

    @property
    def is_control(self) -> bool:
        """Whether it only helps to read others and is never a result itself."""
        return self.role in (CONTROL, CAPACITY)

    @property
    def role(self) -> str:
        """Kind of system: a name of `ROLES`, `continuous` or `control`.

        Examples
        --------
        >>> for name in ("balanced", "biased95-soft", "capacity-distortion",
        ...              "specific-oracle", "balanced+specific-soft",
        ...              "balanced+clip32"):
        ...     print(System.parse(name).role)
        balanced
        emoq
        capacity
        control
        control
        two_scale
        """
        if self.needs_labels:
            return CONTROL
        if self.beside:
            clip = self.beside.expert_set.startswith(CLIP)
            return TWO_SCALE if clip and self.expert_set != CAPACITY else CONTROL
        if self.expert_set == CAPACITY or self.router_name is None:
            return self.expert_set
        return EMOQ_ROLE

    @property
    def needs_labels(self) -> bool:
        """Whether the route is that of a control, which no encoder can find."""
        known = routers().get(self.router_name)
        return known is not None and known.is_control

    @property
    def order(self) -> tuple:
        """Key for sorting: results before controls, expert sets as in all tables."""
        places = [n for n, s in enumerate(_ORDER) if self.expert_set.startswith(s)]
        return (self.is_control, min(places, default=len(_ORDER)), self.name)

    @property
    def n_streams(self) -> int:
        """Experts whose codes are sent."""
        return 1 if self.router is None else self.router.n_streams

    def experts(self, bank: CodebookBank) -> list[str]:
        """Return the experts that a route may name.

        Raises
        ------
        ValueError
            If the bank lacks the expert set, or a set of several has no router.
        """
        members = bank.expert_set(self.expert_set)
        if self.router is None:
            if len(members) > 1:
                raise ValueError(
                    f"expert set '{self.expert_set}' has {len(members)} experts: name "
                    f"a router, for example '{self.expert_set}-distortion'"
                )
            return members
        if len(members) == 1:
            raise ValueError(
                f"expert set '{self.expert_set}' has one expert, from which router "
                f"'{self.router_name}' cannot choose: write '{self.expert_set}'"
            )
        return self.router.experts(bank, self.expert_set)

    def side_bits(self, bank: CodebookBank) -> float:
        """Bits of side information for one clip: its route."""
        own = 0.0
        if self.router is not None:
            own = self.router.side_bits(len(bank.expert_set(self.expert_set)))
        return own + (self.beside.side_bits(bank) if self.beside else 0.0)

    def route(self, inputs: RoutingInputs) -> tuple[Tensor, Tensor]:
        """Choose the expert(s) of each clip.

        Returns
        -------
        route : (B, M) int64 Tensor
            Places in the bank's experts.
        weights : (B, M) Tensor
            Rows sum to one.
        """
        experts = self.experts(inputs.bank)
        places = torch.tensor(
            inputs.places(experts), device=inputs.clips.lengths.device
        )
        if self.router is None:
            route = places.expand(len(inputs.clips.lengths), 1)
            return route, torch.ones(route.shape, device=route.device)
        chosen, weights = self.router.choose(inputs, experts)
        return places[chosen], weights


def parse_systems(names: Iterable[str]) -> list[System]:
    """Read several systems, each once; `balanced`, the reference, comes first."""
    systems = [System.parse(name) for name in dict.fromkeys(names)]
    return sorted(systems, key=lambda system: system.name != BALANCED)


def display_name(name: str) -> str:
    """Spell a system for readers, also a foreign one; see `System.title`."""
    return System.parse(name, known=False).title


def is_control(name: str) -> bool:
    """Return whether a system only helps to read others; see `System.is_control`."""
    return System.parse(name, known=False).is_control


def expert_sets_of(systems: Iterable[System]) -> list[str]:
    """Name the expert sets that must be learned for some systems.

    Routers that learn are fitted to `specific`, whatever they route.

    Examples
    --------
    >>> names = ("biased95-gain", "biased95-linear")
    >>> expert_sets_of(map(System.parse, names))
    ['biased95', 'balanced', 'specific']
    """
    needed: list[str] = []
    for system in systems:
        needed.append(system.expert_set)
        if system.router is not None:
            needed += [*system.router.also, *[SPECIFIC] * system.router.learns]
    return list(dict.fromkeys(needed))
