"""Score predictions of all folds: writes scores.json and RESULTS.md."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from emoq_plugin import evaluation
from emoq_plugin.files import atomic_write, read_json, read_yaml, write_json
from emoq_plugin.options import Count, Natural
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.band import BANDS, RATES, band_facts

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "espnet", "transformers")
TABLES = ("utt2spk", "utt2emo", "utt2votes", RATES, BANDS)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Options of the scores.

    Attributes
    ----------
    predictions : tuple of Path
        JSON-lines files of all conditions and folds.
    data_dir : Path
        With the predicted utterances.
    emotions : Path
        Class order, one a line.
    corpus : str
        Name shown with the numbers.
    tag : str
        Name of the experiment.
    synthetic : bool
        No human spoke the corpus.
    output_dir : Path
        Gets scores.json and RESULTS.md.
    command : str
        Shown with the numbers.
    feature_dir : Path, optional
        Whose feature specification is shown.
    quantizer_config : Path, optional
        YAML that is shown.
    n_resamples : int
        Of the bootstrap.
    seed : int
        Of the bootstrap.
    """

    predictions: tuple[Path, ...]
    data_dir: Path
    emotions: Path
    corpus: str
    tag: str
    synthetic: bool
    output_dir: Path
    command: str = ""
    feature_dir: Path | None = None
    quantizer_config: Annotated[Path, config_of("quantizer")] | None = None
    n_resamples: Count = 1000
    seed: Natural = 0


def environment() -> dict[str, str]:
    """Name the versions that could change a number."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _notes(options: ScoreOptions, data: "DataDirectory") -> dict[str, Any]:
    """Return how the numbers were made, for the reader."""
    notes: dict[str, Any] = {"environment": environment()}
    if options.command:
        notes["command"] = options.command
    if options.feature_dir:
        notes["feature"] = read_json(options.feature_dir / "feature.json")
    if options.quantizer_config:
        notes["quantizer"] = read_yaml(options.quantizer_config)
    rate = notes.get("feature", {}).get("sample_rate")
    if audio := band_facts(data, sample_rate=rate):
        notes["audio"] = audio
    return notes


def score(options: ScoreOptions) -> None:
    """Score, then write both files; a second call does nothing."""
    tables = [options.data_dir / name for name in TABLES]
    tables = [path for path in tables if path.name == "utt2spk" or path.exists()]
    shown = [options.feature_dir, options.quantizer_config]
    shown = [path for path in shown if path]
    stage = Stage(
        options.output_dir,
        inputs=[*options.predictions, *tables, options.emotions, *shown],
        settings={
            name: getattr(options, name)
            for name in ("corpus", "tag", "synthetic", "n_resamples", "seed")
        },
        code=[evaluation],
        # The directory of an experiment holds other results with their own markers.
        marker=".score.done.json",
    )
    if stage.is_done():
        return
    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.evaluation.page import render_results
    from emoq_plugin.evaluation.scoring import score_experiment

    stage.start()
    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    scores = score_experiment(
        options.predictions,
        data,
        emotions=emotions,
        corpus=options.corpus,
        tag=options.tag,
        synthetic=options.synthetic,
        facts=_notes(options, data),
        n_resamples=options.n_resamples,
        seed=options.seed,
    )
    write_json(options.output_dir / "scores.json", scores)
    with atomic_write(options.output_dir / "RESULTS.md") as stream:
        stream.write(render_results(scores))
    stage.finish(
        n_conditions=len(scores["systems"]), n_utterances=scores["n_utterances"]
    )
