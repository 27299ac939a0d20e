"""Word error rate of what asr2.sh decoded (stage 14), by jiwer, without sclite.

Reads `<asr_exp>/<inference>/<set>/text` and writes `wer.json` beside it.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from emoq_plugin.evaluation.word_errors import word_errors
from emoq_plugin.files import read_table, write_json
from emoq_plugin.options import Count, Natural


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
