"""From audio files and a table of labels to a quantizer that is ready to use."""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from emoq_plugin.data.labelled_audio import LabelledAudio, read_labels
from emoq_plugin.options import POSITIONAL, Count, Natural, Seconds, whole
from emoq_plugin.presets import find_config
from emoq_plugin.progress import progress

if TYPE_CHECKING:
    from emoq_plugin.speech.encoders.encoder import Encoder
    from emoq_plugin.speech.store import FeatureStore

BATCH_FILES = 16


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
    clip_bits
        Bits of a clip code for what lasts of a clip, beside the frame codes.
    clip_window
        Seconds after which another clip code is sent; default: one a clip.
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
    about
        YAML file for the model card: license, language, data, limits, citation.
    """

    audio_dir: Annotated[Path, POSITIONAL]
    labels: Annotated[Path, POSITIONAL]
    output: Path
    features: str = "fbank"
    codebook_size: Annotated[int, whole(2)] = 64
    n_levels: Count = 1
    router: Annotated[str | None, router_name] = "calibrated"
    norm: Literal["level", "corpus", "clip", "speaker"] = "level"
    clip_bits: Count | None = None
    clip_window: Seconds | None = None
    classes: tuple[str, ...] = ()
    seed: Natural = 0
    n_folds: Natural = 5
    multi_channel: Literal["error", "first", "mean"] = "error"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    model_dir: str | None = None
    about: Path | None = None


def learn(options: LearnOptions) -> None:
    """Learn a quantizer from audio and labels, save it, print what it is.

    Raises
    ------
    ValueError
        For settings, labels and files that cannot be used, before any work.
    """
    from emoq_plugin.core.model_card import (
        rate_in_words,
        read_about,
        score_in_words,
    )
    from emoq_plugin.devices import pick_device
    from emoq_plugin.estimator import EmoQuantizer
    from emoq_plugin.learn_score import held_out_score, rate_of
    from emoq_plugin.speech.encoders.registry import build_encoder, read_feature_config
    from emoq_plugin.speech.golden import keep_golden_clip

    about = read_about(options.about) if options.about else {}
    if options.output.exists() and any(options.output.iterdir()):
        raise ValueError(f"--output {options.output} is not empty: choose another")
    name, conf = read_feature_config(find_config(options.features, "features"))
    audio = read_labels(options.labels, options.audio_dir, options.classes)
    device = pick_device(options.device, 1)
    quantizer = EmoQuantizer(
        options.codebook_size,
        options.n_levels,
        router=options.router,
        norm=options.norm,
        clip_bits=options.clip_bits,
        clip_window=options.clip_window,
        classes=audio.classes,
        seed=options.seed,
        device=device,
    )
    quantizer.check(list(audio.paths), audio.shares, audio.speakers or None)
    encoder = build_encoder(name, device=device, model_dir=options.model_dir, **conf)
    with tempfile.TemporaryDirectory(prefix="emoq_learn_") as folder:
        store, band = _dump(encoder, audio, Path(folder), options.multi_channel)
        quantizer.fit(store, audio.shares, speakers=audio.speakers or None)
        card = quantizer.quantizer_.bank.card
        card |= {"audio": band, "bitrate_bps": rate_of(quantizer, store)}
        keep_golden_clip(quantizer.quantizer_.bank, store)
        card |= {"about": about} if about else {}
        quantizer.save_pretrained(options.output)
        logging.info(
            "wrote %s: emoq encode a.wav --quantizer %s", *[options.output] * 2
        )
        print(quantizer.quantizer_, rate_in_words(card["bitrate_bps"]), sep="\n")
        card["held_out"] = held_out_score(quantizer, store, audio, options.n_folds)
        print(score_in_words(card["held_out"]))
        quantizer.save_pretrained(options.output)  # with its score


def _dump(
    encoder: "Encoder", audio: LabelledAudio, folder: Path, multi_channel: str
) -> tuple["FeatureStore", dict]:
    """Encode all recordings into a directory; gives them and what band they have."""
    from emoq_plugin.speech.audio import read_audio, resample
    from emoq_plugin.speech.band import band_note, band_of
    from emoq_plugin.speech.golden import golden_features
    from emoq_plugin.speech.store import (
        FeatureStore,
        merge_feature_jobs,
        write_features,
        write_golden,
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
    write_golden(folder, golden_features(encoder))
    band: dict = {"sampling_rates_hz": dict(rates), "bands_hz": dict(bands)}
    if note := band_note(band, encoder.sample_rate):
        band["note"] = note
    return FeatureStore(folder), band
