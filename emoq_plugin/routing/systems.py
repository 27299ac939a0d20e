"""What a system is: an expert set, its router, a clip code, a route sent beside."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from emoq_plugin.core.bank import BALANCED, CodebookBank
from emoq_plugin.routing.base import Router, RoutingInputs, get_router, routers

CONTINUOUS = "continuous"  # features that nobody quantized: the upper bound
SPECIFIC = "specific"
CAPACITY = "capacity"
BIASED = "biased"
WITH = "+"
CLIP = "clip"  # before the bits of a clip code
LABEL = "label"  # what a classifier says, sent alone
EMOQ = f"{SPECIFIC}-distortion"
CAPACITY_CONTROL = f"{CAPACITY}-distortion"
# Kinds of systems that are compared at a rate.
EMOQ_ROLE, TWO_SCALE, CONTROL = "emoq", "two_scale", "control"
ROLES = {
    BALANCED: "balanced RVQ",
    EMOQ_ROLE: "best Emo-Q",
    TWO_SCALE: "two-scale",
    CAPACITY: "capacity control",
}
# Expert sets in the order of tables.
_ORDER = (CONTINUOUS, CLIP, BALANCED, SPECIFIC, BIASED, CAPACITY)
_CLIP = re.compile(rf"{CLIP}\d+")


@dataclass(frozen=True)
class System:
    """One way of encoding.

    Attributes
    ----------
    expert_set : str
        `balanced`, `specific`, `biased95`, `capacity`, ...
    router_name : str, optional
        None for a single expert.
    clip_bits : int, optional
        Of the clip code (of a window), which frame codes are on top of. Without an
        expert set there are no frame codes: the clip code is alone, or the route.
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
    >>> System.parse("specific-calibrated+clip32").clip_bits
    32
    >>> System.parse("label").beside.name
    'specific-calibrated'
    """

    expert_set: str
    router_name: str | None = None
    clip_bits: int | None = None
    beside: "System | None" = None

    @classmethod
    def parse(cls, name: str, *, known: bool = True) -> "System":
        """Read ``balanced`` or ``<expert set>-<router>``, and what is added with ``+``.

        That is ``clip<bits>``, which may also be alone, then a system whose route is
        sent beside. ``label`` is the route of the calibrated router alone: the label
        that a classifier gives.

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
        if name == LABEL:
            return cls("", beside=cls(SPECIFIC, "calibrated"))
        codes, *added = name.split(WITH)
        expert_set, dash, router = codes.partition("-")
        clip_bits = None
        if not added and _CLIP.fullmatch(codes):
            expert_set, added = "", [codes]
        elif not expert_set or codes.startswith(CLIP):
            raise ValueError(
                f"system '{name}', expected balanced or <expert set>-<router>, each "
                f"with +clip<bits> or not, clip<bits>, for example 'balanced+clip32', "
                f"or {LABEL}"
            )
        if added and added[0].startswith(CLIP):
            clip_bits = _bits_of(added.pop(0), name)
        if dash and known:
            get_router(router)
        after = cls.parse(WITH.join(added), known=known) if added else None
        if after and after.clip_bits:
            raise ValueError(
                f"system '{name}': only a route is sent beside, expected the clip code "
                f"before it: '{codes}+{CLIP}{after.clip_bits}+...'"
            )
        return cls(expert_set, router if dash else None, clip_bits, after)

    @property
    def name(self) -> str:
        """The system as it is written in options and directory names."""
        if not self.sends_codes:
            return LABEL
        parts = [self._codes] * bool(self.expert_set)
        if self.clip_bits is not None:
            parts.append(f"{CLIP}{self.clip_bits}")
        return WITH.join([*parts, self.beside.name] if self.beside else parts)

    @property
    def sends_codes(self) -> bool:
        """Whether frame codes or clip codes are sent, not a route alone."""
        return bool(self.expert_set) or self.clip_bits is not None

    @property
    def encoded(self) -> list["System"]:
        """The systems whose units it is made of: codes, and the route beside."""
        own = [replace(self, beside=None)] * self.sends_codes
        return own + (self.beside.encoded if self.beside else [])

    @property
    def _codes(self) -> str:
        router = self.router_name
        return self.expert_set + ("" if router is None else f"-{router}")

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
        ...              "clip32", "balanced+clip32", "label"):
        ...     print(System.parse(name).title)
        continuous features
        specific, oracle route (control)
        biased 95 %, soft mixture
        capacity control, distortion router
        balanced RVQ + route of Emo-Q, distortion router (control)
        clip code of 32 bits
        balanced RVQ + clip code of 32 bits
        label alone: route of Emo-Q, calibrated router (control)
        """
        if not self.sends_codes:
            return f"label alone: route of {self.beside.title} (control)"
        if self.beside:
            codes = replace(self, beside=None)
            return f"{codes.title} + route of {self.beside.title} (control)"
        if self.clip_bits is not None:
            beside = f"clip code of {self.clip_bits} bits"
            codes = replace(self, clip_bits=None)
            return f"{codes.title} + {beside}" if self.expert_set else beside
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
            return CONTROL
        if self.clip_bits is not None:
            return CONTROL if self.expert_set == CAPACITY else TWO_SCALE
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
        codes = self.expert_set or CLIP
        places = [n for n, s in enumerate(_ORDER) if codes.startswith(s)]
        place = min(places, default=len(_ORDER))
        return (self.is_control, place, self._codes, self.clip_bits or 0, self.name)

    @property
    def n_streams(self) -> int:
        """Experts whose codes are sent; none by a clip code alone."""
        if not self.expert_set:
            return 0
        return 1 if self.router is None else self.router.n_streams

    def experts(self, bank: CodebookBank) -> list[str]:
        """Return the experts that a route may name.

        Raises
        ------
        ValueError
            If the bank lacks the expert set, a set of several has no router, or the
            bank's clip code is another than the system's.
        """
        self._check_clip_code(bank)
        if not self.expert_set:
            return []
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

    def _check_clip_code(self, bank: CodebookBank) -> None:
        found = None if bank.clip_code is None else round(bank.clip_code.bits)
        if found == self.clip_bits:
            return
        added = "" if found is None else f"{WITH}{CLIP}{found}"
        has = f"a clip code of {found} bits" if found else "no clip code"
        codes = self._codes or BALANCED
        raise ValueError(
            f"system '{self.name}', but the bank has {has}, and its frame codes were "
            f"learned so: name system '{codes}{added}'"
        )

    def check_frame_codes_alone(
        self,
        place: str,
        instead: str = "a quantizer that was learned without clip_bits",
    ) -> None:
        """Refuse a clip code where only frame codes go.

        Parameters
        ----------
        place : str
            For the message: what has no room for it.
        instead : str
            What to take.

        Raises
        ------
        ValueError
            If the system has a clip code.
        """
        if self.clip_bits is not None:
            raise ValueError(
                f"system '{self.name}' sends clip codes, without which its frame codes "
                f"mean little, and {place} has no room for them: take {instead}"
            )

    def side_bits(self, bank: CodebookBank, n_windows: Any = 1) -> Any:
        """Bits of side information for one clip: its route and its clip codes.

        Parameters
        ----------
        bank : CodebookBank
        n_windows : int, float or Tensor, default=1
            Clip codes of the clip (a mean or of several clips as well).
        """
        bits = float(self.clip_bits or 0) * n_windows
        if self.router is not None:
            bits = bits + self.router.side_bits(len(bank.expert_set(self.expert_set)))
        return bits + (self.beside.side_bits(bank) if self.beside else 0.0)

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


def _bits_of(part: str, system: str) -> int:
    if not _CLIP.fullmatch(part) or int(part.removeprefix(CLIP)) < 1:
        raise ValueError(
            f"system '{system}': clip code '{part}', expected {CLIP}<bits> with at "
            f"least 1 bit, for example '{CLIP}32'"
        )
    return int(part.removeprefix(CLIP))


def parse_systems(names: Iterable[str]) -> list[System]:
    """Read several systems, each once; `balanced`, the reference, comes first."""
    systems = [System.parse(name) for name in dict.fromkeys(names)]
    return sorted(systems, key=lambda system: system.name != BALANCED)


def encoded(systems: Iterable[System]) -> list[System]:
    """Return the systems that have units of their own, each once.

    Examples
    --------
    >>> names = ("balanced+specific-soft", "label", "clip8", "balanced+clip8")
    >>> [system.name for system in encoded(map(System.parse, names))]
    ['balanced', 'specific-soft', 'specific-calibrated', 'clip8', 'balanced+clip8']
    """
    return list(dict.fromkeys(part for s in systems for part in s.encoded))


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
    for system in encoded(systems):
        needed += [system.expert_set] * bool(system.expert_set)
        if system.router is not None:
            needed += [*system.router.also, *[SPECIFIC] * system.router.learns]
    return list(dict.fromkeys(needed))
