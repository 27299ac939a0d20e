"""Two sets of units side by side: use, overlap, and what is left of emotion and phones.

Everything is of units alone, so that k-means models and unit files of others can be
compared with quantizers; distortion and codewords need the quantizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from emoq_plugin.data.folds import speaker_folds
from emoq_plugin.evaluation.geometry import cosine
from emoq_plugin.evaluation.information import (
    contingency,
    entropy,
    mutual_information,
)
from emoq_plugin.evaluation.metrics import confusion, scores_of_confusion
from emoq_plugin.routing.pooled import PooledClassifier

N_FOLDS = 5


@dataclass
class UnitSet:
    """Units of some clips.

    Attributes
    ----------
    name : str
        For messages.
    codes : dict of str to (T, L) int64 array
        By clip.
    sizes : list of L int
        Units that there are; the first level counts them for every expert.
    """

    name: str
    codes: dict[str, np.ndarray]
    sizes: list[int]

    def level(self, level: int, clips: Sequence[str] | None = None) -> np.ndarray:
        """Return the units (N,) of one level, clip behind clip."""
        names = self.codes if clips is None else clips
        return np.concatenate([self.codes[u][:, level] for u in names])

    def histograms(self, clips: Sequence[str]) -> np.ndarray:
        """Return how often each clip has each unit, levels side by side (N, U)."""
        rows = []
        for clip in clips:
            counts = (
                np.bincount(column, minlength=size)
                for column, size in zip(self.codes[clip].T, self.sizes)
            )
            rows.append(np.concatenate(list(counts)) / len(self.codes[clip]))
        return np.stack(rows)


def check_same_clips(a: UnitSet, b: UnitSet) -> None:
    """Refuse units of other clips, or of other frames of them.

    Raises
    ------
    ValueError
        Naming the first clip that differs.
    """
    if differ := sorted(set(a.codes) ^ set(b.codes)):
        here = a.name if differ[0] in a.codes else b.name
        raise ValueError(
            f"clip '{differ[0]}' is in {here} alone ({len(differ)} such): compare "
            "units of the same clips"
        )
    for clip, codes in a.codes.items():
        if len(codes) != len(b.codes[clip]):
            raise ValueError(
                f"clip '{clip}' has {len(codes)} frames in {a.name} and "
                f"{len(b.codes[clip])} in {b.name}: the features have other frame "
                "rates, or repeated units were dropped"
            )


def use(units: UnitSet) -> dict[str, list[float]]:
    """Return `used` (share of the units that occur) and `perplexity` by level."""
    tables = [
        np.bincount(units.level(level), minlength=size)
        for level, size in enumerate(units.sizes)
    ]
    return {
        "used": [float((table > 0).mean()) for table in tables],
        "perplexity": [2 ** entropy(table) for table in tables],
    }


def unit_overlap(a: UnitSet, b: UnitSet) -> list[float]:
    """Normalised mutual information of the units of each level that both have.

    Information over the mean of the entropies: 1 where each determines the other,
    whatever they are numbered; about 0 where they are independent.
    """
    found = []
    for level, shape in enumerate(zip(a.sizes, b.sizes)):
        joint = contingency(a.level(level), b.level(level, list(a.codes)), shape=shape)
        mean = (entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1))) / 2
        found.append(mutual_information(joint)[0] / mean if mean > 0 else 1.0)
    return found


def codeword_overlap(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Compare two codebooks, whatever the order of their codewords.

    Parameters
    ----------
    a, b : (K, D) array
        In the same space.

    Returns
    -------
    overlap : dict
        Mean cosine, about the common mean, of codewords with their nearest (`nearest`,
        both directions) and one to one (`matched`, the best assignment).
    """
    centre = np.concatenate([a, b]).mean(axis=0)
    a, b = a - centre, b - centre
    distance = cdist(a, b, "sqeuclidean")
    nearest = [cosine(a, b[distance.argmin(axis=1)])]
    nearest.append(cosine(b, a[distance.argmin(axis=0)]))
    rows, columns = linear_sum_assignment(distance)
    return {
        "nearest": float(np.concatenate(nearest).mean()),
        "matched": float(cosine(a[rows], b[columns]).mean()),
    }


def emotion_probe(
    units: UnitSet, labels: Mapping[str, str], speaker: Mapping[str, str]
) -> dict[str, float]:
    """Recognise emotion by how often a clip has each unit, on speakers not heard.

    Parameters
    ----------
    units : UnitSet
    labels, speaker : mapping of str to str
        By clip; clips without a label are left out.

    Returns
    -------
    scores : dict
        `uar` and `macro_f1`.

    Raises
    ------
    ValueError
        For fewer than two speakers, or where a fold lacks a class.
    """
    clips = [clip for clip in units.codes if clip in labels]
    emotions = sorted({labels[clip] for clip in clips})
    rows = units.histograms(clips)
    truth = np.array([emotions.index(labels[clip]) for clip in clips])
    known = {clip: speaker[clip] for clip in clips}
    n_folds = min(N_FOLDS, len(set(known.values())))
    place = {clip: n for n, clip in enumerate(clips)}
    guess = np.zeros(len(clips), dtype=np.int64)
    for fold in speaker_folds(known, n_folds=n_folds, n_valid_speakers=0):
        train, test = ([place[u] for u in part] for part in (fold.train, fold.test))
        head = PooledClassifier().fit(rows[train], np.eye(len(emotions))[truth[train]])
        guess[test] = head.predict_proba(rows[test]).argmax(axis=1)
    counts = confusion(truth, guess, labels=list(range(len(emotions))))
    found = scores_of_confusion(counts)
    return {name: float(found[name]) for name in ("uar", "macro_f1")}


def phone_probe(
    units: UnitSet, phones: Mapping[str, np.ndarray], speaker: Mapping[str, str]
) -> dict[str, float]:
    """Say the most frequent phone of each first-level unit, on speakers not heard.

    Parameters
    ----------
    units : UnitSet
    phones : mapping of str to (T,) int array
        -1 where a frame has none.
    speaker : mapping of str to str

    Returns
    -------
    scores : dict
        `accuracy` of frames, and `chance`, if every frame is the most frequent phone.
    """
    clips = [clip for clip in units.codes if clip in phones]
    known = {clip: speaker[clip] for clip in clips}
    n_folds = min(N_FOLDS, len(set(known.values())))
    n_phones = 1 + max(int(phones[clip].max(initial=-1)) for clip in clips)
    right = chance = total = 0
    for fold in speaker_folds(known, n_folds=n_folds, n_valid_speakers=0):
        learned, tested = (
            _labelled(units, phones, part) for part in (fold.train, fold.test)
        )
        table = contingency(*learned, shape=(units.sizes[0], n_phones))
        common = table.sum(axis=0).argmax()
        best = np.where(table.any(axis=1), table.argmax(axis=1), common)
        right += int((best[tested[0]] == tested[1]).sum())
        chance += int((tested[1] == common).sum())
        total += len(tested[1])
    if not total:
        raise ValueError("no frame of these clips has a phone")
    return {"accuracy": right / total, "chance": chance / total}


def _labelled(
    units: UnitSet, phones: Mapping[str, np.ndarray], clips: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.concatenate([phones[clip] for clip in clips])
    known = labels >= 0
    return units.level(0, clips)[known], labels[known]
