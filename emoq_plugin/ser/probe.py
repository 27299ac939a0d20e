"""Every arm at every rate under a logistic regression: retrained, frozen, route."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoq_plugin.data.folds import Fold
from emoq_plugin.quantizers.bank import CodebookBank
from emoq_plugin.quantizers.clip import pool
from emoq_plugin.routing.arms import decode_route
from emoq_plugin.routing.pooled import PooledClassifier
from emoq_plugin.routing.routers import Route, member
from emoq_plugin.ser.predictions import CONTINUOUS, Prediction
from emoq_plugin.units.store import UnitStore


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
    """

    fold: Fold
    train: list[str]
    targets: np.ndarray
    emotions: list[str]
    options: Mapping[str, Any]

    def head(self, pooled: Mapping[str, np.ndarray]) -> PooledClassifier:
        """Train a head on the pooled training clips."""
        rows = np.stack([pooled[u] for u in self.train])
        return PooledClassifier(**self.options).fit(rows, self.targets)

    def predict(
        self,
        head: PooledClassifier,
        pooled: Mapping[str, np.ndarray],
        *,
        rate: str,
        arm: str,
        name: str,
        bitrate: dict[str, float] | None,
    ) -> Prediction:
        """Apply a head to the test clips."""
        rows = np.stack([pooled[u] for u in self.fold.test])
        return self.prediction(
            head.predict_proba(rows), rate=rate, arm=arm, name=name, bitrate=bitrate
        )

    def prediction(
        self,
        posteriors: np.ndarray,
        *,
        rate: str,
        arm: str,
        name: str,
        bitrate: dict[str, float] | None,
    ) -> Prediction:
        """Wrap posteriors of the test clips."""
        return Prediction(
            fold=self.fold.name,
            rate=rate,
            arm=arm,
            head=name,
            bitrate_bps=bitrate,
            emotions=self.emotions,
            utterances=list(self.fold.test),
            posteriors=posteriors,
        )


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
            if member(expert) in emotions:
                row[list(emotions).index(member(expert))] += weight
            elif "/" in expert:
                return None
            else:
                row += weight / len(emotions)
    return posteriors


def probe_arms(
    task: ProbeTask,
    bank: CodebookBank,
    units_dir: Path,
    *,
    rates: Sequence[str],
    arms: Sequence[str],
    frozen: PooledClassifier,
) -> Iterator[Prediction]:
    """Score the arms that one bank serves.

    Parameters
    ----------
    task : ProbeTask
    bank : CodebookBank
    units_dir : Path
        dump/units/<tag>/fold<n>/<set>.
    rates, arms : sequence of str
    frozen : PooledClassifier
        Trained on the normalised features, never retrained.

    Yields
    ------
    prediction : Prediction
        Heads `retrained`, `frozen` and, where experts are classes, `route`.
    """
    clips = [*task.train, *task.fold.test]
    for rate in rates:
        for arm in arms:
            units = UnitStore(units_dir / rate / arm)
            pooled = decoded_pooled(bank, units, clips)
            bitrate = {k: v for k, v in units.bitrate.items() if np.isscalar(v)}
            cell = {"rate": rate, "arm": arm, "bitrate": bitrate}
            retrained = task.head(pooled)
            yield task.predict(retrained, pooled, name="retrained", **cell)
            yield task.predict(frozen, pooled, name="frozen", **cell)
            routes = [units.routes[u] for u in task.fold.test]
            if units.card["arm"] != "balanced":
                posteriors = route_posteriors(routes, task.emotions)
                if posteriors is not None:
                    yield task.prediction(posteriors, name="route", **cell)


def probe_continuous(
    task: ProbeTask,
    bank: CodebookBank,
    features: Mapping[str, np.ndarray],
    means: Callable[[str], torch.Tensor | None],
) -> tuple[PooledClassifier, Prediction]:
    """Give the head on continuous features and the upper bound that it reaches."""
    clips = [*task.train, *task.fold.test]
    pooled = continuous_pooled(bank, features, clips, means)
    head = task.head(pooled)
    prediction = task.predict(
        head, pooled, rate=CONTINUOUS, arm=CONTINUOUS, name="retrained", bitrate=None
    )
    return head, prediction
