"""Every system at every rate under a logistic regression: retrained, frozen, route."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoq_plugin.core.bank import CodebookBank, member
from emoq_plugin.core.batch_encoding import decode_route, pool
from emoq_plugin.data.folds import Fold
from emoq_plugin.evaluation.predictions import RETRAINED, Prediction
from emoq_plugin.evaluation.rating_probe import predict_ratings
from emoq_plugin.routing.base import Route
from emoq_plugin.routing.pooled import PooledClassifier
from emoq_plugin.routing.systems import CAPACITY, CONTINUOUS, WITH
from emoq_plugin.units.store import UnitStore

# What a file of heads may say: options of `PooledClassifier`.
HEAD_OPTIONS = ("C", "max_iter", "route_scale")


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
    ) -> PooledClassifier:
        """Train a head on the pooled training clips and, where there are, routes."""
        rows = _stack(pooled, self.train)
        head = PooledClassifier(**self.options)
        return head.fit(rows, self.targets, _stack(routes, self.train))

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
    bank: CodebookBank, units: UnitStore, utterances: Sequence[str]
) -> dict[str, np.ndarray]:
    """Pool the reconstructions of clips from their units on disk.

    Raises
    ------
    ValueError
        If the units were made with other codebooks than the bank holds.
    """
    if units.card["codebooks_sha256"] != bank.codebooks_sha256:
        raise ValueError(
            f"{units.directory} was encoded with other codebooks: run stage 5 again"
        )
    pooled = {}
    for utterance in utterances:
        codes = torch.from_numpy(units[utterance].astype(np.int64))
        decoded = decode_route(bank, codes, units.routes[utterance])
        pooled[utterance] = pool(decoded).numpy()
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
    rates: Sequence[str],
    systems: Sequence[str],
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
    rates, systems : sequence of str
    frozen : PooledClassifier
        Trained on the normalised features, never retrained.

    Yields
    ------
    prediction : Prediction
        Heads `retrained` (on the reconstruction and the route), `frozen` and, where
        experts are classes, `route`; `retrained` alone for ``<a>+<b>``.
    """
    for rate in rates:
        for system in systems:
            codes, plus, routed = system.partition(WITH)
            units = UnitStore(units_dir / rate / codes)
            pooled = decoded_pooled(bank, units, task.clips)
            bitrate = {k: v for k, v in units.bitrate.items() if np.isscalar(v)}
            beside = units
            if plus:
                beside = UnitStore(units_dir / rate / routed)
                bitrate["side_info"] += beside.bitrate["side_info"]
            shares = None
            if len(beside.card["experts"]) > 1:
                shares = {u: route_shares(beside, u) for u in task.clips}
            condition = {"rate": rate, "system": system, "bitrate": bitrate}
            condition["seconds"] = units.seconds
            retrained = task.head(pooled, shares)
            yield task.predict(
                retrained, pooled, name="retrained", routes=shares, **condition
            )
            if plus:
                continue
            yield task.predict(frozen, pooled, name="frozen", **condition)
            routes = [units.routes[u] for u in task.predicted]
            if units.card["system"] != "balanced":
                posteriors = route_posteriors(routes, task.emotions)
                if posteriors is not None:
                    yield task.prediction(posteriors, name="route", **condition)


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
