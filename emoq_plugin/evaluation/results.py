"""Results as files hold them: `scores.json` of a recipe, `summary.json` of a study.

Both have the form of `Results`. What a study has beyond a recipe (measures, choices,
missing jobs) is in fields that a recipe leaves empty.
"""

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, get_type_hints

from emoq_plugin.evaluation.predictions import RETRAINED, key_of
from emoq_plugin.files import check_types, read_json, write_json
from emoq_plugin.routing.systems import is_control

# Of the form. Files of another one are made again by the stage that wrote them.
VERSION = 2
# Value on all utterances, ends of its interval over speakers (None with one speaker).
Triple = dict[str, Any]


def rates_by_bits(
    rates: Iterable[tuple[str, Mapping[str, float] | None]],
) -> list[str]:
    """Return the rates of units by the bit/s of their cheapest condition.

    Examples
    --------
    >>> rates_by_bits([("64x1", {"nominal": 300}), ("4x2", {"nominal": 200})])
    ['4x2', '64x1']
    """
    bits: dict[str, float] = {}
    for rate, found in rates:
        if found is not None:
            bits[rate] = min(found["nominal"], bits.get(rate, math.inf))
    return sorted(bits, key=lambda rate: (bits[rate], rate))


@dataclass(frozen=True)
class ExperimentInfo:
    """One corpus, feature and quantizer, named in its scores.

    Attributes
    ----------
    name, corpus : str
    feature, quantizer : str, optional
    seeds : list of int
    folds : list of str
        Test folds that are pooled.
    n_utterances, n_labelled, n_speakers : int
        That are tested.
    scored_emotions : list of str
        Classes that occur among the labels: those of the hard metrics.
    soft_targets : {"votes", "one-hot"}
    no_interval : str, optional
        Why there are neither intervals nor tests.
    leakage : list of str
        What the encoder may have heard of the corpus.
    """

    name: str
    corpus: str
    folds: list[str]
    n_utterances: int
    n_speakers: int
    seeds: list[int] = field(default_factory=list)
    feature: str | None = None
    quantizer: str | None = None
    n_labelled: int | None = None
    scored_emotions: list[str] = field(default_factory=list)
    soft_targets: str = "one-hot"
    no_interval: str | None = None
    leakage: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Score:
    """One condition: a rate, a system and a head, pooled over folds and seeds.

    Attributes
    ----------
    experiment, rate, system, head : str
    bitrate_bps : dict of str to float, optional
        `nominal`, `entropy`, `side_info`; None for continuous features.
    metrics : dict
        By metric `{"mean", "low", "high", "by_seed"}`; `recall` by class.
    ambiguity : dict, optional
        Where raters voted: the metrics of clips that they agree on (`low`) and of
        others (`high`), each with `n_utterances`.
    confusion : list of C lists of C int, optional
        True by predicted class, counted over seeds.
    ratings : dict, optional
        CCC by dimension, as the metrics, where the corpus has ratings and the head is
        a retrained probe.
    """

    experiment: str
    rate: str
    system: str
    head: str
    bitrate_bps: dict[str, Any] | None
    metrics: dict[str, Any]
    ambiguity: dict[str, Any] | None = None
    confusion: list[list[int]] | None = None
    ratings: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """Name of the condition, see `key_of`."""
        return key_of(self.rate, self.system, self.head)

    @property
    def is_control(self) -> bool:
        """Whether the system only helps to read others."""
        return is_control(self.system)


@dataclass(frozen=True)
class Comparison:
    """Paired difference of two systems in one metric, at one rate and head.

    Attributes
    ----------
    family : str
        Comparisons whose p-values are adjusted together.
    experiment, rate, head, system, reference, metric : str
        `system` minus `reference`.
    difference : dict
        `{"mean", "low", "high"}`.
    p, p_holm : float, optional
        Of the exchange test and after Holm; None where nothing was tested.
    """

    family: str
    experiment: str
    rate: str
    head: str
    system: str
    reference: str
    metric: str
    difference: Triple
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Best:
    """The best system of a kind at one rate; `answers` says how it is chosen.

    Attributes
    ----------
    experiment, rate, head : str
    role : str
        Kind of system, see `routing.systems.System.role`.
    systems : dict of str to str
        By test fold.
    bitrate_bps : float, optional
        Nominal, all streams and side information.
    macro_f1 : dict
        `{"mean", "low", "high", "by_seed"}`.
    differences : dict of str to dict
        This minus the best of another role: `{"mean", "low", "high"}` in macro-F1.
    """

    experiment: str
    rate: str
    head: str
    role: str
    systems: dict[str, str]
    bitrate_bps: float | None
    macro_f1: Triple
    differences: dict[str, Triple] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """All that is measured in an experiment of a recipe, or in a study of several.

    Attributes
    ----------
    name : str
        Tag of the experiment, or name of the study.
    corpus : str
    synthetic : bool
        No human spoke the corpus.
    emotions : list of C str
        Class order.
    experiments : list of ExperimentInfo
        One in a recipe.
    scores : list of Score
    comparisons : list of Comparison
    best : list of Best
        For each experiment, rate (by bits) and role.
    command : str
    environment : dict of str to str
        Versions.
    config : dict
        Configuration of the study; `feature` and `quantizer` of a recipe.
    interval : dict
        `level`, `n_resamples` and `seed` of the bootstrap over speakers.
    audio : dict
        Sampling rates and bands of the recordings, where stage 2 counted them.
    jobs, conditions : int
        Jobs of the study; lines of conditions.jsonl.
    seconds : float
        That the finished jobs took.
    missing : list of dict
        `job` and `why`.
    measures, controls : list of dict
        Of the representation, by experiment, rate and system (see `measures`); relative
        losses of emotion, phones and speakers.
    rate_saving, selected : dict, optional
        See `recipe.study.headline`.
    examples : list of dict
        Posteriors of a few clips.
    unseen : list of dict
        What is kept of classes that nothing was learned from, by corpus and feature;
        see `recipe.study.unseen`.
    figures : list of dict
        What the study was to reach, and what it reached; see `recipe.study.figures`.
    further : list of dict
        `corpus`, `feature`, `rate_saving`, `selected` and `examples` of others than the
        first.
    """

    name: str
    corpus: str
    synthetic: bool
    emotions: list[str]
    experiments: list[ExperimentInfo]
    scores: list[Score]
    comparisons: list[Comparison] = field(default_factory=list)
    best: list[Best] = field(default_factory=list)
    command: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    interval: dict[str, Any] = field(default_factory=dict)
    audio: dict[str, Any] = field(default_factory=dict)
    jobs: int | None = None
    conditions: int | None = None
    seconds: float | None = None
    missing: list[dict[str, str]] = field(default_factory=list)
    measures: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    rate_saving: dict[str, Any] | None = None
    selected: dict[str, Any] | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)
    unseen: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    further: list[dict[str, Any]] = field(default_factory=list)

    def score(self, rate: str, system: str, head: str = RETRAINED) -> Score | None:
        """Return the first experiment's scores of a condition."""
        key = key_of(rate, system, head)
        return next((score for score in self.scores if score.key == key), None)

    def difference(self, score: Score, reference: str, metric: str) -> Triple | None:
        """Return a condition minus another system at its rate and head, if compared."""
        same = (score.experiment, score.rate, score.head, score.system)
        for c in self.comparisons:
            if (c.experiment, c.rate, c.head, c.system) == same and (
                (c.reference, c.metric) == (reference, metric)
            ):
                return c.difference
        return None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the version first."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any, where: str | Path) -> Self:
        """Read what `to_json` gives.

        Parameters
        ----------
        value : dict
        where : str or Path
            For the messages.

        Raises
        ------
        ValueError
            For another version, an unknown or missing entry, or one of another type.
        """
        if not isinstance(value, dict):
            raise ValueError(
                f"{where}: found {type(value).__name__}, expected an object"
            )
        entries = dict(value)
        if (found := entries.pop("version", None)) != VERSION:
            raise ValueError(
                f"{where}: results of version {found}, expected {VERSION}: run the "
                "stage that wrote it again (6 for scores.json, 7 for summary.json)"
            )
        for name, kind in _LISTS.items():
            check_types({name: entries.get(name, [])}, {name: list}, where)
            entries[name] = [
                _record(kind, entry, f"{where}: {name}[{n}]")
                for n, entry in enumerate(entries.get(name, []))
            ]
        return _record(cls, entries, where)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file; see `from_json`."""
        return cls.from_json(read_json(path), path)

    def write(self, path: str | Path) -> None:
        """Write a file, atomically."""
        write_json(path, self.to_json())


_LISTS = {
    "experiments": ExperimentInfo,
    "scores": Score,
    "comparisons": Comparison,
    "best": Best,
}


def _record[T](kind: type[T], value: Any, where: str | Path) -> T:
    """Make a dataclass of a JSON object, whose entries it checks."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: found {reprlib.repr(value)}, expected an object")
    known = fields(kind)
    needed = {f.name for f in known if f.default is f.default_factory is MISSING}
    if lacking := sorted(needed - set(value)):
        raise ValueError(f"{where}: '{lacking[0]}' is missing, found {sorted(value)}")
    names = [f.name for f in known]
    if unknown := sorted(set(value) - set(names)):
        raise ValueError(f"{where}: unknown entry '{unknown[0]}', expected {names}")
    check_types(value, get_type_hints(kind), where)
    return kind(**value)
