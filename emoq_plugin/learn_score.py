"""What `emoq learn` says of a quantizer: its rate, its score on held-out speakers."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING, Any

import numpy as np

from emoq_plugin.progress import progress

if TYPE_CHECKING:
    from emoq_plugin.data.folds import Fold
    from emoq_plugin.data.labelled_audio import LabelledAudio
    from emoq_plugin.estimator import EmoQuantizer
    from emoq_plugin.speech.store import FeatureStore

BATCH_CLIPS = 16


def rate_of(quantizer: "EmoQuantizer", store: "FeatureStore") -> dict[str, float]:
    """Return the mean rate over the clips of a store, bit/s.

    Returns
    -------
    dict of str to float
        `total`, and of it `side`: what is sent once a clip or window.
    """
    import torch

    from emoq_plugin.core.clip_statistics import count_windows

    routed, rate_hz = quantizer.quantizer_, store.specification.frame_rate_hz
    seconds = sum(store.lengths.values()) / rate_hz
    frame_bits, clip_bits = routed.bits
    side = clip_bits * len(store)
    if (code := routed.bank.clip_code) is not None:
        lengths = torch.tensor([*store.lengths.values()])
        side += float((count_windows(lengths, code.window) - 1).sum()) * code.bits
    return {"total": frame_bits * rate_hz + side / seconds, "side": side / seconds}


def held_out_score(
    quantizer: "EmoQuantizer",
    store: "FeatureStore",
    audio: "LabelledAudio",
    n_folds: int,
) -> dict[str, Any]:
    """Learn again without the speakers of each fold, and predict their emotions.

    Returns
    -------
    dict
        `macro_f1` with the ends of its interval over speakers (`mean`, `low`, `high`),
        and how many `classes`, `folds`, `speakers` and `clips`; or `none` alone, which
        says why.
    """
    from sklearn.base import clone

    from emoq_plugin.data.folds import speaker_folds
    from emoq_plugin.evaluation import intervals
    from emoq_plugin.evaluation.metrics import scores_of_confusion

    n_speakers = len(set(audio.speakers.values()))
    if n_folds == 0:
        return {"none": "--n_folds is 0"}
    if n_speakers < 3:
        return {
            "none": f"{n_speakers} speakers are known, expected 3 or more in a column "
            "'speaker'"
        }
    folds = speaker_folds(
        audio.speakers, n_folds=min(max(n_folds, 2), n_speakers), n_valid_speakers=0
    )
    if why := _lacking(folds, audio):
        return {"none": why}
    found: dict[str, str] = {}
    for fold in progress(folds, len(folds), "folds of the score"):
        learned = clone(quantizer).fit(
            _Part(store, fold.train),
            {name: audio.shares[name] for name in fold.train},
            speakers=audio.speakers,
        )
        for names in batched(fold.test, BATCH_CLIPS):
            found |= zip(names, learned.predict([store[name] for name in names]))
    who, speakers = np.unique([audio.speakers[n] for n in found], return_inverse=True)
    confusions = intervals.speaker_confusions(
        audio.labels([*found]),
        [*found.values()],
        labels=audio.classes,
        speakers=speakers,
        n_speakers=len(who),
    )
    weights = intervals.with_everyone(intervals.draw_speakers(len(who)))
    pooled = intervals.resample_sums(confusions, weights)
    value, *resampled = scores_of_confusion(pooled)["macro_f1"]
    return {
        "macro_f1": intervals.percentile_interval(value, np.array(resampled)),
        "classes": len(audio.classes),
        "folds": len(folds),
        "speakers": n_speakers,
        "clips": len(found),
    }


def _lacking(folds: Sequence["Fold"], audio: "LabelledAudio") -> str:
    """Name a fold whose training speakers lack a class."""
    for fold in folds:
        if absent := set(audio.classes) - set(audio.labels(fold.train)):
            return (
                f"the training speakers of fold {fold.name} lack "
                f"{', '.join(sorted(absent))}"
            )
    return ""


class _Part(Mapping[str, np.ndarray]):
    """Some clips of a store, read when asked for."""

    def __init__(self, store: "FeatureStore", names: Sequence[str]):
        self._store = store
        self.specification = store.specification
        self.lengths = {name: store.lengths[name] for name in names}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._store[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)
