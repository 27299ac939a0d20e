"""Rater votes: the text form of utt2votes, shares, the unique majority."""

import math
from collections.abc import Sequence

import numpy as np


def parse_votes(text: str, emotions: Sequence[str]) -> np.ndarray:
    """Read `angry=3 happy=0 neutral=1 sad=0`.

    Parameters
    ----------
    text : str
        Counts by emotion, real numbers allowed; an emotion not named has none.
    emotions : sequence of str
        Class order of the result.

    Returns
    -------
    (C,) float64 array
        Counts, not shares.

    Raises
    ------
    ValueError
        For an unknown or repeated emotion, a count that is no number, is negative or
        not finite, and for counts that sum to zero.

    Examples
    --------
    >>> parse_votes("angry=3 sad=1", ["angry", "happy", "sad"])
    array([3., 0., 1.])
    """
    votes = np.zeros(len(emotions))
    seen: set[str] = set()
    for field in text.split():
        emotion, equals, count = field.partition("=")
        if not equals:
            raise ValueError(f"'{field}' is not '<emotion>=<count>'")
        if emotion not in emotions:
            raise ValueError(
                f"unknown emotion '{emotion}' in the votes, "
                f"expected one of: {' '.join(emotions)}"
            )
        if emotion in seen:
            raise ValueError(f"emotion '{emotion}' occurs twice in the votes")
        seen.add(emotion)
        try:
            number = float(count)
        except ValueError:
            raise ValueError(f"votes '{field}': '{count}' is not a number") from None
        if not math.isfinite(number) or number < 0:
            raise ValueError(f"votes '{field}': a count must be finite and >= 0")
        votes[list(emotions).index(emotion)] = number
    if votes.sum() <= 0:
        raise ValueError(f"votes '{text}' sum to zero, expected at least one vote")
    return votes


def format_votes(votes: np.ndarray, emotions: Sequence[str]) -> str:
    """Write votes as `parse_votes` reads them, every emotion named.

    Examples
    --------
    >>> format_votes(np.array([3, 0.5]), ["angry", "sad"])
    'angry=3 sad=0.5'
    """
    if len(votes) != len(emotions):
        raise ValueError(f"{len(votes)} votes for {len(emotions)} emotions")
    return " ".join(
        f"{emotion}={float(count):.12g}" for emotion, count in zip(emotions, votes)
    )


def majority(votes: np.ndarray, emotions: Sequence[str]) -> str | None:
    """Return the emotion with the most votes, None when two or more share the lead.

    Examples
    --------
    >>> majority(np.array([3, 1]), ["angry", "sad"])
    'angry'
    >>> majority(np.array([2, 2]), ["angry", "sad"]) is None
    True
    """
    leaders = np.flatnonzero(np.asarray(votes) == np.max(votes))
    return emotions[leaders[0]] if len(leaders) == 1 else None
