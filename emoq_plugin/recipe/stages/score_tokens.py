"""Emotion in the output of `emoq clip-tokens`: units alone, and with clip tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from emoq_plugin.files import errors_of, read_json, read_options, read_table
from emoq_plugin.options import Count, Natural
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stages.fold_inputs import (
    FoldInputs,
    OpenFold,
    TrainOn,
    check_no_leak,
)
from emoq_plugin.units.clip_tokens import ClipVocabulary

if TYPE_CHECKING:
    from emoq_plugin.evaluation.token_probe import TokenStream
    from emoq_plugin.routing.quantizer import RoutedQuantizer


@dataclass(frozen=True, kw_only=True)
class ScoreTokensOptions:
    """Which tokens, of which corpus.

    Attributes
    ----------
    tokens : Path
        Output of clip-tokens, joined.
    quantizer : str
        That made the clip tokens.
    data_dir : Path
        With speakers and emotions of the utterances.
    emotions : Path
        Class order, one a line.
    folds : Path
        Directory of the folds.
    fold : tuple of str
        Those that are scored, on speakers that the quantizer was not learned from.
    train_on : {"train", "train+valid"}
        Parts to learn from.
    config : Path, optional
        File or name of conf/ser, options of the heads.
    output_dir : Path
        Gets posteriors.jsonl, an input of `emoq score`.
    n_resamples : int
        Of the bootstrap over speakers.
    seed : int
        Of the bootstrap.
    """

    tokens: Path
    quantizer: str
    data_dir: Path
    emotions: Path
    folds: Path
    fold: tuple[str, ...]
    train_on: TrainOn = "train"
    config: Annotated[Path, config_of("ser")] | None = None
    output_dir: Path
    n_resamples: Count = 1000
    seed: Natural = 0


def read_tokens(path: Path, quantizer: "RoutedQuantizer") -> "TokenStream":
    """Read the output of `emoq clip-tokens`.

    Raises
    ------
    ValueError
        For clip tokens of another quantizer, tokens that are not joined, or lines that
        are not as clip-tokens writes them.
    """
    from emoq_plugin.evaluation.token_probe import TokenStream
    from emoq_plugin.units.clip_tokens import parse_units

    place = Path(f"{path}.json")
    if not place.is_file():
        raise FileNotFoundError(f"{place} is missing: emoq clip-tokens writes it")
    card = read_json(place)
    if not card["joined"]:
        raise ValueError(
            f"{path} holds clip tokens alone, expected units behind them: run emoq "
            "clip-tokens with --join true"
        )
    if card["codebooks_sha256"] != quantizer.codebooks_sha256:
        raise ValueError(
            f"{path} was made with another quantizer ({card['quantizer']}): give that "
            "one, or run emoq clip-tokens again"
        )
    vocabulary = ClipVocabulary(card["n_units"], card["clip_sizes"])
    stream = TokenStream(vocabulary, {}, {}, card["seconds"])
    for number, (name, text) in enumerate(read_table(path).items(), 1):
        with errors_of(f"{path}:{number}: '{name}'"):
            codes, units = vocabulary.split(parse_units(text, card["form"]))
        stream.clip_codes[name], stream.units[name] = codes, units
    return stream


def score_tokens(options: ScoreTokensOptions) -> None:
    """Train heads on units with and without clip tokens, and print what they reach.

    Raises
    ------
    ValueError
        If utterances of the folds have no tokens, or a fold tests on speakers that the
        quantizer was learned from.
    """
    import emoq_plugin
    from emoq_plugin.evaluation.emotion_probe import HEAD_OPTIONS, ProbeTask
    from emoq_plugin.evaluation.predictions import write_predictions
    from emoq_plugin.evaluation.token_probe import probe_tokens

    quantizer = emoq_plugin.load(options.quantizer)
    stream = read_tokens(options.tokens, quantizer)
    head = read_options(options.config, HEAD_OPTIONS) if options.config else {}
    predictions = []
    for name in options.fold:
        opened = FoldInputs(
            data_dir=options.data_dir,
            emotions=options.emotions,
            folds=options.folds,
            fold=name,
        ).open()
        check_no_leak(quantizer.bank.card, opened.fold, opened.data, options.quantizer)
        train = opened.train(options.train_on)
        missing = sorted({*train, *opened.fold.test} - set(stream.units))
        if missing:
            raise ValueError(
                f"{options.tokens}: {len(missing)} utterances of fold {name} have no "
                f"tokens, the first '{missing[0]}'"
            )
        task = ProbeTask(
            fold=opened.fold,
            train=train,
            targets=opened.data.targets(train, opened.emotions),
            emotions=opened.emotions,
            options=head,
        )
        predictions += probe_tokens(task, stream, quantizer.bank.clip_code)
    path = options.output_dir / "posteriors.jsonl"
    write_predictions(path, predictions)
    print("\n".join(_answer(path, opened, options)))


def _answer(path: Path, opened: "OpenFold", options: ScoreTokensOptions) -> list[str]:
    """Return a line for the units, one with clip tokens, and the difference."""
    from emoq_plugin.core.bank import BALANCED
    from emoq_plugin.evaluation.scoring import score_experiment
    from emoq_plugin.evaluation.spelling import percent, signed_percent

    results = score_experiment(
        [path],
        opened.data,
        emotions=opened.emotions,
        corpus=str(options.data_dir),
        name=options.tokens.stem,
        synthetic=False,
        n_resamples=options.n_resamples,
        seed=options.seed,
    )
    lines = []
    for score in results.scores:
        bits = score.bitrate_bps["nominal"] + score.bitrate_bps["side_info"]
        what = "units alone" if score.system == BALANCED else "with clip tokens"
        found = percent(score.metrics["macro_f1"], interval=True)
        lines.append(f"{what}: macro-F1 {found} % at {bits:.1f} bit/s")
    change = signed_percent(results.difference(score, BALANCED, "macro_f1"))
    return [*lines, f"difference: {change} points"]
