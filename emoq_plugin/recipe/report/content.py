"""What a report is made from: a study's summary, or an experiment's scores alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.predictions import HEADS
from emoq_plugin.evaluation.results import Results
from emoq_plugin.routing.systems import CONTINUOUS, EMOQ, System

SUMMARY = "summary.json"
SCORES = "scores.json"
MAIN_HEAD = HEADS[0]  # retrained at every rate

Triple = Mapping[str, float | None]


@dataclass(frozen=True)
class Metric:
    """How a metric is shown, and which direction is better."""

    label: str
    percent: bool = False
    higher_is_better: bool = True


METRICS = {
    "macro_f1": Metric("macro-F1", percent=True),
    "uar": Metric("UAR", percent=True),
    "wa": Metric("WA", percent=True),
    "js": Metric("JS", higher_is_better=False),
    "kl": Metric("KL", higher_is_better=False),
    "cosine": Metric("cosine"),
    "cross_entropy": Metric("cross-entropy", higher_is_better=False),
    "top2_set": Metric("top-2 set", percent=True),
    "brier": Metric("Brier", higher_is_better=False),
}


def metric_of(name: str) -> Metric:
    """Find a metric by its name in a summary, `recall/<emotion>` included."""
    if is_recall(name):
        return Metric(f"recall of {name.partition('/')[2]}", percent=True)
    return METRICS[name]


def is_recall(name: str) -> bool:
    """Return whether a metric is `recall/<emotion>`."""
    return name.startswith("recall/")


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


def system_order(system: str) -> tuple:
    """Sort systems: continuous, balanced, Emo-Q and its kin, controls last."""
    control, expert_set, name = System.parse(system, known=False).order
    return (control, expert_set, name != EMOQ, name)


@dataclass
class Experiment:
    """One experiment of a study: what was measured of one corpus and quantizer.

    Attributes
    ----------
    name : str
    facts : mapping
        Its entry in `experiments` of the summary.
    scores, measures, controls, comparisons : list of mapping
        The entries of the summary that belong to it.
    """

    name: str
    facts: Mapping[str, Any]
    scores: list[Mapping[str, Any]] = field(default_factory=list)
    measures: list[Mapping[str, Any]] = field(default_factory=list)
    controls: list[Mapping[str, Any]] = field(default_factory=list)
    comparisons: list[Mapping[str, Any]] = field(default_factory=list)

    @cached_property
    def _bits(self) -> dict[str, float]:
        bits: dict[str, float] = {}
        for entry in (*self.scores, *(m.get("values", {}) | m for m in self.measures)):
            rates = entry.get("bitrate_bps") or {}
            nominal = (as_triple(rates.get("nominal")) or {}).get("mean")
            if entry["rate"] != CONTINUOUS and nominal is not None:
                known = bits.get(entry["rate"], math.inf)
                bits[entry["rate"]] = min(nominal, known)
        return bits

    @property
    def rates(self) -> dict[str, float]:
        """Nominal bit/s of one stream by rate, from the lowest."""
        return dict(sorted(self._bits.items(), key=lambda item: (item[1], item[0])))

    def systems(self, head: str = MAIN_HEAD) -> list[str]:
        """Return the systems that a head scored, continuous left out."""
        found = {s["system"] for s in self.scores if s["head"] == head}
        return sorted(found - {CONTINUOUS}, key=system_order)

    @property
    def heads(self) -> list[str]:
        """Heads at hand, retrained first."""
        found = {s["head"] for s in self.scores}
        return sorted(found, key=[*HEADS, *sorted(found)].index)

    def score(
        self, rate: str, system: str, head: str = MAIN_HEAD
    ) -> Mapping[str, Any] | None:
        """Return the scores of a condition."""
        for s in self.scores:
            same = rate == CONTINUOUS or s["system"] == system
            if same and s["head"] == head and s["rate"] == rate:
                return s
        return None

    def value(
        self, rate: str, system: str, name: str, *, head: str = MAIN_HEAD
    ) -> Triple | None:
        """Return one metric of a condition; `recall/<emotion>` names a recall."""
        score = self.score(rate, system, head)
        entry: Any = (score or {}).get("metrics")
        for part in name.split("/"):
            entry = (entry or {}).get(part)
        return as_triple(entry)

    def bound(self, name: str = "macro_f1", *, head: str = MAIN_HEAD) -> Triple | None:
        """Return a metric of the continuous features."""
        return self.value(CONTINUOUS, CONTINUOUS, name, head=head)

    def bitrate(self, score: Mapping[str, Any]) -> float | None:
        """Nominal bit/s of a condition, route included."""
        rates = score.get("bitrate_bps") or {}
        nominal = (as_triple(rates.get("nominal")) or {}).get("mean")
        side = (as_triple(rates.get("side_info")) or {}).get("mean")
        return None if nominal is None else nominal + (side or 0.0)

    def measure(self, rate: str, system: str, name: str) -> Any:
        """Return an entry of the representation level; `a/b` goes into tables."""
        for m in self.measures:
            if m["rate"] == rate and (rate == CONTINUOUS or m["system"] == system):
                entry: Any = m.get("values")
                for part in name.split("/"):
                    entry = entry.get(part) if isinstance(entry, Mapping) else None
                return entry
        return None

    def difference(
        self,
        rate: str,
        system: str,
        metric: str,
        *,
        reference: str = BALANCED,
        head: str = MAIN_HEAD,
    ) -> Mapping[str, Any] | None:
        """Return the comparison of a system with another, if one was made."""
        key = {"rate": rate, "system": system, "metric": metric, "head": head}
        key["reference"] = reference
        for c in self.comparisons:
            if all(c.get(name) == value for name, value in key.items()):
                return c
        return None


@dataclass
class Content:
    """Everything that a report shows of one directory.

    Attributes
    ----------
    path : Path
    summary : dict
        In the form of `evaluation.results.Results`, whatever file it came from.
    complete : bool
        False when there are scores but no summary.
    """

    path: Path
    summary: dict[str, Any]
    complete: bool

    @property
    def title(self) -> str:
        """Name of the study or experiment."""
        return str(self.summary["name"] or self.path.name)

    @property
    def emotions(self) -> list[str]:
        """Class order."""
        return list(self.summary.get("emotions") or [])

    @cached_property
    def experiments(self) -> list[Experiment]:
        """Experiments in the order of the summary."""
        facts = {e["name"]: e for e in self.summary.get("experiments") or []}
        entries = ("scores", "measures", "controls", "comparisons")
        for entry in entries:
            for item in self.summary.get(entry) or []:
                facts.setdefault(item["experiment"], {"name": item["experiment"]})
        return [
            Experiment(
                name,
                fact,
                **{
                    entry: [
                        item
                        for item in self.summary.get(entry) or []
                        if item["experiment"] == name
                    ]
                    for entry in entries
                },
            )
            for name, fact in facts.items()
        ]

    @cached_property
    def headline_system(self) -> str:
        """Return the system that represents Emo-Q: by distortion where it exists."""
        if named := (self.summary.get("config") or {}).get("emoq"):
            return named
        systems = {a for e in self.experiments for a in e.systems()}
        candidates = sorted(systems - {BALANCED}, key=system_order)
        return EMOQ if EMOQ in systems else next(iter(candidates), EMOQ)


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
    if (path / SUMMARY).exists():
        summary = Results.read(path / SUMMARY).to_json()
        return Content(path, summary, complete=True)
    if (path / SCORES).exists():
        scores = Results.read(path / SCORES).to_json()
        return Content(path, scores, complete=False)
    raise FileNotFoundError(
        f"{path} holds neither {SUMMARY} (stage 7) nor {SCORES} (stage 6): give the "
        "directory of a study or of an experiment"
    )


def result_file(path: str | Path) -> Path:
    """Return the file that `read_content` reads."""
    summary = Path(path) / SUMMARY
    return summary if summary.exists() else Path(path) / SCORES
