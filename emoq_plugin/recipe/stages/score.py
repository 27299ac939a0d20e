"""Score predictions of all folds: writes scores.json, RESULTS.md and a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from emoq_plugin import evaluation
from emoq_plugin.data.ratings import RATINGS, SCALE
from emoq_plugin.files import atomic_write, read_json, read_yaml
from emoq_plugin.options import Count, Natural
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.band import BANDS, RATES, band_metadata

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory
    from emoq_plugin.evaluation.results import Results

SCORES, PAGE = "scores.json", "RESULTS.md"
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "espnet", "transformers")
TABLES = ("utt2spk", "utt2emo", "utt2votes", RATINGS, SCALE, RATES, BANDS)


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
        Gets scores.json, RESULTS.md and its picture.
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


def _shown(options: ScoreOptions, data: "DataDirectory") -> dict[str, Any]:
    """Return what says how the numbers were made."""
    from emoq_plugin.speech.encoders.encoder import FeatureSpecification
    from emoq_plugin.speech.encoders.leakage import encoder_id, leakage_notes

    config, leakage = {}, []
    if options.feature_dir:
        path = options.feature_dir / "feature.json"
        config["feature"] = read_json(path)
        spec = FeatureSpecification.from_json(dict(config["feature"]), path)
        leakage = leakage_notes(encoder_id(spec), [options.corpus])
    if options.quantizer_config:
        config["quantizer"] = read_yaml(options.quantizer_config)
    rate = config.get("feature", {}).get("sample_rate")
    return {
        "command": options.command,
        "environment": environment(),
        "config": config,
        "audio": band_metadata(data, sample_rate=rate),
        "leakage": leakage,
    }


def _say(results: "Results", output_dir: Path) -> None:
    """Print the answer and where the page is."""
    from emoq_plugin.evaluation.page import answer_lines

    print("\n".join(answer_lines(results)))
    print(f"results: {(output_dir / PAGE).resolve()}")


def score(options: ScoreOptions) -> None:
    """Score and write; a second call only prints the answer."""
    from emoq_plugin.evaluation.results import VERSION, Results

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
        }
        | {"form": VERSION},
        code=[evaluation],
        # The directory of an experiment holds other results with their own markers.
        marker=".score.done.json",
    )
    if stage.is_done():
        _say(Results.read(options.output_dir / SCORES), options.output_dir)
        return
    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.evaluation.page import PICTURE, render_results
    from emoq_plugin.evaluation.picture import draw_rates
    from emoq_plugin.evaluation.scoring import score_experiment

    stage.start()
    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    results = score_experiment(
        options.predictions,
        data,
        emotions=emotions,
        corpus=options.corpus,
        name=options.tag,
        synthetic=options.synthetic,
        n_resamples=options.n_resamples,
        seed=options.seed,
        **_shown(options, data),
    )
    results.write(options.output_dir / SCORES)
    pages = {PAGE: render_results(results)}
    if results.best:
        pages[PICTURE] = draw_rates(results)
    for name, text in pages.items():
        with atomic_write(options.output_dir / name) as stream:
            stream.write(text)
    stage.finish(
        n_conditions=len(results.scores),
        n_utterances=results.experiments[0].n_utterances,
    )
    _say(results, options.output_dir)
