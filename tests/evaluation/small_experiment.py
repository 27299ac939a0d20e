"""Predictions of a small experiment: four speakers, two folds, three emotions."""

from types import SimpleNamespace

import numpy as np

from emoq_plugin.evaluation.predictions import Prediction, write_predictions
from emoq_plugin.evaluation.scoring import score_experiment

EMOTIONS = ["angry", "happy", "sad"]
UTTERANCES = [f"s{speaker}-{n}" for speaker in range(4) for n in range(6)]
LABELS = dict(zip(UTTERANCES, [n % 3 for n in range(24)]))
SPEAKER = {u: u.split("-")[0] for u in UTTERANCES}
FOLDS = {"0": UTTERANCES[:12], "1": UTTERANCES[12:]}


class FakeData(SimpleNamespace):
    """What the scorer asks of a data directory."""

    def __init__(self, *, votes=None, labels=None, ratings=None):
        super().__init__(
            path="data",
            speaker=SPEAKER,
            votes=votes or {},
            by_name=LABELS if labels is None else labels,
            ratings=ratings or {},
        )

    def rating_rows(self, utterances):
        return np.array([self.ratings.get(u, [np.nan] * 3) for u in utterances])

    def labels(self, utterances, emotions):
        return np.array([self.by_name.get(u, -1) for u in utterances])

    def targets(self, utterances, emotions):
        one_hot = np.eye(len(emotions))
        rows = [self.votes.get(u, one_hot[self.by_name.get(u, 0)]) for u in utterances]
        return np.array([row / row.sum() for row in rows])


def posteriors(utterances, *, right, seed=0):
    """Return posteriors that are right for a share of the utterances."""
    generator = np.random.default_rng(seed)
    rows = generator.dirichlet(np.ones(3), len(utterances)) * 0.4
    for row, u in zip(rows, utterances):
        shift = 0 if generator.random() < right else 1
        row[(LABELS[u] + shift) % 3] += 0.6
    return rows


def condition(
    fold,
    *,
    rate="64x1",
    system="balanced",
    head="retrained",
    right=0.5,
    bits=300.0,
    seconds=None,
    ratings=None,
):
    bitrate = {"nominal": 300.0, "entropy": bits, "side_info": 0.5}
    return Prediction(
        fold=fold,
        rate=rate,
        system=system,
        head=head,
        bitrate_bps=None if rate == "continuous" else bitrate,
        emotions=EMOTIONS,
        utterances=FOLDS[fold],
        posteriors=posteriors(FOLDS[fold], right=right, seed=int(fold)),
        seconds=seconds,
        ratings=ratings,
    )


def study():
    conditions = []
    for fold in FOLDS:
        conditions += [
            condition(fold, rate="continuous", system="continuous", right=0.9),
            condition(fold, bits=200.0 + 10 * int(fold)),
            condition(fold, system="specific-distortion", right=1.0),
            condition(fold, system="specific-oracle", head="route", right=1.0),
            condition(fold, system="capacity-distortion"),
            condition(fold, rate="4x2", right=0.3),
            condition(fold, head="espnet", right=0.6),
            condition(fold, system="specific-distortion", head="espnet", right=0.8),
        ]
    return conditions


def score(tmp_path, conditions, data=None, **options):
    files = []
    for fold in FOLDS:
        files.append(tmp_path / f"fold{fold}" / "probe.jsonl")
        write_predictions(files[-1], [c for c in conditions if c.fold == fold])
    settings = {"emotions": EMOTIONS, "corpus": "toy", "name": "fbank"}
    settings |= {"synthetic": True, "n_resamples": 200, **options}
    return score_experiment(files, data or FakeData(), **settings)
