"""Word error rate of what asr2.sh decoded (stage 14), by jiwer, without sclite.

Reads `<asr_exp>/<inference>/<set>/text` and writes `wer.json` beside it.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoq_plugin.files import read_table, write_json
from emoq_plugin.optional import needs
from emoq_plugin.options import Count, Natural

COUNTS = ("hits", "substitutions", "deletions", "insertions")


@dataclass(frozen=True, kw_only=True)
class Asr2WerOptions:
    """Which sets of which model.

    Attributes
    ----------
    asr_exp
        Experiment of asr2.sh.
    sets
        Sets that were decoded.
    data_dir
        Holds <set>/text.
    n_resamples
        Of the bootstrap.
    seed
        Of the bootstrap.
    """

    asr_exp: Path
    sets: tuple[str, ...]
    data_dir: Path = Path("data")
    n_resamples: Count = 1000
    seed: Natural = 0


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
    with needs("espnet"):
        import jiwer

    from emoq_plugin.evaluation.intervals import percentile_interval

    if differ := sorted(set(reference) ^ set(hypothesis)):
        raise ValueError(
            f"utterance '{differ[0]}' is only in "
            f"{'the reference' if differ[0] in reference else 'what was decoded'} "
            f"({len(differ)} such): decode again (stage 14)"
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


def find_decoded(asr_exp: Path, name: str) -> Path:
    """Find the directory of the last decoding of a set.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = [p.parent for p in asr_exp.glob(f"*/{name}/text")]
    found += [p.parent for p in asr_exp.glob(f"*/org/{name}/text")]
    if not found:
        raise FileNotFoundError(
            f"{asr_exp}: set '{name}' was not decoded: run stage 14 of asr2.sh with "
            f"it among --test_sets"
        )
    return max(found, key=lambda path: (path / "text").stat().st_mtime)


def asr2_wer(options: Asr2WerOptions) -> None:
    """Score every set; `wer.json` is beside what was decoded."""
    for name in options.sets:
        decoded = find_decoded(options.asr_exp, name)
        try:
            found = word_errors(
                read_table(options.data_dir / name / "text"),
                read_table(decoded / "text"),
                n_resamples=options.n_resamples,
                seed=options.seed,
            )
        except ValueError as error:
            raise ValueError(f"{decoded}/text: {error}") from error
        write_json(decoded / "wer.json", found)
        rate, *ends = (f"{100 * x:.1f}" for x in found["wer"].values() if x is not None)
        logging.info(
            "%s: WER %s %% [%s], %d errors in %d words",
            name,
            rate,
            ", ".join(ends) or "one utterance: no interval",
            found["errors"],
            found["words"],
        )
