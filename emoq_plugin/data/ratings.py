"""Ratings of arousal, valence and dominance: their text form and their scale.

`utt2avd` holds the mean over the raters of a clip, `avd_scale` the two ends of the
scale that they had, so that a rating outside it is found.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from emoq_plugin.files import errors_of, read_text

DIMENSIONS = ("arousal", "valence", "dominance")
RATINGS, SCALE = "utt2avd", "avd_scale"
Scale = tuple[float, float]


def as_scale(ends: Sequence[float | str]) -> Scale:
    """Check the ends of a scale.

    Raises
    ------
    ValueError
        For anything but two finite numbers, the smaller one first.

    Examples
    --------
    >>> as_scale(["1", "5"])
    (1.0, 5.0)
    """
    try:
        low, high = map(float, ends)
        right = -math.inf < low < high < math.inf
    except ValueError:
        right = False
    if not right:
        raise ValueError(
            f"rating scale '{' '.join(map(str, ends))}', expected its two ends, the "
            "smaller one first, for example '1 5'"
        )
    return low, high


def read_scale(directory: Path) -> Scale:
    """Read the scale of a data directory with ratings.

    Raises
    ------
    ValueError
        Where there is none.
    """
    path = directory / SCALE
    if not path.is_file():
        raise ValueError(
            f"{directory / RATINGS}: no {SCALE} beside it, expected the two ends of "
            "the scale of the ratings in that file, for example '1 5'"
        )
    with errors_of(f"{path}:1"):
        return as_scale(read_text(path).split())


def read_ratings(texts: Mapping[str, str], scale: Scale) -> dict[str, float]:
    """Read the ratings of a clip; dimensions without a text are left out.

    Parameters
    ----------
    texts : mapping of str to str
        By dimension; others are passed over.
    scale : (float, float)

    Raises
    ------
    ValueError
        For what is no number on the scale.

    Examples
    --------
    >>> read_ratings({"arousal": "3.5", "valence": "", "text": "yes"}, (1, 5))
    {'arousal': 3.5}
    """
    ratings = {}
    for dimension in DIMENSIONS:
        if not (text := texts.get(dimension)):
            continue
        try:
            value = float(text)
        except ValueError:
            raise ValueError(
                f"{dimension} '{text}', expected a number such as 3.5"
            ) from None
        if not scale[0] <= value <= scale[1]:
            raise ValueError(
                f"{dimension} {text} is outside the scale, expected {scale[0]:g} to "
                f"{scale[1]:g}"
            )
        ratings[dimension] = value
    return ratings


def published_ratings(
    texts: Mapping[str, str], scale: Scale, where: str, strange: list[str]
) -> dict[str, float]:
    """Read ratings of a corpus as distributed, which its user cannot mend.

    Parameters
    ----------
    texts : mapping of str to str
        By dimension.
    scale : (float, float)
    where : str
        File and line.
    strange : list of str
        Gets what cannot be read, for a warning.
    """
    ratings = {}
    for dimension, text in texts.items():
        try:
            ratings |= read_ratings({dimension: text}, scale)
        except ValueError as error:
            strange.append(f"{where}: {error}")
    return ratings


def mean_ratings(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each dimension over the raters who gave it.

    Examples
    --------
    >>> mean_ratings([{"arousal": 2.0}, {"arousal": 5.0, "valence": 1.0}])
    {'arousal': 3.5, 'valence': 1.0}
    """
    rows = list(rows)
    found = {d: [row[d] for row in rows if d in row] for d in DIMENSIONS}
    return {d: sum(values) / len(values) for d, values in found.items() if values}


def as_row(ratings: Mapping[str, float]) -> np.ndarray:
    """Return ratings in the order of `DIMENSIONS`, NaN where there is none."""
    return np.array([ratings.get(d, math.nan) for d in DIMENSIONS])


def parse_ratings(text: str, scale: Scale) -> np.ndarray:
    """Read `arousal=3.5 valence=2 dominance=4`.

    Returns
    -------
    (3,) float64 array
        NaN for a dimension that is not named.

    Raises
    ------
    ValueError
        For an unknown or repeated dimension, none at all, or what is no number on the
        scale.

    Examples
    --------
    >>> parse_ratings("valence=2 arousal=3.5", (1, 5))
    array([3.5, 2. , nan])
    """
    texts: dict[str, str] = {}
    for field in text.split():
        dimension, _, value = field.partition("=")
        if dimension not in DIMENSIONS or not value:
            names = " ".join(f"{d}=<number>" for d in DIMENSIONS)
            raise ValueError(f"rating '{field}', expected some of: {names}")
        if dimension in texts:
            raise ValueError(f"{dimension} is rated twice: '{text}'")
        texts[dimension] = value
    if not (ratings := read_ratings(texts, scale)):
        raise ValueError(f"ratings '{text}', expected at least one")
    return as_row(ratings)


def format_ratings(ratings: np.ndarray) -> str:
    """Write ratings as `parse_ratings` reads them.

    Examples
    --------
    >>> format_ratings(np.array([3.5, np.nan, 4.0]))
    'arousal=3.5 dominance=4'
    """
    return " ".join(
        f"{dimension}={float(value):.12g}"
        for dimension, value in zip(DIMENSIONS, ratings)
        if not math.isnan(value)
    )
