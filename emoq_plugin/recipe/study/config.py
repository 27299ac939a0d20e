"""Options of the files of `conf/study`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.files import check_options, check_types, errors_of, read_options
from emoq_plugin.recipe.stages.fold_inputs import TrainOn, conditions
from emoq_plugin.routing.systems import (
    CONTINUOUS,
    EMOQ,
    EMOQ_ROLE,
    SPECIFIC,
    System,
    expert_sets_of,
)
from emoq_plugin.units.rates import Rate


@dataclass(frozen=True)
class Figure:
    """One of them, an entry of `figures` in a file of `conf/study`.

    Attributes
    ----------
    name : str
    of : str
        ``<rate>/<system>`` of the main quantizer, whose macro-F1 is meant.
    minus : str, optional
        ``<rate>/<system>`` or ``continuous``, which is subtracted.
    unseen : bool, default=False
        Instead of macro-F1 the F1 of classes that nothing was learned from, see
        `left_out_classes`.
    least : float, optional
        Points that are to be reached.
    low : float, optional
        What the lower end of the interval is to be above.
    """

    name: str
    of: str
    minus: str | None = None
    unseen: bool = False
    least: float | None = None
    low: float | None = None

    @property
    def conditions(self) -> list[str]:
        """The conditions that it is made of."""
        return [self.of, *([self.minus] if self.minus else [])]


@dataclass(frozen=True)
class StudyConfig:
    """Options of a study, `conf/study/*.yaml`.

    Attributes
    ----------
    features : list of str
        Names of `conf/features/<name>.yaml`.
    quantizers : dict
        By name, the main one first: `seeds` (default [0]), `base` (a name of
        `conf/quantizer/<base>.yaml`, by default the same name), `rates` and `systems`
        (in place of the study's), and whatever differs from that file. Groups of
        experts follow from the systems.
    rates : list of str, or dict of str to list of str
        `<K>x<L>`, for all features or by feature.
    systems : list of str
        As in stage 5, and controls `<system>+<system>` (see `probe_systems`).
    emoq : str, default="specific-distortion"
        The system that is Emo-Q where one is needed.
    train_on : {"train", "train+valid"}, default="train"
        With `train+valid` everything is learned a second time without the validation
        speakers, for the choice of one setting.
    crossfit, route_depth : int
        As in stage 4.
    probe : str, default="probe"
        Name of `conf/ser/<name>.yaml`.
    select_below : float, default=305
        Bits/s (nominal, all streams, with the route) that a setting chosen by
        validation speakers may have: 64x1 at 50 Hz and a route.
    learn_on : list of str
        Corpora (recipes of `egs2`) that are learned from together; empty: the recipe's
        own corpus in its own folds.
    test_on : dict of str to list of str
        With `learn_on`: corpora that are tested on, with the classes that they have.
    max_per_emotion : int, default=500
        Clips of a class that a corpus of `test_on` is cut to.
    n_resamples : int, default=1000
        Of the bootstrap over speakers.
    left_out_classes : list of str
        Each in turn is left out of codebooks, clip codes and routers of the main
        quantizer (its first seed), while the heads learn from all classes: what is kept
        of an emotion that nothing was learned from.
    left_out_rates, left_out_systems : list of str
        For that; by default all rates, and all systems that look at no label.
    figures : list of dict
        What the study is to reach, each with the fields of `Figure`.
    """

    features: list[str]
    quantizers: dict[str, dict[str, Any]]
    rates: list[str] | dict[str, list[str]]
    systems: list[str]
    emoq: str = EMOQ
    train_on: str = "train"
    crossfit: int = 0
    route_depth: int = 1
    probe: str = "probe"
    select_below: float = 305.0
    learn_on: list[str] = field(default_factory=list)
    test_on: dict[str, list[str]] = field(default_factory=dict)
    max_per_emotion: int = 500
    n_resamples: int = 1000
    left_out_classes: list[str] = field(default_factory=list)
    left_out_rates: list[str] = field(default_factory=list)
    left_out_systems: list[str] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: str | Path) -> "StudyConfig":
        """Read and check a YAML file.

        Raises
        ------
        ValueError
            For an unknown or missing option, or a value that no stage knows.
        """
        fields = cls.__dataclass_fields__
        values = read_options(path, fields)
        required = ("features", "quantizers", "rates", "systems")
        if absent := [name for name in required if not values.get(name)]:
            raise ValueError(f"{path}: option '{absent[0]}' is missing or empty")
        check_types(values, get_type_hints(cls), path)
        config = cls(**values)
        try:
            config._check()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return config

    def _check(self) -> None:
        from emoq_plugin.learning.fit_bank import QuantizerConfig

        for feature in self.features:
            for rate in self.rates_of(feature):
                Rate.parse(rate)
        self._check_parts([*self.systems, self.emoq], self.systems)
        if self.left_out_classes:
            self._check_left_out()
        for number, entry in enumerate(self.figures, 1):
            with errors_of(f"figures, {number}"):
                self._check_figure(entry)
        if self.train_on not in (known := get_args(TrainOn)):
            raise ValueError(f"train_on '{self.train_on}', expected one of {known}")
        # Groups of experts follow from the systems.
        known = {"base": str, "seeds": list[int], **get_type_hints(QuantizerConfig)}
        known |= {"rates": list[str], "systems": list[str]}
        del known["expert_sets"]
        for name, entry in self.quantizers.items():
            where = f"quantizers: {name}"
            check_options(entry, known, where)
            check_types(entry, known, where)
            for rate in entry.get("rates", ()):
                Rate.parse(rate)
            with errors_of(where):
                self._check_parts(self.systems_of(name), self.systems_of(name))
        if bool(self.learn_on) != bool(self.test_on):
            raise ValueError("learn_on and test_on belong together: give both or none")
        if both := set(self.learn_on) & set(self.test_on):
            raise ValueError(f"{sorted(both)} in learn_on and in test_on")

    def _check_left_out(self) -> None:
        if self.learn_on:
            raise ValueError(
                "left_out_classes is for the folds of one corpus, found learn_on"
            )
        main = next(iter(self.quantizers))
        for feature in self.features:
            rates = set(self.rates_of(feature, main))
            if other := sorted(set(self.left_out_rates) - rates):
                raise ValueError(
                    f"left_out_rates: '{other[0]}' is none of quantizer '{main}'"
                )
        systems = self.systems_left_out
        if other := sorted(set(systems) - set(self.systems_of(main))):
            raise ValueError(
                f"left_out_systems: '{other[0]}' is none of quantizer '{main}'"
            )
        with errors_of("left_out_systems"):
            self._check_parts([*systems, self.emoq], systems)
        for name in systems:
            if any(part.needs_labels for part in System.parse(name).encoded):
                raise ValueError(
                    f"left_out_systems: '{name}' routes by the true class, and a class "
                    "that is left out has no expert"
                )

    def _check_figure(self, entry: dict[str, Any]) -> None:
        hints = get_type_hints(Figure)
        check_options(entry, hints, "figure")
        check_types(entry, hints, "figure")
        if absent := [name for name in ("name", "of") if name not in entry]:
            raise ValueError(f"'{absent[0]}' is missing")
        figure, main = Figure(**entry), next(iter(self.quantizers))
        if figure.unseen and not self.left_out_classes:
            raise ValueError("unseen classes need left_out_classes")
        known = self.left_out_rates if figure.unseen else []
        rates = known or self.rates_of(self.features[0], main)
        systems = self.systems_left_out if figure.unseen else self.systems_of(main)
        pairs = conditions(map(Rate.parse, rates), map(System.parse, systems))
        there = [f"{rate}/{system.name}" for rate, system in pairs]
        there += [] if figure.unseen else [CONTINUOUS]
        for condition in figure.conditions:
            if condition not in there:
                raise ValueError(
                    f"'{condition}' is none of the study's <rate>/<system>, expected "
                    f"one of {' '.join(there)}"
                )

    @property
    def systems_left_out(self) -> list[str]:
        """Systems that are scored on classes that nothing was learned from."""
        return self.left_out_systems or [
            name
            for name in self.systems_of(next(iter(self.quantizers)))
            if not any(part.needs_labels for part in System.parse(name).encoded)
        ]

    def _check_parts(self, names: Sequence[str], systems: Sequence[str]) -> None:
        """Refuse names whose parts are not among some systems."""
        for name in names:
            for part in System.parse(name).encoded:
                if part.name not in systems:
                    raise ValueError(
                        f"system '{part.name}' of '{name}' is not among the systems"
                    )
        if BALANCED not in systems:
            raise ValueError(
                "system 'balanced', which others are compared with, is absent"
            )

    def rates_of_job(self, job: "Job") -> list[str]:
        """Return the rates of a job."""
        own = self.left_out_rates if job.left_out else []
        return own or self.rates_of(job.feature, job.quantizer)

    def systems_of_job(self, job: "Job") -> list[str]:
        """Return the systems of a job."""
        if job.left_out:
            return self.systems_left_out
        return self.systems_of(job.quantizer)

    def rates_of(self, feature: str, quantizer: str | None = None) -> list[str]:
        """Return the rates of a feature, or those that a quantizer has.

        Raises
        ------
        ValueError
            If rates are by feature and this one has none.
        """
        if own := self.quantizers.get(quantizer, {}).get("rates"):
            return own
        if isinstance(self.rates, Mapping):
            if feature not in self.rates:
                raise ValueError(f"rates: no rates of feature '{feature}'")
            return list(self.rates[feature])
        return list(self.rates)

    def systems_of(self, quantizer: str) -> list[str]:
        """Return the systems that a quantizer has."""
        return self.quantizers[quantizer].get("systems") or self.systems

    def candidates(self, quantizer: str | None = None) -> list[str]:
        """Return systems that may be chosen as Emo-Q: routed, and no controls."""
        named = [*self.quantizers] if quantizer is None else [quantizer]
        systems = dict.fromkeys(s for name in named for s in self.systems_of(name))
        return [s for s in systems if System.parse(s).role == EMOQ_ROLE]

    def cheap_rates(
        self, feature: str, quantizer: str, frame_rate_hz: float
    ) -> list[str]:
        """Return the rates that may be chosen, the cheapest first.

        One stream is counted: what a system adds is known when it has been encoded.
        """
        rates = map(Rate.parse, self.rates_of(feature, quantizer))
        rates = sorted(rates, key=lambda rate: rate.bits)
        return [str(r) for r in rates if frame_rate_hz * r.bits <= self.select_below]


@dataclass(frozen=True)
class Job:
    """What is learned, encoded and probed in one go: all rates and systems.

    Attributes
    ----------
    corpus, feature, quantizer : str
    seed : int
    folds : tuple of str
        One fold; or, learned once for all, the test sets of a cross-corpus study.
    left_out : str
        Class that nothing but the heads is learned from; empty for none.
    """

    corpus: str
    feature: str
    quantizer: str
    seed: int
    folds: tuple[str, ...]
    left_out: str = ""

    @property
    def experiment(self) -> str:
        """Name without the seed, under which seeds and folds are pooled."""
        without = f"-without_{self.left_out}" if self.left_out else ""
        return f"{self.corpus}-{self.feature}-{self.quantizer}{without}"

    @property
    def directory(self) -> str:
        """Name of the experiment's directory."""
        return f"{self.experiment}-s{self.seed}"

    @property
    def name(self) -> str:
        """Name in lists and for `--only`."""
        fold = f"/fold{self.folds[0]}" if len(self.folds) == 1 else ""
        return self.directory + fold


def merged_options(
    base: Mapping[str, Any],
    entry: Mapping[str, Any],
    *,
    systems: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Return a quantizer's options: those of a base, what differs, sets and seed.

    Parameters
    ----------
    base : mapping
        Content of `conf/quantizer/<base>.yaml`.
    entry : mapping
        Of `quantizers` in a study.
    systems : sequence of str
        Whose expert sets are learned.
    seed : int
    """
    named = expert_sets_of(map(System.parse, systems))
    of_study = ("base", "seeds", "rates", "systems")
    own = {k: v for k, v in entry.items() if k not in of_study}
    learning = (base.get("learning") or {}) | own.get("learning", {})
    return {
        **base,
        **own,
        # The linear router is fitted to `specific`, whatever the systems are.
        "expert_sets": list(dict.fromkeys([BALANCED, SPECIFIC, *named])),
        "learning": learning | {"seed": seed},
    }
