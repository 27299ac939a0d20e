"""What stages 4 to 7 read of a fold, and what keeps its test part out of learning."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from emoq_plugin.data.folds import ALL, PARTS, Fold, read_fold
from emoq_plugin.progress import progress
from emoq_plugin.recipe.stage import MARKER, read_marker
from emoq_plugin.units.rates import NO_FRAMES, Rate

if TYPE_CHECKING:
    from torch import Tensor

    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.data.directory import DataDirectory
    from emoq_plugin.routing.systems import System
    from emoq_plugin.speech.store import FeatureStore

# Parts that codebooks and heads learn from.
TrainOn = Literal["train", "train+valid"]
# Beside a bank: those learned without some of its training speakers, to route them.
CROSSFIT = "crossfit"
# Beside the banks: speaker-held-out posteriors of training clips, a file a router.
HELD_OUT = "held_out_posteriors"
# In the name of a bank, before the bits of its clip code.
CLIP = "+clip"


@dataclass(frozen=True, kw_only=True)
class FoldInputs:
    """Where a fold is.

    Attributes
    ----------
    data_dir : Path
        Formatted set, dump/raw/<set>.
    emotions : Path
        Class order, data/emotions.
    folds : Path
        Directory of the folds, data/folds.
    fold : str
        Name of the fold; all, in stage 4: every clip of every fold is learned from.
    """

    data_dir: Path
    emotions: Path
    folds: Path
    fold: str

    @property
    def files(self) -> list[Path]:
        """Inputs of a `Stage` that reads the fold."""
        lists = [self.folds / self.fold / part for part in PARTS]
        if self.fold == ALL:
            lists = [p for part in PARTS for p in self.folds.glob(f"*/{part}")]
        return [self.data_dir, self.emotions, *lists]

    def open(
        self, features: "Path | FeatureStore | None" = None, *, tests: bool = True
    ) -> "OpenFold":
        """Read labels and lists, and open the features.

        Parameters
        ----------
        features : Path or FeatureStore, optional
            dump/<feature>/<set>, or what was opened already.
        tests : bool, default=True
            Whether the test part is needed.

        Raises
        ------
        ValueError
            If there is no such fold, a speaker is in two parts of it, or nothing is
            left to test.
        """
        from emoq_plugin.data.directory import DataDirectory, read_emotions

        if tests and self.fold == ALL:
            raise ValueError(
                f"--fold {ALL}: every clip was learned from and none is left to test, "
                f"expected a fold of {self.folds}"
            )
        emotions = read_emotions(self.emotions)
        data = DataDirectory.read(self.data_dir, emotions)
        if isinstance(features, Path):
            from emoq_plugin.speech.store import FeatureStore

            features = FeatureStore(features)
        return OpenFold(
            emotions, data, read_fold(self.folds, self.fold, data), features
        )


@dataclass(frozen=True, kw_only=True)
class ConditionOptions:
    """Options of a stage that works on every system at every rate of a fold.

    Attributes
    ----------
    inputs : FoldInputs
    quantizer_dir : Path
        exp/<tag>/fold<n>/quantizer.
    rates : tuple of Rate
        <K>x<L> ..., as in stage 4.
    systems : tuple of str
        Balanced, <expert set>-<router> ...
    """

    inputs: FoldInputs
    quantizer_dir: Path
    rates: tuple[Rate, ...]
    systems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UnitOptions(ConditionOptions):
    """Options of a stage that reads units.

    Attributes
    ----------
    units_dir : Path
        dump/units/<tag>/fold<n>/<set>.
    """

    units_dir: Path


@dataclass
class OpenFold:
    """A fold that was read.

    Attributes
    ----------
    emotions : list of str
        Class order.
    data : DataDirectory
    fold : Fold
    features : FeatureStore, optional
    """

    emotions: list[str]
    data: "DataDirectory"
    fold: Fold
    features: "FeatureStore | None" = None

    def train(self, train_on: TrainOn) -> list[str]:
        """Return the clips that are learned from."""
        valid = self.fold.valid if train_on == "train+valid" else ()
        return [*self.fold.train, *valid]

    def bank(self, directory: Path) -> "CodebookBank":
        """Read a bank that may encode the features of this fold.

        Raises
        ------
        ValueError
            If it was learned from other features, or from speakers of the test part.
        """
        from emoq_plugin.core.bank import CodebookBank

        bank = CodebookBank.from_pretrained(directory)
        check_no_leak(bank.card, self.fold, self.data, str(directory))
        spec = self.features.specification if self.features is not None else None
        if spec and bank.card["feature_fingerprint"] != spec.fingerprint():
            learned = bank.card["feature"]
            raise ValueError(
                f"{directory} was learned from other features ({learned['encoder']}, "
                f"{learned['dimension']} dimensions) than the set has "
                f"({spec.encoder}, {spec.dimension} dimensions)"
            )
        return bank

    def banks(
        self, quantizer_dir: Path, rates: Iterable[Rate], systems: "Iterable[System]"
    ) -> "Iterator[tuple[CodebookBank, list[tuple[Rate, System]]]]":
        """Yield the banks that serve some conditions, each with its conditions."""
        by_bank: dict[Path, list[tuple[Rate, System]]] = {}
        for rate, system in conditions(rates, systems):
            bank = find_bank(quantizer_dir, rate, system.clip_bits)
            by_bank.setdefault(bank, []).append((rate, system))
        for directory, served in progress(by_bank.items(), len(by_bank), "banks"):
            yield self.bank(directory), served

    @cached_property
    def _means(self) -> "dict[str, Tensor]":
        from emoq_plugin.learning.fit_bank import speaker_means

        return speaker_means(self.features, self.data.speaker)

    def speaker_means(self, bank: "CodebookBank") -> "dict[str, Tensor]":
        """Return mean frames by speaker, where the normalisation asks for them."""
        return self._means if bank.normalization.kind == "speaker" else {}

    def mean_of_speaker(self, bank: "CodebookBank") -> "Callable[[str], Tensor | None]":
        """Return `speaker_means` as a function of the clip."""
        means = self.speaker_means(bank)
        return lambda clip: means.get(self.data.speaker[clip])


def conditions(
    rates: "Iterable[Rate]", systems: "Iterable[System]"
) -> "list[tuple[Rate, System]]":
    """Return every system at every rate; without frame codes it has one condition."""
    systems = list(systems)
    framed = [system for system in systems if system.expert_set]
    alone = [system for system in systems if not system.expert_set]
    return [*product(rates, framed), *product([NO_FRAMES], alone)]


@dataclass(frozen=True)
class BankName:
    """What a bank is learned for: its directory is called so.

    Attributes
    ----------
    rate : Rate
    clip_bits : int, optional
        Of the clip code that its frame codes are on top of.

    Examples
    --------
    >>> str(BankName.parse("64x4+clip32"))
    '64x4+clip32'
    >>> BankName.parse("64x4").serves(Rate(64, 1), None)
    True
    """

    rate: Rate
    clip_bits: int | None = None

    @classmethod
    def parse(cls, text: str) -> "BankName":
        """Read ``<K>x<L>`` or ``<K>x<L>+clip<bits>``."""
        rate, _, bits = text.partition(CLIP)
        return cls(Rate.parse(rate), int(bits) if bits else None)

    def __str__(self) -> str:
        beside = "" if self.clip_bits is None else f"{CLIP}{self.clip_bits}"
        return f"{self.rate}{beside}"

    def serves(self, rate: Rate, clip_bits: int | None) -> bool:
        """Return whether the bank holds codebooks of a rate."""
        return self.clip_bits == clip_bits and self.rate.serves(rate)


def find_bank(
    quantizer_dir: str | Path, rate: Rate, clip_bits: int | None = None
) -> Path:
    """Find the bank that serves a rate: of those with enough levels the smallest.

    Parameters
    ----------
    quantizer_dir : str or Path
    rate : Rate
    clip_bits : int, optional
        Of the clip code that goes with it.

    Raises
    ------
    FileNotFoundError
        If nothing was learned there.
    ValueError
        If no bank serves the rate, with those that were learned.
    """
    marker = Path(quantizer_dir) / MARKER
    if not marker.is_file():
        state = "has no finished result" if marker.parent.is_dir() else "is missing"
        raise FileNotFoundError(f"{quantizer_dir} {state}: run the earlier stage first")
    banks = [BankName.parse(name) for name in read_marker(marker).get("banks", ())]
    fitting = [bank for bank in banks if bank.serves(rate, clip_bits)]
    if not fitting:
        raise ValueError(
            f"{quantizer_dir} has no codebooks for the rate "
            f"{BankName(rate, clip_bits)}, these were learned: "
            f"{' '.join(map(str, banks))}"
        )
    return Path(quantizer_dir) / str(min(fitting, key=lambda bank: bank.rate))


def check_no_leak(
    card: Mapping[str, Any], fold: Fold, data: "DataDirectory", where: str
) -> None:
    """Refuse to test on speakers that a quantizer was learned from.

    Parameters
    ----------
    card : mapping
        Of the bank, with ``training_speakers``.
    fold : Fold
    data : DataDirectory
    where : str
        For the message.

    Raises
    ------
    ValueError
        Naming the speakers.
    """
    if "training_speakers" not in card:
        raise ValueError(
            f"{where}: its card does not name the training speakers, so a leak cannot "
            "be excluded: learn codebooks in stage 4"
        )
    tested = {data.speaker[u] for u in fold.test}
    if leak := sorted(tested & set(card["training_speakers"])):
        raise ValueError(
            f"{where}: fold {fold.name} tests on speaker(s) {', '.join(leak)} that the "
            "codebooks were learned from: learn codebooks inside this fold"
        )
