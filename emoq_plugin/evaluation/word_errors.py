"""Word errors, by jiwer, with intervals over utterances."""

from typing import Any

import numpy as np

from emoq_plugin.evaluation.intervals import percentile_interval
from emoq_plugin.optional import needs

COUNTS = ("hits", "substitutions", "deletions", "insertions")


def word_errors(
    reference: dict[str, str],
    hypothesis: dict[str, str],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Count word errors, with an interval over utterances where there are several.

    Parameters
    ----------
    reference, hypothesis : dict of str to str
        Texts by utterance.
    n_resamples : int, default=1000
    seed : int, default=0

    Returns
    -------
    dict
        `wer` (`mean`, `low`, `high`; share of the words), `errors`, `words`,
        `utterances`, `hits`, `substitutions`, `deletions`, `insertions`.

    Raises
    ------
    ValueError
        If the utterances differ, or the reference has no word.

    Examples
    --------
    >>> found = word_errors({"a": "one two", "b": "six"}, {"a": "one", "b": "six"})
    >>> found["errors"], found["words"], round(found["wer"]["mean"], 3)
    (1, 3, 0.333)
    """
    with needs("words"):
        import jiwer

    if differ := sorted(set(reference) ^ set(hypothesis)):
        raise ValueError(
            f"utterance '{differ[0]}' is only in "
            f"{'the reference' if differ[0] in reference else 'what was decoded'} "
            f"({len(differ)} such): decode again"
        )
    counts = np.zeros((len(reference), len(COUNTS)))
    for row, (utterance, said) in zip(counts, sorted(reference.items())):
        read = hypothesis[utterance]
        if said.split():
            found = jiwer.process_words(said, read)
            row[:] = [getattr(found, name) for name in COUNTS]
        else:
            row[COUNTS.index("insertions")] = len(read.split())
    errors, words = counts[:, 1:].sum(axis=1), counts[:, :3].sum(axis=1)
    if words.sum() == 0:
        raise ValueError("the reference has no word")
    random = np.random.default_rng(seed)
    rates = []
    for _ in range(n_resamples if len(counts) > 1 else 0):
        drawn = random.integers(len(counts), size=len(counts))
        rates.append(errors[drawn].sum() / max(words[drawn].sum(), 1))
    return {
        "wer": percentile_interval(errors.sum() / words.sum(), np.array(rates)),
        "errors": int(errors.sum()),
        "words": int(words.sum()),
        "utterances": len(counts),
        **dict(zip(COUNTS, counts.sum(axis=0).astype(int).tolist())),
    }
