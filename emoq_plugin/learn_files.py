"""From audio files and a table of labels to a quantizer that is ready to use."""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from emoq_plugin.options import POSITIONAL, Count, Natural, whole
from emoq_plugin.presets import find_config
from emoq_plugin.progress import progress

if TYPE_CHECKING:
    from emoq_plugin.estimator import EmoQuantizer
    from emoq_plugin.speech.encoders.encoder import Encoder
    from emoq_plugin.speech.store import FeatureStore

BATCH_FILES = 16
COLUMNS = """Columns of the table, in any case: file (relative to the directory),
emotion, or votes_<emotion> (how many raters heard it), and speaker if it is known."""


def router_name(text: str) -> str | None:
    """Read the name of a router; `none` for one balanced codebook."""
    return None if text == "none" else text


@dataclass(frozen=True, kw_only=True)
class LearnOptions:
    """What is learned from which recordings.

    Attributes
    ----------
    audio_dir
        Directory that the table's files are relative to.
    labels
        Table with a header line: file, emotion and, if it is known, speaker.
    output
        Directory of the artifact.
    features
        File or name of conf/features.
    codebook_size
        Codewords of each level.
    n_levels
        Levels of residual quantization.
    router
        Chooses the expert of a clip; none: one balanced codebook.
    norm
        What is removed before quantizing.
    classes
        Emotions in order, clips of others are left out; default: all, sorted.
    seed
        Of the random draws.
    n_folds
        Speaker-disjoint folds of the score; 0: no score.
    multi_channel
        What is done with several channels.
    device
        Auto is the GPU where there is one.
    model_dir
        Local directory of the encoder's model.
    """

    audio_dir: Annotated[Path, POSITIONAL]
    labels: Annotated[Path, POSITIONAL]
    output: Path
    features: str = "fbank"
    codebook_size: Annotated[int, whole(2)] = 64
    n_levels: Count = 1
    router: Annotated[str | None, router_name] = "calibrated"
    norm: Literal["level", "corpus", "clip", "speaker"] = "level"
    classes: tuple[str, ...] = ()
    seed: Natural = 0
    n_folds: Natural = 5
    multi_channel: Literal["error", "first", "mean"] = "error"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    model_dir: str | None = None


@dataclass(frozen=True)
class LabelledAudio:
    """Recordings with labels, by name.

    Attributes
    ----------
    paths : dict of str to Path
    shares : dict of str to (C,) array
        Share of each class.
    speakers : dict of str to str
        Empty where they are not known.
    classes : list of C str
    """

    paths: dict[str, Path]
    shares: dict[str, np.ndarray]
    speakers: dict[str, str]
    classes: list[str]

    def labels(self, names: Sequence[str]) -> list[str]:
        """Return the class with most votes of each recording."""
        return [self.classes[self.shares[name].argmax()] for name in names]


def read_labels(
    table: Path, audio_dir: Path, classes: Sequence[str] = ()
) -> LabelledAudio:
    """Read a table of labels and look for its audio.

    Parameters
    ----------
    table : Path
        See `COLUMNS`; the dialects are those of `data.clip_table.read_clips`.
    audio_dir : Path
    classes : sequence of str, optional
        All labels when empty.

    Raises
    ------
    ValueError
        For a table that cannot be read (with its line), files that are missing, a
        class without clips, fewer than two classes, speakers of some clips only.
    """
    from emoq_plugin.data.clip_table import check_labels, read_clips

    if not audio_dir.is_dir():
        raise ValueError(f"{audio_dir} is no directory: give that of the audio first")
    if not table.is_file():
        raise ValueError(f"{table} is no file: expected a table of labels")
    found = read_clips(table, {}, audio_dir=audio_dir, needed=["file"])
    check_labels(found)
    labels = {x for clip in found.clips for x in clip.votes or [clip.label]}
    classes = list(classes) or sorted(labels)
    if unknown := [c for c in classes if c not in labels]:
        raise ValueError(
            f"--classes {unknown[0]}: {table} has no such label, found: "
            f"{' '.join(sorted(labels))}"
        )
    if len(set(classes)) < 2:
        raise ValueError(f"{table}: one class, {classes[0]}, expected at least two")
    votes = {n: c.votes or {c.label: 1.0} for n, c in enumerate(found.clips)}
    used = [n for n in votes if any(votes[n].get(c) for c in classes)]
    if len(used) < len(votes):
        logging.warning(
            "%s: %d of %d clips are of no class and left out",
            *(table, len(votes) - len(used), len(votes)),
        )
    clips = [found.clips[n] for n in used]
    names = [clip.name for clip in clips]
    [(twin, times)] = Counter(names).most_common(1)
    if times > 1:
        raise ValueError(
            f"{table}: {times} files have the name '{twin}': give them names in a "
            "column 'id'"
        )
    if missing := [c.audio for c in clips if not c.audio.is_file()]:
        raise ValueError(
            f"{table}: {len(missing)} of {len(clips)} files are missing, such as "
            f"{missing[0]}: files are seen from {audio_dir}"
        )
    speakers = {c.name: c.speaker for c in clips if c.speaker}
    if speakers and len(speakers) < len(clips):
        raise ValueError(
            f"{table}: {len(clips) - len(speakers)} of {len(clips)} clips have no "
            "speaker: fill in the column in every row, or remove it"
        )
    counts = [np.array([votes[n].get(c, 0.0) for c in classes]) for n in used]
    logging.info("%s", found.found())
    return LabelledAudio(
        {c.name: c.audio for c in clips},
        {name: count / count.sum() for name, count in zip(names, counts)},
        speakers,
        classes,
    )


def learn(options: LearnOptions) -> None:
    """Learn a quantizer from audio and labels, save it, print what it is.

    Raises
    ------
    ValueError
        For settings, labels and files that cannot be used, before any work.
    """
    from emoq_plugin.devices import pick_device
    from emoq_plugin.estimator import EmoQuantizer
    from emoq_plugin.speech.encoders.registry import build_encoder, read_feature_config

    if options.output.exists() and any(options.output.iterdir()):
        raise ValueError(f"--output {options.output} is not empty: choose another")
    name, conf = read_feature_config(find_config(options.features, "features"))
    if options.model_dir:
        conf["model"] = options.model_dir
    audio = read_labels(options.labels, options.audio_dir, options.classes)
    device = pick_device(options.device, 1)
    quantizer = EmoQuantizer(
        options.codebook_size,
        options.n_levels,
        router=options.router,
        norm=options.norm,
        classes=audio.classes,
        seed=options.seed,
        device=device,
    )
    quantizer.check(list(audio.paths), audio.shares, audio.speakers or None)
    encoder = build_encoder(name, device=device, **conf)
    with tempfile.TemporaryDirectory(prefix="emoq_learn_") as folder:
        store, band = _dump(encoder, audio, Path(folder), options.multi_channel)
        quantizer.fit(store, audio.shares, speakers=audio.speakers or None)
        quantizer.quantizer_.bank.card["audio"] = band
        quantizer.save_pretrained(options.output)
        logging.info(
            "wrote %s: emoq encode a.wav --quantizer %s", *[options.output] * 2
        )
        print(_described(quantizer, store))
        print(_score(quantizer, store, audio, options.n_folds))


def _dump(
    encoder: "Encoder", audio: LabelledAudio, folder: Path, multi_channel: str
) -> tuple["FeatureStore", dict]:
    """Encode all recordings into a directory; gives them and what band they have."""
    from emoq_plugin.speech.audio import read_audio, resample
    from emoq_plugin.speech.band import band_note, band_of
    from emoq_plugin.speech.store import (
        FeatureStore,
        merge_feature_jobs,
        write_features,
    )

    rates: Counter[str] = Counter()
    bands: Counter[str] = Counter()

    def encoded() -> Iterator[tuple[str, np.ndarray]]:
        for names in batched(audio.paths, BATCH_FILES):
            waves = []
            for name in names:
                samples, rate = read_audio(
                    str(audio.paths[name]), multi_channel=multi_channel
                )
                rates[str(rate)] += 1
                bands[str(band_of(samples, rate, encoder.sample_rate))] += 1
                waves.append(resample(samples, rate, encoder.sample_rate))
            yield from zip(names, encoder(waves, utterances=names))

    frames = progress(
        encoded(), len(audio.paths), f"{encoder.specification.encoder} features"
    )
    write_features(folder, encoder.specification, frames)
    merge_feature_jobs(folder, 1)
    band: dict = {"sampling_rates_hz": dict(rates), "bands_hz": dict(bands)}
    if note := band_note(band, encoder.sample_rate):
        band["note"] = note
    return FeatureStore(folder), band


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


def _described(quantizer: "EmoQuantizer", store: "FeatureStore") -> str:
    """Return experts, sizes and rate in words."""
    routed = quantizer.quantizer_
    seconds = sum(store.lengths.values()) / store.specification.frame_rate_hz
    frame_bits, clip_bits = routed.bits
    side = clip_bits * len(store) / seconds
    rate = frame_bits * store.specification.frame_rate_hz + side
    return f"{routed}\n{rate:.1f} bit/s, {side:.1f} of them for the route"


def _score(
    quantizer: "EmoQuantizer", store: "FeatureStore", audio: LabelledAudio, n_folds: int
) -> str:
    """Learn again without the speakers of each fold, and predict their emotions."""
    from sklearn.base import clone
    from sklearn.metrics import f1_score

    from emoq_plugin.data.folds import speaker_folds

    n_speakers = len(set(audio.speakers.values()))
    if n_folds == 0 or n_speakers < 3:
        return "no speaker-held-out score: " + (
            "--n_folds is 0" if n_folds == 0 else f"{n_speakers} speakers are known"
        )
    folds = speaker_folds(
        audio.speakers, n_folds=min(max(n_folds, 2), n_speakers), n_valid_speakers=0
    )
    for fold in folds:
        if absent := set(audio.classes) - set(audio.labels(fold.train)):
            return (
                f"no speaker-held-out score: the training speakers of fold {fold.name} "
                f"lack {', '.join(sorted(absent))}"
            )
    expected, found = [], []
    for fold in progress(folds, len(folds), "folds of the score"):
        learned = clone(quantizer).fit(
            _Part(store, fold.train),
            {name: audio.shares[name] for name in fold.train},
            speakers=audio.speakers,
        )
        for names in batched(fold.test, BATCH_FILES):
            found += learned.predict([store[name] for name in names])
        expected += audio.labels(fold.test)
    score = f1_score(expected, found, average="macro")
    return (
        f"macro-F1 {100 * score:.1f} % of {len(audio.classes)} classes, on speakers "
        f"held out in {len(folds)} folds"
    )
