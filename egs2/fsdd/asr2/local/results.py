"""Word error rates of all recognitions beside the emotion scores: RESULTS.md."""

import argparse
import logging
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emoq_plugin.bin._command import run_command
from emoq_plugin.espnet_adapters.asr2_wer import find_decoded
from emoq_plugin.evaluation.results import Results
from emoq_plugin.files import atomic_write, read_json

PACKAGES = ("espnet", "torch", "numpy", "sentencepiece", "jiwer", "emoq")
HEAD = (
    "| units | rate | bit/s | stream | WER % on known speakers | WER % on two unseen "
    "speakers | emotion: macro-F1 % | bit/s there |\n|---|---|---|---|---|---|---|---|"
)


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="results", description=__doc__)
    add = parser.add_argument
    add("--experiments", type=Path, required=True, help="arguments of recognise.sh")
    add("--scores", type=Path, required=True, help="scores.json of the emotion recipe")
    add("--command", required=True, help="shown with the numbers")
    add("--output", type=Path, required=True)
    return parser


def read_recognitions(path: Path) -> dict[str, dict[str, Any]]:
    """Gather the recognitions: name -> metadata, with a `wer` for each split."""
    rows: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, split, _, system, _, _, _, test = line.split()
        asr_exp = path.parent / f"asr_{name}_{split}"
        card = read_json(asr_exp / "emoq_units.json")
        row = rows.setdefault(name, {"system": system, "stream": card["stream"]})
        row["rate"] = f"{card['sizes'][0]}x{card['n_levels']}"
        row["own"] = name.startswith("fsdd")
        dumped = path.parent.parent / "dump" / f"{name}_{split}" / "raw" / test
        row.setdefault("bits", {})[split] = read_json(dumped / "units.json")
        row.setdefault("wer", {})[split] = read_json(
            find_decoded(asr_exp, test) / "wer.json"
        )
    return rows


def format_percent(triple: dict[str, float | None]) -> str:
    """Write a share with its interval, where there is one.

    Examples
    --------
    >>> format_percent({"mean": 0.1, "low": None, "high": None})
    '10.0'
    """
    found = (triple[name] for name in ("mean", "low", "high"))
    value, *ends = (f"{100 * x:.1f}" for x in found if x is not None)
    return f"{value} [{', '.join(ends)}]" if ends else value


def format_wer(found: dict[str, Any]) -> str:
    """Write a rate with interval and counts.

    Examples
    --------
    >>> rate = {"mean": 0.1, "low": 0.05, "high": 0.15}
    >>> format_wer({"wer": rate, "errors": 10, "words": 100})
    '10.0 [5.0, 15.0] (10/100)'
    """
    return f"{format_percent(found['wer'])} ({found['errors']}/{found['words']})"


def format_emotion(scores: Results, rate: str, system: str) -> list[str]:
    """Write macro-F1 with the retrained probe of the emotion recipe, and bit/s."""
    found = scores.score(rate, system)
    if found is None:
        known = ", ".join(score.key for score in scores.scores)
        raise ValueError(
            f"the emotion recipe has no scores of {system} at {rate}, only: {known}"
        )
    bits = found.bitrate_bps["nominal"] + found.bitrate_bps["side_info"]
    return [format_percent(found.metrics["macro_f1"]), f"{bits:.0f}"]


def page(options: argparse.Namespace) -> str:
    """Write the page."""
    scores = Results.read(options.scores)
    rows = read_recognitions(options.experiments)
    lines = []
    for _, row in sorted(rows.items(), key=lambda r: (r[1]["own"], r[0])):
        emotion = ["", ""]
        if not row["own"]:
            emotion = format_emotion(scores, row["rate"], row["system"])
        units = f"{row['system']}, learned on " + (
            "digits" if row["own"] else scores.corpus
        )
        bits = row["bits"]["unseen"]["bits_per_second"]
        wer = [format_wer(row["wer"][split]) for split in ("seen", "unseen")]
        values = [row["rate"], f"{bits:.0f}", row["stream"], *wer, *emotion]
        lines.append(f"| {' | '.join([units, *values])} |")
    best = {
        split: min(rows.values(), key=lambda r: r["wer"][split]["wer"]["mean"])
        for split in ("seen", "unseen")
    }
    said = {
        split: f"{format_wer(row['wer'][split])} %, {row['rate']} {row['stream']}"
        for split, row in best.items()
    }
    synthetic = (
        "- **This corpus is synthetic**, its scores say nothing about people.\n"
        if scores.synthetic
        else ""
    )
    versions = ", ".join(f"{p} {version(p)}" for p in PACKAGES)
    return f"""# Spoken digits (FSDD) on discrete units, by ESPnet's own asr2.sh

{HEAD}
{chr(10).join(lines)}

Lowest: known speakers {said['seen']}; unseen speakers {said['unseen']}.

- Known speakers: the corpus's own test set, recordings 0-4 of six speakers. Unseen: all
  recordings of two speakers, whom neither recogniser nor codebooks of digits heard.
- Brackets: 95 % bootstrap interval over utterances, of these speakers only; counts are
  errors / words. One training each, seed 0.
- bit/s: nominal, units at 50 Hz, the route and the clip code of each clip, on the
  second test set, before repeated units are dropped.
- Emotion: corpus {scores.corpus} at the same rate and system, a probe trained on the
  units, all test folds; bit/s on its clips, whose length spreads a clip code.
{synthetic}- Scored by jiwer on what stage 14 of asr2.sh decoded; stage 15 wants sclite.

```sh
{options.command}
```

python {platform.python_version()}, {versions}
"""


def work(options: argparse.Namespace) -> None:
    """Write the page."""
    with atomic_write(options.output) as stream:
        stream.write(page(options))
    logging.info("%s", options.output)


if __name__ == "__main__":
    run_command(get_parser, work)
