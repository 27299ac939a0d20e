"""One setting chosen by validation speakers, scored on the test speakers of each fold.

In each fold every candidate (quantizer, rate, system) is scored on the fold's
validation speakers, by codebooks of one seed; the best one predicts the fold's test
clips with all seeds. Test predictions take no part in the choice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import read_folds
from emoq_plugin.evaluation.intervals import SpeakerSums
from emoq_plugin.evaluation.metrics import jensen_shannon, scores_of_confusion
from emoq_plugin.evaluation.pooling import Condition, compose, total_bits
from emoq_plugin.evaluation.predictions import Prediction, key_of, read_predictions
from emoq_plugin.evaluation.reference import sum_by_speaker
from emoq_plugin.recipe.study.experiments import Experiment
from emoq_plugin.recipe.study.plan import Study
from emoq_plugin.routing.systems import CONTINUOUS


@dataclass(frozen=True)
class Setting:
    """A candidate.

    Attributes
    ----------
    quantizer, rate, system : str
    """

    quantizer: str
    rate: str
    system: str

    @property
    def key(self) -> str:
        """Name of its condition with a retrained head."""
        return key_of(
            CONTINUOUS if self.system == CONTINUOUS else self.rate, self.system
        )


def validation_score(
    prediction: Prediction, labels: Mapping[str, int], targets: Mapping[str, np.ndarray]
) -> tuple[float, float]:
    """Score one condition on validation clips.

    Parameters
    ----------
    prediction : Prediction
    labels : mapping of str to int
        Class by utterance, -1 where there is none.
    targets : mapping of str to (C,) array
        Class shares.

    Returns
    -------
    macro_f1, minus_js : float
        Larger is better; the second decides where the first ties.
    """
    truth = np.array([labels[u] for u in prediction.utterances])
    n_classes = len(prediction.emotions)
    counts = np.zeros((n_classes, n_classes + 1))
    rows = truth >= 0
    guess = prediction.posteriors.argmax(axis=1)
    np.add.at(counts, (truth[rows], guess[rows]), 1)
    shares = np.stack([targets[u] for u in prediction.utterances])
    divergence = jensen_shannon(shares, prediction.posteriors).mean()
    return float(scores_of_confusion(counts)["macro_f1"]), -float(divergence)


def choose(
    candidates: Sequence[Setting],
    files: Mapping[str, str | Path],
    labels: Mapping[str, int],
    targets: Mapping[str, np.ndarray],
    *,
    below: float,
) -> tuple[Setting, float] | None:
    """Choose the candidate of highest validation macro-F1 that is cheap enough.

    Parameters
    ----------
    candidates : sequence of Setting
    files : mapping of str to str or Path
        Predictions of validation clips by quantizer.
    labels, targets : mapping
        See `validation_score`.
    below : float
        Bits/s of all streams and the route that a candidate may have.

    Returns
    -------
    setting : Setting
    macro_f1 : float
        On validation clips. None in place of both where no candidate is cheap enough.

    Raises
    ------
    ValueError
        If a file lacks a candidate.
    """
    scores: dict[Setting, tuple[float, float]] = {}
    for quantizer, path in files.items():
        found = {p.key: p for p in read_predictions(path)}
        for setting in (c for c in candidates if c.quantizer == quantizer):
            if setting.key not in found:
                raise ValueError(
                    f"{path} lacks condition {setting.key}: run its job again"
                )
            if total_bits(found[setting.key].bitrate_bps) > below:
                continue
            scores[setting] = validation_score(found[setting.key], labels, targets)
    if not scores:
        return None
    best = max(scores, key=lambda setting: scores[setting])
    return best, scores[best][0]


@dataclass
class Selection:
    """The setting that each fold's validation speakers chose, and what it reaches.

    Attributes
    ----------
    main : Experiment
        Its seeds are scored; a quantizer that lacks a seed lends its first one.
    experiments : dict of str to Experiment
        By quantizer.
    chosen : dict of str to (Setting, float)
        By fold, with its validation macro-F1.
    """

    main: Experiment
    experiments: dict[str, Experiment]
    chosen: dict[str, tuple[Setting, float]]

    def _settings(
        self, system: str | None
    ) -> Iterator[tuple[str, Setting, Experiment]]:
        for fold, (setting, _) in self.chosen.items():
            system_at = setting if system is None else replace(setting, system=system)
            yield fold, system_at, self.experiments[setting.quantizer]

    def composed(self, system: str | None = None) -> list[Condition]:
        """Take the test predictions of the chosen settings, or of a system instead.

        Parameters
        ----------
        system : str, optional
            At the chosen quantizers and rates; `continuous` for unquantized features.

        Returns
        -------
        list of Condition
            One for each seed.
        """
        found = []
        for seed in self.main.seeds:
            parts = {}
            for fold, setting, experiment in self._settings(system):
                seeds = experiment.seeds
                number = seeds.index(seed) if seed in seeds else 0
                parts[fold] = experiment.conditions[setting.key][number]
            found.append(compose(parts, self.main.utterances))
        return found

    def sums(self, system: str | None = None) -> list[SpeakerSums]:
        """Compare `composed` with the reference."""
        return [
            sum_by_speaker(condition.posteriors, self.main.reference)
            for condition in self.composed(system)
        ]

    def measures(self, system: str | None = None) -> list[dict[str, Any]]:
        """Return the lines of measures.jsonl in the same way."""
        found = []
        for fold, setting, experiment in self._settings(system):
            lines = experiment.measured()[setting.rate, setting.system]
            by_seed = {line["seed"]: line for line in lines if line["fold"] == fold}
            lent = by_seed[experiment.seeds[0]]
            for seed in self.main.seeds:
                found.append(by_seed.get(seed, lent) | {"seed": seed})
        return found

    def bitrate(self, system: str | None = None) -> float:
        """Return all bits by all seconds of the test clips, the mean over seeds."""
        bits = [total_bits(c.bitrate_bps) for c in self.composed(system)]
        return float(np.mean(bits))


def select(
    study: Study,
    experiments: Sequence[Experiment],
    systems: Sequence[str],
) -> Selection | None:
    """Let the validation speakers of each fold choose quantizer, rate and system.

    Parameters
    ----------
    study : Study
    experiments : sequence of Experiment
        Of one corpus and feature, the main quantizer first.
    systems : sequence of str
        Candidates, where a quantizer has them; one without Emo-Q takes no part.

    Returns
    -------
    selection : Selection or None
        None where no candidate is cheap enough or validation predictions are missing.
    """
    main = experiments[0]
    members = {
        e.quantizer: e
        for e in experiments
        if e.utterances == main.utterances and study.config.candidates(e.quantizer)
    }
    candidates = [
        Setting(quantizer, rate, system)
        for quantizer in members
        for rate in study.cheap_rates(main.feature, quantizer)
        for system in systems
        if system in study.config.systems_of(quantizer)
    ]
    emotions = main.reference.emotions
    data = DataDirectory.read(study.data_dir, emotions)
    valid = {fold.name: fold.valid for fold in read_folds(study.folds)}
    chosen = {}
    for name in main.folds:
        files = {
            quantizer: study.valid_file(e.jobs[e.seeds[0], name], name)
            for quantizer, e in members.items()
        }
        if not candidates or not all(path.exists() for path in files.values()):
            return None
        clips = [u for u in valid[name] if u in data.speaker]
        labels = dict(zip(clips, data.labels(clips, emotions)))
        targets = dict(zip(clips, data.targets(clips, emotions)))
        best = choose(
            candidates, files, labels, targets, below=study.config.select_below
        )
        if best is None:
            return None
        chosen[name] = best
    return Selection(main, members, chosen)
