"""What reconstructions of a system at a rate keep: one JSON line a condition."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.core.bank import CodebookBank, member
from emoq_plugin.core.batch_encoding import pool
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import Fold
from emoq_plugin.evaluation.content_probes import (
    PhoneTask,
    SpeakerTask,
    speaker_task,
)
from emoq_plugin.evaluation.decoded import Units
from emoq_plugin.evaluation.emotion_probe import route_shares
from emoq_plugin.evaluation.geometry import (
    cosine,
    distance_correlation,
    drift,
    linear_cka,
)
from emoq_plugin.evaluation.information import (
    N_PERMUTATIONS,
    clip_information,
    information,
    shifted,
)
from emoq_plugin.files import atomic_write
from emoq_plugin.routing.systems import CONTINUOUS
from emoq_plugin.units.store import UnitStore

NEUTRAL = "neutral"
MAX_CLIPS = 4000  # of comparisons of all clips with all clips


@dataclass
class MeasureTask:
    """What all conditions of a fold share.

    Attributes
    ----------
    fold : Fold
    emotions : list of C str
    clips : list of N str
        Test clips first, then all others.
    test : dict of str to (T, D) Tensor
        Normalised features of the test clips.
    pooled : (N, 2 D) array
        Pooled normalised features of all clips.
    labels : (N_test,) int array
        Class of each test clip, -1 without a majority.
    targets : (N_test, C) array
        Class shares.
    speakers : SpeakerTask
    phones : PhoneTask or None
    phone_rows : Tensor or None
        Normalised frames of `phones`, train before test.
    n_permutations : int
    seed : int
    """

    fold: Fold
    emotions: list[str]
    clips: list[str]
    test: dict[str, Tensor]
    pooled: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    speakers: SpeakerTask
    phones: PhoneTask | None
    phone_rows: Tensor | None
    n_permutations: int = N_PERMUTATIONS
    seed: int = 0

    @classmethod
    def build(
        cls,
        fold: Fold,
        data: DataDirectory,
        emotions: Sequence[str],
        *,
        normalised: Callable[[str], Tensor],
        train: Sequence[str],
        phone_labels: Mapping[str, np.ndarray] | None = None,
        n_phones: int = 0,
        **options: Any,
    ) -> "MeasureTask":
        """Read every clip once.

        Parameters
        ----------
        fold : Fold
        data : DataDirectory
        emotions : sequence of C str
        normalised : callable
            Gives the (T, D) normalised features of an utterance.
        train : sequence of str
            Clips that the phone probe learns from.
        phone_labels : mapping of str to (T,) int array, optional
            By utterance, see `data.alignments.frame_labels`.
        n_phones : int, default=0
        **options
            `n_permutations` and `seed`.
        """
        clips = [*fold.test, *fold.train, *fold.valid]
        phones = PhoneTask.build(
            phone_labels or {}, n_phones=n_phones, train=train, test=fold.test
        )
        wanted = {**phones.train, **phones.test} if phones else {}
        test, pooled, sampled = {}, [], {}
        for clip in clips:
            frames = normalised(clip)
            pooled.append(pool(frames).numpy())
            if clip in wanted:
                sampled[clip] = frames[torch.from_numpy(wanted[clip])]
            if len(test) < len(fold.test):
                test[clip] = frames
        return cls(
            fold=fold,
            emotions=list(emotions),
            clips=clips,
            test=test,
            pooled=np.stack(pooled),
            labels=data.labels(fold.test, emotions),
            targets=data.targets(fold.test, emotions),
            speakers=speaker_task(data, clips, fold.test),
            phones=phones,
            phone_rows=torch.cat([sampled[c] for c in wanted]) if phones else None,
            **options,
        )

    def __post_init__(self) -> None:
        scale = self.pooled.std(axis=0)
        self._mean = self.pooled.mean(axis=0)
        self._scale = np.where(scale > 0, scale, 1.0)
        self.reference = self.standardised(self.pooled[: self.n_test])

    def standardised(self, pooled: np.ndarray) -> np.ndarray:
        """Scale pooled vectors (N, 2 D) by the statistics of the continuous ones."""
        return (pooled - self._mean) / self._scale

    @property
    def n_test(self) -> int:
        """Number of test clips, the first of `clips`."""
        return len(self.fold.test)

    def by_emotion(self, figure: Callable[[np.ndarray], float]) -> dict[str, float]:
        """Apply a function to the indices of all test clips and of each class."""
        values = {"all": figure(np.arange(self.n_test))}
        for c, emotion in enumerate(self.emotions):
            rows = np.flatnonzero(self.labels == c)
            if len(rows):
                values[emotion] = figure(rows)
        return values


def measure_continuous(task: MeasureTask) -> dict[str, Any]:
    """Return the line of the features that were not quantized: the reference."""
    phones = None
    if task.phones:
        rows = np.arange(len(task.phone_rows))
        n_train = len(task.phones.train_labels)
        phones = task.phones.score(task.phone_rows, rows[:n_train], rows[n_train:])
    return {
        "fold": task.fold.name,
        "rate": CONTINUOUS,
        "system": CONTINUOUS,
        "bitrate_bps": None,
        "n_clips": task.n_test,
        "distortion": task.by_emotion(lambda rows: 0.0),
        "cosine_of_means": task.by_emotion(lambda rows: 1.0),
        "levels": [],
        "cka": 1.0,
        "mutual_information": None,
        "drift": drifts(task, task.reference),
        "vote_structure": vote_structure(task, task.reference),
        "routes": None,
        "phone": phones,
        "speaker": task.speakers.score(task.pooled),
    }


def measure_condition(
    task: MeasureTask,
    bank: CodebookBank,
    store: UnitStore,
    *,
    probes: bool = True,
) -> dict[str, Any]:
    """Return the line of one system at one rate.

    Parameters
    ----------
    task : MeasureTask
    bank : CodebookBank
    store : UnitStore
    probes : bool, default=True
        Whether phones and speakers are probed.
    """
    clips = task.clips if probes else task.clips[: task.n_test]
    units = Units.read(store, bank, clips)
    pooled = decoded_pooled(units, clips)
    test = task.standardised(pooled[: task.n_test])
    bits = level_information(task, units)
    levels = decoded_levels(task, units)
    for level, (entry, found) in enumerate(zip(levels, bits)):
        entry |= usage_of_level(store, level) | {"mutual_information": found}
    spread = evenly(task.n_test)
    return {
        "fold": task.fold.name,
        "rate": store.card["rate"],
        "system": store.card["system"],
        "bitrate_bps": {k: v for k, v in store.bitrate.items() if np.isscalar(v)},
        "n_clips": task.n_test,
        "distortion": levels[-1].pop("by_emotion"),
        "cosine_of_means": levels[-1].pop("cosines"),
        "levels": levels,
        "cka": linear_cka(test[spread], task.reference[spread]),
        "mutual_information": bits[0] if bits else None,
        "drift": drifts(task, test),
        "vote_structure": vote_structure(task, test),
        "routes": routes_by_emotion(task, store),
        "phone": probe_phones(task.phones, units) if probes and task.phones else None,
        "speaker": task.speakers.score(pooled) if probes else None,
    }


def decoded_pooled(units: Units, clips: Sequence[str]) -> np.ndarray:
    """Pool the full reconstructions of clips: (N, 2 D)."""
    pooled = {clip: pool(x).numpy() for clip, x in units.decode(clips, units.n_levels)}
    return np.stack([pooled[clip] for clip in clips])


def decoded_levels(task: MeasureTask, units: Units) -> list[dict[str, Any]]:
    """Return distortion and cosine of means on test clips after 1 .. L levels.

    Without frame codes, of the decoded clip code. Distortion: mean squared error over
    the variance of the frames concerned (of one class where it is by class).
    """
    clips = task.fold.test
    sums = np.stack([task.test[c].sum(dim=0).double().numpy() for c in clips])
    squares = np.array([float(task.test[c].double().square().sum()) for c in clips])
    frames = np.array([len(task.test[c]) for c in clips])
    levels = []
    for level in range(min(1, units.n_levels), units.n_levels + 1):
        errors, means = {}, {}
        for clip, decoded in units.decode(clips, level):
            errors[clip] = float((decoded - task.test[clip]).square().sum())
            means[clip] = decoded.mean(dim=0).numpy()
        error = np.array([errors[c] for c in clips])
        cosines = cosine(
            np.stack([means[c] for c in clips]).astype(np.float64),
            sums / frames[:, None],
        )

        def distortion(rows: np.ndarray, error: np.ndarray = error) -> float:
            mean_square = np.square(sums[rows].sum(axis=0)).sum() / frames[rows].sum()
            return float(error[rows].sum() / (squares[rows].sum() - mean_square))

        distortions = task.by_emotion(distortion)
        means_agree = task.by_emotion(lambda rows, c=cosines: float(c[rows].mean()))
        levels.append(
            {
                "distortion": distortions["all"],
                "cosine_of_means": means_agree["all"],
            }
        )
    levels[-1] |= {"by_emotion": distortions, "cosines": means_agree}
    return levels


def usage_of_level(store: UnitStore, level: int) -> dict[str, float]:
    """Return entropy, utilisation and perplexity of one level on test clips."""
    share = store.bitrate["relative_entropy"][level]
    bits = share * float(np.log2(store.card["size"]))
    return {
        "entropy_bits": bits,
        "entropy_share": share,
        "utilisation": store.bitrate["used_share"][level],
        "perplexity": 2**bits,
    }


def level_information(
    task: MeasureTask, units: Units
) -> list[dict[str, dict[str, float] | None]]:
    """Return for each level what its units (route and code) say about the labels.

    On test clips: routes and codes of clips that the codebooks have not seen.
    """
    if not units.n_levels:
        return []
    clips = task.fold.test
    lengths = [len(task.test[c]) for c in clips]
    clip_of_frame = np.repeat(np.arange(len(clips)), lengths)
    by_clip = {
        "emotion": (task.labels, len(task.emotions)),
        "speaker": (
            task.speakers.speakers[: task.n_test],
            int(task.speakers.speakers.max()) + 1,
        ),
    }
    options = {"seed": task.seed, "n_permutations": task.n_permutations}
    streams = units.streams(clips)
    found: list[dict] = [
        {
            name: clip_information(
                stream, clip_of_frame, labels=labels, n_labels=n, **options
            )
            for name, (labels, n) in by_clip.items()
        }
        for stream in streams.T
    ]
    phones = task.phones
    if phones:
        lengths = [*map(len, phones.test.values())]
        null = shifted(phones.test_labels, lengths, task.n_permutations, seed=task.seed)
        streams = units.streams([*phones.test], phones.test)
    for level, entry in enumerate(found):
        entry["phone"] = phones and information(
            streams[:, level], phones.test_labels, null=null, n_labels=phones.n_phones
        )
    return found


def drifts(task: MeasureTask, decoded: np.ndarray) -> dict[str, float] | None:
    """Return the drift toward neutral of each other class; None without neutral clips.

    Of standardised pooled vectors (mean and standard deviation over time).
    """
    rows = {
        emotion: np.flatnonzero(task.labels == c)
        for c, emotion in enumerate(task.emotions)
    }
    neutral = rows.pop(NEUTRAL, ())
    if not len(neutral):
        return None
    return {
        emotion: drift(task.reference[at], decoded[at], task.reference[neutral])
        for emotion, at in rows.items()
        if len(at)
    }


def evenly(n_clips: int) -> np.ndarray:
    """Choose at most `MAX_CLIPS` clips, evenly spaced."""
    return np.linspace(0, n_clips - 1, min(n_clips, MAX_CLIPS)).astype(int)


def vote_structure(task: MeasureTask, pooled: np.ndarray) -> float | None:
    """Distance correlation of class shares and standardised pooled test clips."""
    spread = evenly(task.n_test)
    return distance_correlation(task.targets[spread], pooled[spread])


def routes_by_emotion(
    task: MeasureTask, store: UnitStore
) -> dict[str, dict[str, float]] | None:
    """Return the mean weight of each expert by class; None without a choice."""
    experts = store.card["experts"]
    if len(experts) <= 1:
        return None
    weights = np.stack([route_shares(store, u) for u in task.fold.test])
    names = [member(expert) for expert in experts]
    return {
        emotion: dict(zip(names, weights[task.labels == c].mean(axis=0).tolist()))
        for c, emotion in enumerate(task.emotions)
        if (task.labels == c).any()
    }


def probe_phones(task: PhoneTask, units: Units) -> dict:
    """Probe the phones of reconstructions."""
    frames = [*task.train.items(), *task.test.items()]
    rows, index = units.distinct_rows(frames)
    n_train = len(task.train_labels)
    return task.score(rows, index[:n_train], index[n_train:])


def write_measures(path: str | Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON line a condition, atomically, of 6 significant digits."""
    with atomic_write(path) as stream:
        for line in lines:
            stream.write(json.dumps(_rounded(line), ensure_ascii=False) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
