"""What else stands beside the scores: units, predictions, labels, features."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.predictions import Prediction, read_predictions
from emoq_plugin.files import parse_json, read_json, read_table
from emoq_plugin.recipe.report.content import EMOQ, MAIN_HEAD
from emoq_plugin.routing.systems import CONTINUOUS

UNITS = "units.json"
PREDICTIONS = "posteriors.jsonl"


@dataclass(frozen=True)
class Leftovers:
    """Files of an experiment beside its scores, wherever they still exist.

    Parameters
    ----------
    path : Path
        ``exp/<tag>`` or ``exp/study_<name>``; ``dump`` stands beside ``exp``.
    """

    path: Path

    @property
    def dump(self) -> Path:
        """Directory of data, features and units."""
        return self.path.resolve().parent.parent / "dump"

    @cached_property
    def folds(self) -> list[tuple[Path, Path]]:
        """Units (``<rate>/<system>`` below) and experiment directory of each fold."""
        inside = [(p, p.parent) for p in sorted(self.path.glob("*/fold*/units"))]
        beside = sorted((self.dump / "units" / self.path.name).glob("fold*/*"))
        apart = [(p, self.path / p.parent.name) for p in beside if p.is_dir()]
        return inside or apart

    def conditions(self) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """Go through the units of all folds: directory and `units.json`."""
        for units, _ in self.folds:
            for card in sorted(units.glob(f"*/*/{UNITS}")):
                yield card.parent, read_json(card)

    def tested(self, fold: Path) -> list[str]:
        """Return the test utterances of the fold of an experiment directory."""
        for path in sorted(fold.glob(f"ser/{PREDICTIONS}")) or sorted(
            fold.glob(f"ser/probe/{PREDICTIONS}")
        ):
            with open(path, encoding="utf-8") as stream:
                return parse_json(stream.readline(), path)["utterances"]
        return []

    def table(self, name: str, utterance: str) -> dict[str, str]:
        """Read a table of the data directory that holds an utterance."""
        for path in sorted((self.dump / "raw").glob(f"*/{name}")):
            table = read_table(path)
            if utterance in table:
                return table
        return {}

    def predictions(self) -> list[Prediction]:
        """Read the predictions of an experiment that is not a study."""
        files = sorted(self.path.glob(f"fold*/ser/**/{PREDICTIONS}"))
        return [p for path in files for p in read_predictions(path)]


def fill(summary: dict[str, Any], path: Path) -> None:
    """Add to a summary of scores what the files beside them hold.

    Examples come from predictions and labels, codebook use and routes from units. What
    is missing on disk stays out.
    """
    files = Leftovers(path)
    predictions = files.predictions()
    if predictions:
        emotion = files.table("utt2emo", predictions[0].utterances[0])
        summary["examples"] = list(_examples(files, predictions, emotion))
    measures = list(_measures_of_units(summary, files))
    if measures:
        summary["measures"] = measures


def _examples(
    files: Leftovers, predictions: list[Prediction], emotion: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Return for each class the clip of the first fold whose raters agree least."""
    first = predictions[0]
    votes = {
        utterance: {k: float(v) for k, _, v in (p.partition("=") for p in text.split())}
        for utterance, text in files.table("utt2votes", first.utterances[0]).items()
    }
    if not votes:
        return
    same = [
        p
        for p in predictions
        if p.fold == first.fold
        and p.head == MAIN_HEAD
        and p.system in (CONTINUOUS, BALANCED, EMOQ)
    ]
    bits = {p.rate: p.bitrate_bps["nominal"] for p in same if p.bitrate_bps}
    rate = min(bits, key=lambda name: (bits[name], name), default=None)
    same = [p for p in same if p.rate in (CONTINUOUS, rate)]
    for label in first.emotions:
        clips = [u for u in first.utterances if emotion.get(u) == label and u in votes]
        if not clips:
            continue
        shares = {u: _shares(votes[u], first.emotions) for u in clips}
        chosen = min(clips, key=lambda u: (max(shares[u].values()), u))
        posteriors = {
            p.system: p.posteriors[p.utterances.index(chosen)].tolist() for p in same
        }
        yield {
            "utterance": chosen,
            "emotion": label,
            "rate": rate,
            "targets": shares[chosen],
            "posteriors": {
                system: dict(zip(first.emotions, row))
                for system, row in posteriors.items()
            },
        }


def _shares(votes: Mapping[str, float], emotions: list[str]) -> dict[str, float]:
    total = sum(votes.get(e, 0.0) for e in emotions) or 1.0
    return {e: votes.get(e, 0.0) / total for e in emotions}


def _measures_of_units(
    summary: dict[str, Any], files: Leftovers
) -> Iterator[dict[str, Any]]:
    """Return codebook use and routes, averaged over folds."""
    levels: dict[tuple[str, str], list[dict[str, list[float]]]] = {}
    routes: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    tests = {units: set(files.tested(fold)) for units, fold in files.folds}
    emotion: dict[str, str] = {}
    for directory, card in files.conditions():
        key = (card["rate"], card["system"])
        levels.setdefault(key, []).append(read_json(directory / "bitrate.json"))
        tested = tests[directory.parent.parent]
        if not (directory / "utt2route").exists() or not tested:
            continue
        emotion = emotion or files.table("utt2emo", next(iter(tested)))
        shares = routes.setdefault(key, {})
        for utterance, text in read_table(directory / "utt2route").items():
            if utterance in tested and utterance in emotion:
                row = shares.setdefault(emotion[utterance], {})
                for item in text.split():
                    expert, _, weight = item.partition("=")
                    row[expert] = row.get(expert, 0.0) + float(weight or 1)
    for (rate, system), found in levels.items():
        yield {
            "experiment": summary["name"],
            "rate": rate,
            "system": system,
            "values": {
                "levels": [
                    {"utilisation": used, "entropy_share": entropy}
                    for used, entropy in zip(
                        np.mean([f["used_share"] for f in found], axis=0).tolist(),
                        np.mean(
                            [f["relative_entropy"] for f in found], axis=0
                        ).tolist(),
                    )
                ],
                "routes": _as_shares(routes.get((rate, system))),
            },
        }


def _as_shares(
    counts: Mapping[str, Mapping[str, float]] | None,
) -> dict[str, dict[str, float]] | None:
    if not counts:
        return None
    return {
        emotion: {expert: n / sum(row.values()) for expert, n in row.items()}
        for emotion, row in counts.items()
    }
