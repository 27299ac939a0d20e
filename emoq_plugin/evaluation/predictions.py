"""Predictions of one fold: JSON lines that every SER head writes and one scorer reads.

One line is one condition (rate, system, head) of one fold, an object with the fields of
`Prediction`.
"""

import json
import math
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from emoq_plugin.data.ratings import DIMENSIONS
from emoq_plugin.evaluation.metrics import check_distributions
from emoq_plugin.files import atomic_write, check_types, parse_json, read_text
from emoq_plugin.routing.systems import CONTINUOUS

RETRAINED = "retrained"
HEADS = (RETRAINED, "frozen", "route", "espnet")
BITRATES = ("nominal", "entropy", "side_info")
OPTIONAL = ("seconds", "ratings")


@dataclass(frozen=True)
class Prediction:
    """Posteriors of one condition on the test utterances of one fold.

    Parameters
    ----------
    fold : str
        Name of the fold, for example `0`.
    rate : str
        `<K>x<L>`, or `continuous` for features that were not quantized.
    system : str
        For example `balanced` or `specific-distortion`.
    head : {"retrained", "frozen", "route", "espnet"}
        What made the decision.
    bitrate_bps : dict or None
        `nominal`, `entropy` and `side_info` in bits/s; None for `continuous`.
    emotions : list of C str
        Class order of the columns.
    utterances : list of N str
        Row order; each utterance once.
    posteriors : (N, C) float64 array
        Rows sum to 1.
    seconds : float, optional
        Speech that the bitrates are of, by which folds are weighted.
    ratings : dict of str to list of N floats, optional
        Predicted ratings by dimension, see `data.ratings`.

    Raises
    ------
    ValueError
        If a field does not hold what is written here.
    """

    fold: str
    rate: str
    system: str
    head: str
    bitrate_bps: dict[str, float] | None
    emotions: list[str]
    utterances: list[str]
    posteriors: np.ndarray
    seconds: float | None = None
    ratings: dict[str, list[float]] | None = None

    def __post_init__(self):
        hints = get_type_hints(Prediction)
        del hints["posteriors"]
        check_types(vars(self), hints, "prediction")
        for field in ("fold", "rate", "system", "head"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value or "/" in value:
                raise ValueError(f"{field} is {value!r}, expected a name without '/'")
        if self.head not in HEADS:
            raise ValueError(f"head is '{self.head}', expected one of {list(HEADS)}")
        self._check_bitrate()
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds is {self.seconds!r}, expected > 0")
        for field in ("emotions", "utterances"):
            names = getattr(self, field)
            if not isinstance(names, list) or not names:
                raise ValueError(f"{field} must be a list of at least one name")
            if len(set(names)) != len(names):
                twice = sorted({name for name in names if names.count(name) > 1})
                raise ValueError(f"{field} names {twice[:5]} more than once")
        for dimension, values in (self.ratings or {}).items():
            right = dimension in DIMENSIONS and np.isfinite(values).all()
            if not right or len(values) != len(self.utterances):
                raise ValueError(
                    f"ratings: {len(values)} of '{dimension}', expected a finite "
                    f"number for each of {len(self.utterances)} utterances, of "
                    f"{', '.join(DIMENSIONS)}"
                )
        # Frozen, so that a checked condition stays checked; only the type is settled
        # here.
        object.__setattr__(self, "posteriors", _as_matrix(self.posteriors))
        expected = (len(self.utterances), len(self.emotions))
        if self.posteriors.shape != expected:
            raise ValueError(
                f"posteriors have shape {self.posteriors.shape}, expected "
                f"{expected}: utterances by emotions"
            )
        check_distributions(self.posteriors, what="posteriors")

    def only(self, utterances: Sequence[str]) -> "Prediction":
        """Return the rows of some utterances."""
        row = {utterance: n for n, utterance in enumerate(self.utterances)}
        rows = [row[u] for u in utterances]
        ratings = self.ratings and {
            name: [values[n] for n in rows] for name, values in self.ratings.items()
        }
        return replace(
            self,
            utterances=list(utterances),
            posteriors=self.posteriors[rows],
            ratings=ratings,
        )

    def _check_bitrate(self) -> None:
        if self.bitrate_bps is None:
            if self.rate != CONTINUOUS:
                raise ValueError(f"rate {self.rate} needs bitrate_bps, found null")
            return
        missing = [name for name in BITRATES if name not in self.bitrate_bps]
        if missing:
            raise ValueError(f"bitrate_bps lacks {missing}")
        for name, value in self.bitrate_bps.items():
            right = isinstance(value, int | float) and math.isfinite(value)
            if not right or value < 0:
                raise ValueError(f"bitrate_bps.{name} is {value!r}, expected >= 0")

    @property
    def key(self) -> str:
        """Name of the condition, see `key_of`."""
        return key_of(self.rate, self.system, self.head)


def key_of(rate: str, system: str, head: str = RETRAINED) -> str:
    """Return the key of a condition: `<rate>/<system>/<head>`, `continuous/<head>`."""
    return f"{rate}/{head}" if rate == CONTINUOUS else f"{rate}/{system}/{head}"


def _as_matrix(rows: Any) -> np.ndarray:
    try:
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"posteriors are not a matrix of numbers: {error}") from error


def write_predictions(path: str | Path, predictions: Iterable[Prediction]) -> None:
    """Write one JSON line a prediction, atomically; posteriors keep 8 decimals."""
    with atomic_write(path) as stream:
        for prediction in predictions:
            fields = asdict(prediction)
            fields["posteriors"] = prediction.posteriors.round(8).tolist()
            stream.write(json.dumps(fields, ensure_ascii=False) + "\n")


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read and check a file of predictions.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        For an empty file, a line that is not JSON, a missing or unknown field, or
        whatever `Prediction` refuses; the message names file and line.
    """
    predictions = []
    names = set(Prediction.__dataclass_fields__)
    text = read_text(path).removesuffix("\n")
    for number, line in enumerate(text.split("\n") if text else (), 1):
        fields = parse_json(line, path, line=number)
        try:
            if not isinstance(fields, dict) or {*fields, *OPTIONAL} != names:
                found = sorted(fields) if isinstance(fields, dict) else fields
                found = reprlib.repr(found)
                raise ValueError(f"found {found}, expected {sorted(names)}")
            predictions.append(Prediction(**fields))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
    if not predictions:
        raise ValueError(f"{path}: no predictions, expected at least one JSON line")
    return predictions
