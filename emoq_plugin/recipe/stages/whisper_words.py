"""What is left of the words: quantized states in Whisper's own decoder."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from emoq_plugin.files import read_table, write_json
from emoq_plugin.options import Count, Natural
from emoq_plugin.progress import progress
from emoq_plugin.units.rates import Rate

if TYPE_CHECKING:
    from emoq_plugin.routing.quantizer import RoutedQuantizer
    from emoq_plugin.speech.encoders.huggingface import HuggingFace

CONTINUOUS = "continuous"
BATCH_CLIPS = 8  # states of a 30-s window are 3 MB a clip for the base model


@dataclass(frozen=True)
class WordsSystem:
    """Balanced codes, with or without a clip code: ``64x4`` or ``64x1+clip32``.

    Attributes
    ----------
    rate : Rate
    clip_bits : int or None
    """

    rate: Rate
    clip_bits: int | None = None

    @classmethod
    def parse(cls, text: str) -> "WordsSystem":
        """Read ``<K>x<L>`` or ``<K>x<L>+clip<B>``.

        Raises
        ------
        ValueError
            For another form.
        """
        match = re.fullmatch(r"(\d+x\d+)(?:\+clip([1-9]\d*))?", text)
        if not match:
            raise ValueError(f"'{text}' is not <K>x<L> or <K>x<L>+clip<B>: 64x1+clip32")
        return cls(Rate.parse(match[1]), int(match[2]) if match[2] else None)

    def __str__(self) -> str:
        return f"{self.rate}+clip{self.clip_bits}" if self.clip_bits else f"{self.rate}"


@dataclass(frozen=True, kw_only=True)
class WhisperWordsOptions:
    """Options of the word error rate.

    Attributes
    ----------
    data_dir
        Set with wav.scp and text, dump/raw/<set>; with --learn also utt2emo.
    model_dir
        Local directory, or name, of a Whisper model with its tokenizer.
    language
        Code of the language that is spoken, such as de.
    quantizers
        Artifacts learned on the last layer, in the full window.
    learn
        Systems that are learned here, each on other sentences than those that it is
        tested on: 64x1 64x4 61x4+clip32.
    feature_dir
        For --learn: features of the last layer, in the full window.
    clips
        Clips that are tested, at even distances in the set; 0: all.
    sentence_folds
        For --learn: parts that the sentences are dealt to.
    seed
        Of the learning.
    device
        Auto is the GPU where there is one.
    output
        JSON file with errors and texts.
    """

    data_dir: Path
    model_dir: str
    language: str
    quantizers: tuple[str, ...] = ()
    learn: tuple[WordsSystem, ...] = ()
    feature_dir: Path | None = None
    clips: Natural = 48
    sentence_folds: Count = 5
    seed: Natural = 0
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    output: Path | None = None


def whisper_words(options: WhisperWordsOptions) -> None:
    """Print the word error rate of each quantizer, and of states as they are."""
    from emoq_plugin.devices import pick_device
    from emoq_plugin.speech.encoders.registry import build_encoder
    from emoq_plugin.speech.whisper_decoder import WhisperDecoder

    if options.learn and not options.feature_dir:
        raise ValueError("--learn needs --feature_dir, the features to learn from")
    text = read_table(options.data_dir / "text")
    tested = sorted(text)[:: max(1, len(text) // (options.clips or len(text)))]
    tested = tested[: options.clips or None]
    device = pick_device(options.device, 1)
    decoder = WhisperDecoder(options.model_dir, options.language, device=device)
    encoder = build_encoder("huggingface", model=options.model_dir, device=device)
    found: dict[str, Callable[[str], RoutedQuantizer]] = {}
    for name in options.quantizers:
        found[name] = _loaded(name, encoder)
    for system in options.learn:
        found[str(system)] = _learned(system, options, text, encoder)
    texts, rates = transcribe_all(
        read_table(options.data_dir / "wav.scp"), tested, encoder, decoder, found
    )
    report = word_error_report({u: text[u] for u in tested}, texts, rates)
    print(_table(report))
    if options.output:
        write_json(options.output, report)


def transcribe_all(
    wav: Mapping[str, str],
    clips: Sequence[str],
    encoder: "HuggingFace",
    decoder: Callable[[Any], list[str]],
    quantizers: "Mapping[str, Callable[[str], RoutedQuantizer]]",
) -> tuple[dict[str, dict[str, str]], dict[str, float | None]]:
    """Transcribe clips under every quantizer, and without one.

    Frames behind a clip stay as the encoder gives them: the decoder is used to the
    silence there.

    Parameters
    ----------
    wav : mapping of str to str
        Entries of wav.scp.
    clips : sequence of str
    encoder : HuggingFace
        Last layer of Whisper, `window: full`.
    decoder : WhisperDecoder
    quantizers : mapping of str to callable
        Each gives the quantizer of a clip.

    Returns
    -------
    texts : dict of str to dict of str to str
        By quantizer (`continuous` is none) and clip.
    rates : dict of str to float or None
        Bits per second by quantizer.
    """
    from emoq_plugin.speech.audio import read_audio

    texts: dict[str, dict[str, str]] = {n: {} for n in (CONTINUOUS, *quantizers)}
    bits = dict.fromkeys(quantizers, 0.0)
    seconds = 0.0
    batches = list(batched(clips, BATCH_CLIPS))
    for batch in progress(batches, len(batches), "words"):
        waves = [read_audio(wav[u], sample_rate=encoder.sample_rate)[0] for u in batch]
        seconds += sum(map(len, waves)) / encoder.sample_rate
        states = encoder.whole_window(waves)
        texts[CONTINUOUS] |= dict(zip(batch, decoder(states)))
        for name, quantizer_of in quantizers.items():
            changed = states.clone()
            for row, clip, wave in zip(changed, batch, waves):
                spoken = row[: encoder.n_frames(len(wave))]
                quantized = quantizer_of(clip)(spoken[None])
                spoken[:] = quantized.features[0]
                bits[name] += float(quantized.bits[0])
            texts[name] |= dict(zip(batch, decoder(changed)))
    return texts, {CONTINUOUS: None} | {n: b / seconds for n, b in bits.items()}


def word_error_report(
    reference: Mapping[str, str],
    texts: Mapping[str, Mapping[str, str]],
    rates: Mapping[str, float | None],
) -> dict[str, Any]:
    """Count word errors by system; case and punctuation do not count."""
    from emoq_plugin.evaluation.word_errors import word_errors

    expected = {u: plain_words(t) for u, t in reference.items()}
    return {
        name: {
            "bits_per_second": rates[name],
            **word_errors(expected, {u: plain_words(t) for u, t in found.items()}),
            "texts": dict(found),
        }
        for name, found in texts.items()
    }


def plain_words(text: str) -> str:
    """Return a text without case and punctuation.

    Examples
    --------
    >>> plain_words("Weiß er's?  Ja.")
    'weiss er s ja'
    """
    return " ".join(re.findall(r"\w+", text.casefold()))


def sentence_folds(text: Mapping[str, str], n_folds: int) -> dict[str, int]:
    """Deal sentences to folds, so that no sentence is in two of them.

    Parameters
    ----------
    text : mapping of str to str
        By clip.
    n_folds : int

    Returns
    -------
    dict of str to int
        Fold of each clip.

    Raises
    ------
    ValueError
        If there are fewer sentences than folds, or fewer than two folds.
    """
    sentences = sorted({plain_words(sentence) for sentence in text.values()})
    if not 2 <= n_folds <= len(sentences):
        raise ValueError(
            f"--sentence_folds {n_folds} of {len(sentences)} different sentences, "
            f"expected 2 to {len(sentences)}: quantizers are learned on other "
            "sentences than those they are tested on"
        )
    fold = {sentence: n % n_folds for n, sentence in enumerate(sentences)}
    return {clip: fold[plain_words(sentence)] for clip, sentence in text.items()}


def _check_specification(name: str, found: Any, encoder: "HuggingFace") -> None:
    expected = encoder.specification
    if found != expected.fingerprint():
        raise ValueError(
            f"{name}: learned on other features than layer {expected.layers[0]} of "
            f"{expected.versions['model']} in the full window, which its decoder takes"
        )


def _loaded(name: str, encoder: "HuggingFace") -> "Callable[[str], RoutedQuantizer]":
    import emoq_plugin

    quantizer = emoq_plugin.load(name)
    _check_specification(name, quantizer.bank.card.get("feature_fingerprint"), encoder)
    logging.info("%s: see its card for the sentences that it was learned on", name)
    return lambda clip: quantizer


def _learned(
    system: WordsSystem,
    options: WhisperWordsOptions,
    text: Mapping[str, str],
    encoder: "HuggingFace",
) -> "Callable[[str], RoutedQuantizer]":
    """Learn one quantizer a fold of sentences."""
    from emoq_plugin.estimator import EmoQuantizer
    from emoq_plugin.speech.store import FeatureStore

    store = FeatureStore(options.feature_dir)
    fingerprint = store.specification.fingerprint()
    _check_specification(f"--feature_dir {options.feature_dir}", fingerprint, encoder)
    fold_of = sentence_folds(text, options.sentence_folds)
    labels = read_table(options.data_dir / "utt2emo") if system.clip_bits else None
    learned = []
    for fold in range(options.sentence_folds):
        clips = [u for u in store if u in fold_of and fold_of[u] != fold]
        quantizer = EmoQuantizer(
            system.rate.size,
            system.rate.n_levels,
            router=None,
            norm="corpus",
            clip_bits=system.clip_bits,
            seed=options.seed,
            frame_rate=store.specification.frame_rate_hz,
        )
        quantizer.fit({u: store[u] for u in clips}, labels)
        learned.append(quantizer.quantizer_)
    return lambda clip: learned[fold_of[clip]]


def _table(report: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| system | bit/s | WER % |", "|---|---|---|"]
    for name, found in report.items():
        rate = found["bits_per_second"]
        mean, *ends = (f"{100 * x:.1f}" for x in found["wer"].values() if x is not None)
        shown = f"{mean} [{', '.join(ends)}]" if ends else mean
        lines.append(f"| {name} | {'' if rate is None else f'{rate:.1f}'} | {shown} |")
    return "\n".join(lines)
