"""What a training configuration of the system says."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from emoq_plugin.data.folds import ALL
from emoq_plugin.files import check_options as check_names
from emoq_plugin.files import check_types
from emoq_plugin.presets import find_config
from emoq_plugin.recipe.stages.check_options import (
    CONFIGS,
    RecipeOptions,
    check_and_find,
)
from emoq_plugin.recipe.stages.fold_inputs import FoldInputs
from emoq_plugin.units.rates import Rate

# The stages of ser2.sh whose options are looked at before any work.
FIRST, LAST = 1, 6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of a recipe; what they mean is said in `conf/training.yaml`."""

    corpus: str
    synthetic: bool
    set_name: str
    create_dataset: dict[str, Any]
    recipe_dir: str
    data_dir: str
    dump_dir: str
    exp_tag: str
    exp_dir: str
    log_dir: str
    nj: int
    ngpu: int
    first_fold: int
    last_fold: int | None
    sample_rate: int
    min_seconds: float
    max_seconds: float
    on_error: str
    multi_channel: str
    allow_pipe: bool
    feature_config: str
    model_dir: str | None
    quantizer_config: str
    rates: list[str]
    systems: list[str]
    route_depth: int
    subwords: int
    crossfit: int
    train_on: str
    seed: int
    ser_backend: list[str]
    probe_config: str
    ser_config: str
    ser_args: str
    espnet_rate: str
    espnet_systems: list[str]
    pack_rate: str
    pack_system: str
    pack_fold: int | str

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Settings":
        """Check the values of a configuration.

        Raises
        ------
        ValueError
            For an unknown, missing or wrong option, as of another ESPnet.
        """
        where = "training configuration"
        known = {field.name for field in fields(cls)}
        check_names(dict(values), known, where)
        if absent := sorted(known - set(values)):
            raise ValueError(
                f"{where}: option '{absent[0]}' is missing: give launch() the defaults "
                f"of {__package__} as conf_package"
            )
        hints = get_type_hints(cls)
        check_types(values, hints, where)
        # Fingerprints know 60 from 60.0, which is what a command line gives.
        floats = {n: float(v) for n, v in values.items() if hints[n] is float}
        found = cls(**{**values, **floats})
        found._check()
        return found

    def _check(self) -> None:
        """Check values as ser2.sh does."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        shared = {f.name for f in fields(RecipeOptions)} & set(own)
        given = {name: own[name] for name in shared}
        given |= {name: self.file(name) for name in CONFIGS if name in shared}
        given |= {n: tuple(v) for n, v in given.items() if isinstance(v, list)}
        given["model_dir"] = self.model
        counts = ("nj", "first_fold", "sample_rate", "route_depth")
        for name, least in [*((n, 1) for n in counts), ("ngpu", 0), ("seed", 0)]:
            if own[name] < least:
                raise ValueError(f"{name} is {own[name]}, expected at least {least}")
        check_and_find(
            RecipeOptions(stage=FIRST, stop_stage=LAST, tag=self.exp_tag, **given)
        )

    def file(self, name: str) -> Path:
        """Find the file of an option of `CONFIGS`."""
        return find_config(getattr(self, name), CONFIGS[name], places=[self.recipe_dir])

    @property
    def model(self) -> Path | None:
        """Directory of the encoder's model."""
        return Path(self.model_dir) if self.model_dir else None

    @property
    def device(self) -> str:
        """Where features and codebooks are computed."""
        return "cuda" if self.ngpu else "cpu"

    @property
    def all_rates(self) -> tuple[Rate, ...]:
        """Rates as stages take them."""
        return tuple(map(Rate.parse, self.rates))

    @property
    def data(self) -> Path:
        """Directory of data, class order and folds."""
        return Path(self.data_dir)

    @property
    def emotions(self) -> Path:
        """Class order."""
        return self.data / "emotions"

    @property
    def raw(self) -> Path:
        """The formatted set."""
        return Path(self.dump_dir) / "raw" / self.set_name

    @property
    def features(self) -> Path:
        """The features of the set."""
        return Path(self.dump_dir) / Path(self.feature_config).stem / self.set_name

    @property
    def exp(self) -> Path:
        """The experiment."""
        return Path(self.exp_dir)

    def quantizer(self, fold: str) -> Path:
        """Return where the codebooks of a fold are."""
        return self.exp / (fold if fold == ALL else f"fold{fold}") / "quantizer"

    def units(self, fold: str) -> Path:
        """Return where the units of a fold are."""
        place = Path(self.dump_dir) / "units" / self.exp_tag
        return place / f"fold{fold}" / self.set_name

    def ser(self, fold: str, backend: str) -> Path:
        """Return where the predictions of a fold are."""
        return self.exp / f"fold{fold}" / "ser" / backend

    def inputs(self, fold: str) -> FoldInputs:
        """Return what stages read of a fold."""
        return FoldInputs(
            data_dir=self.raw,
            emotions=self.emotions,
            folds=self.data / "folds",
            fold=fold,
        )

    @property
    def folds(self) -> list[str]:
        """Folds to run.

        Raises
        ------
        FileNotFoundError
            If there are none yet.
        ValueError
            If one is asked for that does not exist.
        """
        place = self.data / "folds"
        there = [p for p in place.glob("*") if p.is_dir() and p.name.isdigit()]
        if not there:
            raise FileNotFoundError(
                f"{place} is missing: run the stage create_dataset first"
            )
        last = self.last_fold or len(there)
        if not self.first_fold <= last <= len(there):
            raise ValueError(
                f"first_fold {self.first_fold}, last_fold {last}: {place} has "
                f"{len(there)} folds"
            )
        return [str(fold) for fold in range(self.first_fold, last + 1)]
