"""What the stages of an experiment share: rates, folds, guards against leaks."""

import re
from collections.abc import Sequence
from pathlib import Path

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import Fold, check_speaker_disjoint, read_folds
from emoq_plugin.recipe.stage import MARKER, read_marker

TRAIN_ON = ("train", "train+valid")
# Beside a bank: those learned without some of its training speakers, to route them.
CROSSFIT = "crossfit"
# Beside the banks: speaker-held-out posteriors of training clips, a file a router.
HELD_OUT = "held_out_posteriors"


def parse_rate(rate: str) -> tuple[int, int]:
    """Read ``<K>x<L>``: codebook size and number of levels.

    Raises
    ------
    ValueError
        For another form, K below 2 or L below 1.

    Examples
    --------
    >>> parse_rate("64x2")
    (64, 2)
    """
    match = re.fullmatch(r"(\d+)x(\d+)", rate)
    if not match or int(match[1]) < 2 or int(match[2]) < 1:
        raise ValueError(
            f"rate '{rate}' is not <K>x<L> with K >= 2 codewords and L >= 1 levels, "
            "such as 64x1"
        )
    return int(match[1]), int(match[2])


def parse_rates(rates: Sequence[str]) -> dict[int, int]:
    """Return the most levels asked for, by codebook size.

    Residual levels are nested: the first levels of 64x4 are 64x1 and 64x2.

    Examples
    --------
    >>> parse_rates(["2x4", "64x1", "64x4"])
    {2: 4, 64: 4}
    """
    levels: dict[int, int] = {}
    for size, n_levels in map(parse_rate, rates):
        levels[size] = max(n_levels, levels.get(size, 0))
    return levels


def find_bank(quantizer_dir: str | Path, rate: str) -> Path:
    """Find the bank that serves a rate: of those with enough levels the smallest.

    Raises
    ------
    FileNotFoundError
        If nothing was learned there.
    ValueError
        If no bank serves the rate, with those that were learned.
    """
    size, n_levels = parse_rate(rate)
    marker = Path(quantizer_dir) / MARKER
    if not marker.is_file():
        state = "has no finished result" if marker.parent.is_dir() else "is missing"
        raise FileNotFoundError(f"{quantizer_dir} {state}: run the earlier stage first")
    banks = {name: parse_rate(name) for name in read_marker(marker).get("banks", ())}
    fitting = [n for n, (k, depth) in banks.items() if k == size and depth >= n_levels]
    if not fitting:
        raise ValueError(
            f"{quantizer_dir} has no codebooks for the rate {rate}, these were "
            f"learned: {' '.join(banks)}"
        )
    return Path(quantizer_dir) / min(fitting, key=lambda name: banks[name])


def read_fold(folds: str | Path, name: str, data: DataDirectory) -> Fold:
    """Read one fold, without utterances that stage 2 dropped, checked for leaks.

    Raises
    ------
    ValueError
        If there is no such fold or a speaker stands in two parts of it.
    """
    for fold in read_folds(folds):
        if fold.name == name:
            fold = fold.restricted_to(data.utterances)
            for part in ("train", "test"):
                if not getattr(fold, part):
                    raise ValueError(
                        f"{Path(folds) / name / part}: none of its utterances is in "
                        f"{data.path}"
                    )
            check_speaker_disjoint(fold, data.speaker)
            return fold
    raise ValueError(f"{folds} has no fold '{name}'")


def check_no_leak(card: dict, fold: Fold, data: DataDirectory, where: str) -> None:
    """Refuse to test on speakers that a quantizer was learned from.

    Parameters
    ----------
    card : dict
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
