"""What a report shows: the results of a study, or of one experiment's scores alone.

The only module of the report that knows the fields of `Results` and of
`conditions.jsonl`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.predictions import HEADS
from emoq_plugin.evaluation.results import Results
from emoq_plugin.files import parse_json
from emoq_plugin.routing.systems import (
    CAPACITY_CONTROL,
    CONTINUOUS,
    EMOQ,
    ROLES,
    System,
)

SUMMARY = "summary.json"
SCORES = "scores.json"
CONDITIONS = "conditions.jsonl"
MAIN_HEAD = HEADS[0]  # retrained at every rate
RECALL = "recall/"

Triple = Mapping[str, float | None]


@dataclass(frozen=True)
class Metric:
    """How a metric is shown, and which direction is better."""

    name: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 3
    higher_is_better: bool = True

    @property
    def title(self) -> str:
        """Name with its unit, as a heading."""
        return self.name + (f", {self.unit}" if self.unit else "")


def _share(name: str) -> Metric:
    return Metric(name, "%", scale=100.0, digits=1)


def _loss(name: str) -> Metric:
    return Metric(name, higher_is_better=False)


METRICS = {
    "macro_f1": _share("macro-F1"),
    "uar": _share("UAR"),
    "wa": _share("WA"),
    "js": _loss("JS divergence"),
    "kl": _loss("KL divergence"),
    "cosine": Metric("cosine"),
    "cross_entropy": _loss("cross-entropy"),
    "top2_set": _share("top-2 set"),
    "brier": _loss("Brier"),
}


def metric_of(name: str) -> Metric | None:
    """Find a metric by its name, `recall/<emotion>` included; None if unknown."""
    if name.startswith(RECALL):
        return _share(f"recall of {name.removeprefix(RECALL)}")
    return METRICS.get(name)


def as_triple(value: Any) -> Triple | None:
    """Return mean, low and high of a number that may come with an interval.

    Examples
    --------
    >>> as_triple(0.5)
    {'mean': 0.5, 'low': None, 'high': None}
    >>> as_triple(None) is None
    True
    """
    entry = value if isinstance(value, Mapping) else {"mean": value}
    found = {name: _finite(entry.get(name)) for name in ("mean", "low", "high")}
    return None if found["mean"] is None else found


def _finite(value: Any) -> float | None:
    number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if number else None


def _inside(entry: Any, place: str) -> Any:
    """Follow `a/b` into nested tables; None where it leads nowhere."""
    for part in place.split("/"):
        entry = entry.get(part) if isinstance(entry, Mapping) else None
    return entry


def _system(name: str) -> System:
    return System.parse(name, known=False)  # results may come from other plug-ins


def _find(entries: Iterable[Mapping[str, Any]], **key: str) -> Mapping[str, Any]:
    """Return the first entry with these values, or an empty one."""
    wanted = key.items()
    return next((e for e in entries if all(e.get(k) == v for k, v in wanted)), {})


@dataclass
class Experiment:
    """One experiment of a study: its entries in the lists of `Results`."""

    name: str
    metadata: Mapping[str, Any]
    scores: list[Mapping[str, Any]] = field(default_factory=list)
    measures: list[Mapping[str, Any]] = field(default_factory=list)
    controls: list[Mapping[str, Any]] = field(default_factory=list)
    comparisons: list[Mapping[str, Any]] = field(default_factory=list)
    best: list[Mapping[str, Any]] = field(default_factory=list)

    @cached_property
    def rates(self) -> dict[str, float]:
        """Nominal bit/s of one stream by rate, from the lowest."""
        bits: dict[str, float] = {}
        for entry in self.scores:
            nominal = as_triple(_inside(entry, "bitrate_bps/nominal"))
            if nominal is not None:
                known = bits.get(entry["rate"], math.inf)
                bits[entry["rate"]] = min(nominal["mean"], known)
        return dict(sorted(bits.items(), key=lambda item: (item[1], item[0])))

    @cached_property
    def systems(self) -> list[str]:
        """Systems that retrained heads scored, without continuous, controls last."""
        found = {s["system"] for s in self.scores if s["head"] == MAIN_HEAD}
        return sorted(found - {CONTINUOUS}, key=lambda name: _system(name).order)

    def score(self, rate: str, system: str, head: str = MAIN_HEAD) -> Mapping[str, Any]:
        """Return the scores of a condition, empty if it has none."""
        return _find(self.scores, rate=rate, system=system, head=head)

    def value(
        self, rate: str, system: str, metric: str = "macro_f1", head: str = MAIN_HEAD
    ) -> Triple | None:
        """Return one metric of a condition."""
        return as_triple(_inside(self.score(rate, system, head), f"metrics/{metric}"))

    def bound(self, metric: str = "macro_f1") -> Triple | None:
        """Return a metric of the continuous features."""
        return self.value(CONTINUOUS, CONTINUOUS, metric)

    def measure(self, rate: str, system: str, place: str) -> Any:
        """Return an entry of the representation level; `a/b` goes into tables."""
        return _inside(
            _find(self.measures, rate=rate, system=system), f"values/{place}"
        )

    def control(self, rate: str, system: str, name: str) -> Triple | None:
        """Return a relative loss, or a difference of two, of the probes."""
        return as_triple(_find(self.controls, rate=rate, system=system).get(name))

    def difference(
        self, rate: str, system: str, metric: str = "macro_f1", minus: str = BALANCED
    ) -> Triple | None:
        """Return the paired difference of retrained heads, if it was computed."""
        key = {"rate": rate, "system": system, "metric": metric, "reference": minus}
        found = _find(self.comparisons, head=MAIN_HEAD, **key)
        return as_triple(found.get("difference"))

    def role(self, rate: str, role: str) -> Mapping[str, Any]:
        """Return the best system of a kind: each fold has that of the other folds."""
        return _find(self.best, rate=rate, role=role)

    @property
    def roles(self) -> dict[str, str]:
        """Titles of the kinds of systems that were scored."""
        there = {entry["role"] for entry in self.best}
        return {role: title for role, title in ROLES.items() if role in there}

    def recall_loss(self, rate: str, system: str, emotion: str) -> Triple | None:
        """Return the recall lost against continuous features, from a paired test."""
        gain = self.difference(rate, system, RECALL + emotion, CONTINUOUS)
        if gain is None:
            return None
        low, high = (None if gain[k] is None else -gain[k] for k in ("high", "low"))
        return {"mean": -gain["mean"], "low": low, "high": high}


@dataclass(frozen=True)
class Group:
    """Experiments of one corpus and feature.

    `main` has the study's first quantizer. `selected` is what the setting does that
    validation speakers chose; it is empty without a choice.
    """

    main: Experiment
    others: list[Experiment]
    selected: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Corpus and feature."""
        known = [self.main.metadata.get(k) for k in ("corpus", "feature")]
        return ", ".join(str(k) for k in known if k) or self.main.name

    @property
    def rate(self) -> str | None:
        """The rate that is shown where one has to do: chosen most often, or lowest."""
        chosen = Counter(c["rate"] for c in self.selected.get("chosen", {}).values())
        there = [rate for rate in self.main.rates if self.main.score(rate, BALANCED)]
        return max(there, key=lambda rate: chosen[rate], default=None)


@dataclass
class Content:
    """What a report shows of a directory; `summary` is `Results` as JSON."""

    path: Path
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the study or experiment."""
        return self.summary["name"]

    @property
    def emotions(self) -> list[str]:
        """Class order."""
        return self.summary["emotions"]

    @cached_property
    def experiments(self) -> list[Experiment]:
        """Experiments in the order of the summary."""
        found = {
            e["name"]: Experiment(e["name"], e) for e in self.summary["experiments"]
        }
        for kind in ("scores", "measures", "controls", "comparisons", "best"):
            for entry in self.summary[kind]:
                getattr(found[entry["experiment"]], kind).append(entry)
        return list(found.values())

    @cached_property
    def groups(self) -> list[Group]:
        """Experiments by corpus and feature; the first group is the study's own."""
        members: dict[tuple, list[Experiment]] = {}
        for e in self.experiments:
            key = (e.metadata.get("corpus"), e.metadata.get("feature"))
            members.setdefault(key, []).append(e)
        further = {
            (head.get("corpus"), head.get("feature")): head
            for head in self.summary["further"]
        }
        quantizers = list(self.summary["config"].get("quantizers") or {})
        groups = []
        for key in sorted(members, key=lambda key: key in further):
            selected = further.get(key, self.summary).get("selected") or {}
            order = {name: n for n, name in enumerate(quantizers)}
            experiments = sorted(
                members[key],
                key=lambda e: order.get(e.metadata.get("quantizer"), len(order)),
            )
            groups.append(Group(experiments[0], experiments[1:], selected))
        return groups

    @cached_property
    def emoq(self) -> str:
        """The system that represents Emo-Q: as configured before any result."""
        if named := self.summary["config"].get("emoq"):
            return named
        there = {s for e in self.experiments for s in e.systems}
        routed = [s for s in there if s != BALANCED and not _system(s).is_control]
        return EMOQ if EMOQ in there else min(routed, default=EMOQ)

    def unseen(self, experiment: Experiment) -> list[dict[str, Any]]:
        """Return what is kept of classes that were left out, of the main quantizer."""
        main = next((g for g in self.groups if g.main is experiment), None)
        wanted = main and (
            experiment.metadata.get("corpus"),
            experiment.metadata.get("feature"),
        )
        found = self.summary.get("unseen") or []
        return [
            entry for entry in found if (entry["corpus"], entry["feature"]) == wanted
        ]

    def leading(self, experiment: Experiment) -> list[str]:
        """Return the systems that are shown where a few have to do."""
        systems = (BALANCED, self.emoq, CAPACITY_CONTROL)
        return [system for system in systems if system in experiment.systems]

    def fold_recalls(
        self, experiment: Experiment, rate: str, system: str
    ) -> dict[str, list[float]]:
        """Return the recall of each emotion in each test fold, averaged over seeds.

        Folds in which an emotion has no clip are left out.
        """
        path, wanted = self.path / CONDITIONS, (experiment.name, rate, system)
        seeds: dict[str, list[list[float]]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for entry in (parse_json(line, path) for line in lines):
            if (entry["experiment"], entry["rate"], entry["system"]) == wanted:
                metrics = entry["heads"].get(MAIN_HEAD, {})
                recalls = [metrics.get(RECALL + e, math.nan) for e in self.emotions]
                seeds.setdefault(str(entry["fold"]), []).append(recalls)
        means = {f: [sum(r) / len(r) for r in zip(*rows)] for f, rows in seeds.items()}
        return {f: row for f, row in means.items() if all(map(math.isfinite, row))}


def read_content(path: str | Path) -> Content:
    """Read a study (`summary.json`) or an experiment (`scores.json`).

    Raises
    ------
    FileNotFoundError
        If the directory holds neither.
    ValueError
        If the file is not what was expected.
    """
    path = Path(path)
    for file in (path / SUMMARY, path / SCORES):
        if file.exists():
            return Content(path, Results.read(file).to_json())
    raise FileNotFoundError(
        f"{path} holds neither {SUMMARY} (stage 7) nor {SCORES} (stage 6): give the "
        "directory of a study or of an experiment"
    )
