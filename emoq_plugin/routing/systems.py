"""Arms of an experiment: `balanced`, or a group of experts with a router."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emoq_plugin.core.bank import BALANCED, CodebookBank
from emoq_plugin.core.clip_encoding import ClipEncoding, extend
from emoq_plugin.core.encoding import decode_frames, encode_frames
from emoq_plugin.core.rvq import check_codes
from emoq_plugin.routing.routers import (
    FITTED,
    SEARCHING,
    Facts,
    Route,
    get_router,
    side_bits,
)


@dataclass(frozen=True)
class Arm:
    """One way of encoding.

    Attributes
    ----------
    group : str
        Experts: `balanced`, `specific`, `biased95`, `capacity`, ...
    router : str, optional
        None for a single expert.

    Examples
    --------
    >>> Arm.parse("specific-distortion")
    Arm(group='specific', router='distortion')
    >>> Arm.parse("balanced").name
    'balanced'
    """

    group: str
    router: str | None = None

    @classmethod
    def parse(cls, name: str) -> "Arm":
        """Read ``balanced`` or ``<group>-<router>``.

        Raises
        ------
        ValueError
            For another form or an unknown router.
        """
        group, dash, router = name.partition("-")
        if not dash:
            return cls(group)
        get_router(router)
        return cls(group, router)

    @property
    def name(self) -> str:
        """The arm as it is written in options and directory names."""
        return self.group if self.router is None else f"{self.group}-{self.router}"

    def experts(self, bank: CodebookBank) -> list[str]:
        """Give the experts that a route may name.

        Raises
        ------
        ValueError
            If the bank lacks the group, or a group of several has no router.
        """
        members = bank.group(self.group)
        if self.router is None and len(members) > 1:
            raise ValueError(
                f"group '{self.group}' has {len(members)} experts: name a router, "
                f"for example '{self.group}-distortion'"
            )
        if self.router is not None and len(members) == 1:
            raise ValueError(
                f"group '{self.group}' has one expert, from which router "
                f"'{self.router}' cannot choose: write '{self.group}'"
            )
        return members + (bank.group(BALANCED) if self.router == "gain" else [])

    @property
    def n_streams(self) -> int:
        """Experts that encode a clip: two where they are mixed."""
        return 2 if self.router == "soft" else 1

    def side_bits(self, bank: CodebookBank) -> float:
        """Bits of the route of one clip."""
        if self.router is None:
            return 0.0
        return side_bits(self.router, len(bank.group(self.group)))

    def route(self, clip: ClipEncoding, facts: Facts) -> Route:
        """Choose the expert(s) of a clip."""
        if self.router is None:
            return {self.experts(clip.bank)[0]: 1.0}
        return get_router(self.router)(clip, clip.bank.group(self.group), facts)


def encode_route(
    clip: ClipEncoding, route: Route, n_levels: int, *, beam: int = 1
) -> Tensor:
    """Encode a clip by the experts of its route: (T, M * n_levels) int64 codes."""
    if beam == 1:
        return torch.cat([clip.codes(expert, n_levels) for expert in route], dim=1)
    tables = [clip.bank.expert(expert).first_levels(n_levels) for expert in route]
    codes = [encode_frames(clip.normalised, t, beam=beam) for t in tables]
    return torch.cat(codes, dim=1)


def encode_clips(
    arm: Arm,
    clips: Sequence[ClipEncoding],
    facts: Sequence[Facts],
    n_levels: int,
    *,
    beam: int = 1,
    routed_by: Sequence[ClipEncoding] | None = None,
) -> list[tuple[Route, Tensor]]:
    """Route clips at a shallow depth, then encode each by the experts of its route.

    Clips that share a search are searched together.

    Parameters
    ----------
    arm : Arm
    clips : sequence of B ClipEncoding
    facts : sequence of B Facts
    n_levels : int
    beam : int, default=1
        See `encode_frames`; routes do not depend on it.
    routed_by : sequence of B ClipEncoding, optional
        The same clips under other banks, whose evidence decides the route: a training
        clip is routed by experts that have not seen it.

    Returns
    -------
    encoded : list of B (route, (T, M * n_levels) int64 codes)
    """
    judges = clips if routed_by is None else routed_by
    if arm.router in SEARCHING:
        for bank in {id(judge.bank): judge.bank for judge in judges}.values():
            group = [judge for judge in judges if judge.bank is bank]
            for expert in arm.experts(bank):
                extend(group, expert, facts[0].depth)
    routes = [arm.route(judge, fact) for judge, fact in zip(judges, facts)]
    if beam == 1:
        for expert in dict.fromkeys(e for route in routes for e in route):
            extend([c for c, r in zip(clips, routes) if expert in r], expert, n_levels)
    return [
        (route, encode_route(clip, route, n_levels, beam=beam))
        for clip, route in zip(clips, routes)
    ]


def decode_route(bank: CodebookBank, codes: Tensor, route: Route) -> Tensor:
    """Mix the reconstructions of the experts of a route.

    Parameters
    ----------
    bank : CodebookBank
    codes : (T, M * L) integer Tensor
    route : mapping of M experts to weights

    Returns
    -------
    features : (T, D) Tensor
        In normalised features; see `Normalization.inverse`.
    """
    parts = codes.chunk(len(route), dim=1)
    features = 0.0
    for (expert, weight), part in zip(route.items(), parts):
        row = bank.experts.index(expert)
        tables = [codebook[row] for codebook in bank.codebooks]
        check_codes(part, tables)
        features = features + weight * decode_frames(part, tables)
    return features


def groups_of(arms: Iterable[Arm]) -> list[str]:
    """Name the groups of experts that must be learned for some arms.

    Examples
    --------
    >>> groups_of([Arm.parse("biased95-gain"), Arm.parse("biased95-linear")])
    ['biased95', 'balanced', 'specific']
    """
    needed = []
    for arm in arms:
        needed.append(arm.group)
        needed += [BALANCED] if arm.router == "gain" else []
        needed += ["specific"] if arm.router in FITTED else []
    return list(dict.fromkeys(needed))


def parse_arms(names: Sequence[str]) -> list[Arm]:
    """Read several arms; `balanced`, which others are compared with, comes first."""
    arms = [Arm.parse(name) for name in dict.fromkeys(names)]
    return sorted(arms, key=lambda arm: arm.group != BALANCED)
