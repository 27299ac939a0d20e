"""Every system at every rate under a logistic regression: retrained, frozen, route."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoq_plugin.core.bank import CodebookBank, member
from emoq_plugin.core.batch_encoding import decode_route, pool
from emoq_plugin.data.folds import Fold
from emoq_plugin.evaluation.decoded import check_codebooks
from emoq_plugin.evaluation.predictions import BITRATES, RETRAINED, Prediction
from emoq_plugin.evaluation.rating_probe import predict_ratings
from emoq_plugin.routing.base import Route
from emoq_plugin.routing.head import emphasis
from emoq_plugin.routing.pooled import PooledClassifier
from emoq_plugin.routing.systems import CAPACITY, CONTINUOUS, System
from emoq_plugin.units.rates import NO_FRAMES, Rate
from emoq_plugin.units.store import UnitStore

# What a file of heads may say: options of `PooledClassifier`.
HEAD_OPTIONS = ("C", "max_iter", "route_scale")
# What a head sees beside a route that is sent alone.
_NOTHING = defaultdict(lambda: np.zeros(1))


@dataclass
class ProbeTask:
    """What all probes of a fold share.

    Attributes
    ----------
    fold : Fold
    train : list of str
        Utterances that heads learn from.
    targets : (N, C) array
        Their class shares.
    emotions : list of C str
    options : dict
        Of `PooledClassifier`.
    predicted : sequence of str
        Clips that heads are applied to; the fold's test clips by default.
    ratings : (N, 3) array, optional
        Of the training clips, see `data.ratings`: a ridge regression is fitted beside
        each retrained head.
    speakers : sequence of N str
        Of the training clips, needed for it.
    """

    fold: Fold
    train: list[str]
    targets: np.ndarray
    emotions: list[str]
    options: Mapping[str, Any]
    predicted: Sequence[str] = ()
    ratings: np.ndarray | None = None
    speakers: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.predicted = list(self.predicted or self.fold.test)

    @property
    def clips(self) -> list[str]:
        """Clips that heads learn from or are applied to."""
        return [*self.train, *self.predicted]

    def head(
        self,
        pooled: Mapping[str, np.ndarray],
        routes: Mapping[str, np.ndarray] | None = None,
        *,
        dimension: int | None = None,
    ) -> PooledClassifier:
        """Train a head on the pooled training clips and, where there are, routes.

        What comes behind mean and deviation of `dimension` values (if given) is a
        decoded clip code, see `routing.head.emphasis`.
        """
        rows = _stack(pooled, self.train)
        head = PooledClassifier(**self.options)
        weights = 1.0 if dimension is None else emphasis(dimension, rows.shape[1])
        routes = _stack(routes, self.train)
        return head.fit(rows, self.targets, routes, emphasis=weights)

    def predict(
        self,
        head: PooledClassifier,
        pooled: Mapping[str, np.ndarray],
        *,
        rate: str,
        system: str,
        name: str,
        bitrate: dict[str, float] | None,
        seconds: float | None = None,
        routes: Mapping[str, np.ndarray] | None = None,
    ) -> Prediction:
        """Apply a head to the predicted clips."""
        rows = _stack(pooled, self.predicted)
        shares = _stack(routes, self.predicted)
        ratings = None
        if self.ratings is not None and name == RETRAINED:
            known = head.inputs(_stack(pooled, self.train), _stack(routes, self.train))
            new = head.inputs(rows, shares)
            ratings = predict_ratings(known, self.ratings, self.speakers, new)
        return self.prediction(
            head.predict_proba(rows, shares),
            ratings=ratings,
            rate=rate,
            system=system,
            name=name,
            bitrate=bitrate,
            seconds=seconds,
        )

    def prediction(
        self,
        posteriors: np.ndarray,
        *,
        rate: str,
        system: str,
        name: str,
        bitrate: dict[str, float] | None,
        seconds: float | None = None,
        ratings: dict[str, list[float]] | None = None,
    ) -> Prediction:
        """Wrap posteriors of the predicted clips."""
        return Prediction(
            fold=self.fold.name,
            rate=rate,
            system=system,
            head=name,
            bitrate_bps=bitrate,
            emotions=self.emotions,
            utterances=list(self.predicted),
            posteriors=posteriors,
            seconds=seconds,
            ratings=ratings,
        )


def _stack(
    rows: Mapping[str, np.ndarray] | None, utterances: Sequence[str]
) -> np.ndarray | None:
    return None if rows is None else np.stack([rows[u] for u in utterances])


def continuous_pooled(
    bank: CodebookBank,
    features: Mapping[str, np.ndarray],
    utterances: Sequence[str],
    means: Callable[[str], torch.Tensor | None],
) -> dict[str, np.ndarray]:
    """Pool the normalised features of clips: the input of the upper bound."""
    return {
        u: pool(bank.normalization(torch.from_numpy(features[u]), means(u))).numpy()
        for u in utterances
    }


def decoded_pooled(
    bank: CodebookBank,
    units: UnitStore,
    utterances: Sequence[str],
    *,
    seen: bool = False,
) -> dict[str, np.ndarray]:
    """Pool the reconstructions of clips from their units on disk.

    Parameters
    ----------
    bank : CodebookBank
    units : UnitStore
    utterances : sequence of str
    seen : bool, default=False
        Give the clips as a head on features sees them, the statistics left out: without
        what the norm removes of features, and the clip code sends.

    Returns
    -------
    pooled : dict of str to (2 D + V,) array
        With the V statistics of the decoded clip code behind, where there is one.

    Raises
    ------
    ValueError
        If the units were made with other codebooks than the bank holds.
    """
    check_codebooks(units, bank)
    pooled = {}
    for utterance in utterances:
        codes = torch.from_numpy(units[utterance].astype(np.int64))
        beside = units.clip_codes.get(utterance)
        beside = None if beside is None else torch.from_numpy(beside)
        decoded = decode_route(bank, codes, units.routes[utterance], beside)
        if seen:
            decoded = bank.normalization.seen(decoded)
        pooled[utterance] = pool(decoded).numpy()
        if beside is not None and not seen:
            known = bank.clip_code.pooled(beside[None])[0].numpy()
            pooled[utterance] = np.concatenate([pooled[utterance], known])
    return pooled


def route_posteriors(
    routes: Sequence[Route], emotions: Sequence[str]
) -> np.ndarray | None:
    """Read the routes as the decision: (N, C), or None where experts are no classes.

    A route to the balanced codebook (a fallback) decides nothing: equal shares.
    """
    posteriors = np.zeros((len(routes), len(emotions)))
    for row, route in zip(posteriors, routes):
        for expert, weight in route.items():
            # Parts of the capacity control are numbered, as classes may be.
            if expert.startswith(f"{CAPACITY}/"):
                return None
            if member(expert) in emotions:
                row[list(emotions).index(member(expert))] += weight
            elif "/" in expert:
                return None
            else:
                row += weight / len(emotions)
    return posteriors


def route_shares(units: UnitStore, utterance: str) -> np.ndarray:
    """Return the weight of each expert in the route of a clip, (E,)."""
    route = units.routes[utterance]
    return np.array([route.get(expert, 0.0) for expert in units.card["experts"]])


def probe_systems(
    task: ProbeTask,
    bank: CodebookBank,
    units_dir: Path,
    *,
    conditions: Sequence[tuple[Rate, System]],
    cheapest: Rate,
    frozen: PooledClassifier,
) -> Iterator[Prediction]:
    """Score the systems that one bank serves.

    A system ``<a>+<b>`` is the control that has the codes of system a and the route of
    system b sent beside them: what a routed system has above it is in its codes, not in
    its route.

    Parameters
    ----------
    task : ProbeTask
    bank : CodebookBank
    units_dir : Path
        dump/units/<tag>/fold<n>/<set>.
    conditions : sequence of (Rate, System)
    cheapest : Rate
        Where systems without frame codes find a route that is sent beside.
    frozen : PooledClassifier
        Trained on the normalised features, never retrained.

    Yields
    ------
    prediction : Prediction
        Heads `retrained` (on the reconstruction, the decoded clip code and the route),
        `frozen` (on the reconstruction) and, where experts are classes, `route`;
        `retrained` alone for ``<a>+<b>``.
    """
    for rate, system in conditions:
        codes, beside = _units(units_dir, rate, system, cheapest)
        pooled = _NOTHING if codes is None else decoded_pooled(bank, codes, task.clips)
        shares, routed = None, beside or codes
        if len(routed.card["experts"]) > 1:
            shares = {u: route_shares(routed, u) for u in task.clips}
        condition = {"rate": str(rate), "system": system.name}
        condition["bitrate"] = _bitrate(codes, beside)
        condition["seconds"] = routed.seconds
        retrained = task.head(pooled, shares, dimension=bank.dimension)
        yield task.predict(
            retrained, pooled, name="retrained", routes=shares, **condition
        )
        if beside:
            continue
        if bank.clip_code is not None:
            pooled = decoded_pooled(bank, codes, task.predicted, seen=True)
        yield task.predict(frozen, pooled, name="frozen", **condition)
        routes = [codes.routes[u] for u in task.predicted]
        if system.router is not None:
            posteriors = route_posteriors(routes, task.emotions)
            if posteriors is not None:
                yield task.prediction(posteriors, name="route", **condition)


def _units(
    units_dir: Path, rate: Rate, system: System, cheapest: Rate
) -> tuple[UnitStore | None, UnitStore | None]:
    """Open the codes of a system and the units whose route is sent beside (if any)."""
    codes, beside = None, None
    if system.sends_codes:
        codes = UnitStore(units_dir / str(rate) / replace(system, beside=None).name)
    if system.beside:
        place = units_dir / str(cheapest if rate == NO_FRAMES else rate)
        beside = UnitStore(place / system.beside.name)
    return codes, beside


def _bitrate(codes: UnitStore | None, beside: UnitStore | None) -> dict[str, float]:
    """Return the bits of the codes and of the route beside."""
    found = dict.fromkeys(BITRATES, 0.0)
    if codes is not None:
        found = {k: v for k, v in codes.bitrate.items() if np.isscalar(v)}
    if beside is not None:
        found["side_info"] += beside.bitrate["side_info"]
    return found


def probe_continuous(
    task: ProbeTask,
    bank: CodebookBank,
    features: Mapping[str, np.ndarray],
    means: Callable[[str], torch.Tensor | None],
) -> tuple[PooledClassifier, Prediction]:
    """Return the head on continuous features and the upper bound that it reaches."""
    pooled = continuous_pooled(bank, features, task.clips, means)
    head = task.head(pooled)
    prediction = task.predict(
        head, pooled, rate=CONTINUOUS, system=CONTINUOUS, name="retrained", bitrate=None
    )
    return head, prediction
