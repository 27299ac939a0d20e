"""Score predictions of all folds: writes scores.json and RESULTS.md."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoq_plugin import evaluation
from emoq_plugin.options import str2bool
from emoq_plugin.files import atomic_write, read_json, read_yaml, write_json
from emoq_plugin.options import whole
from emoq_plugin.presets import config_of
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.band import BANDS, RATES, band_facts

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "espnet", "transformers")
TABLES = ("utt2spk", "utt2emo", "utt2votes", RATES, BANDS)


def get_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    parser = argparse.ArgumentParser(
        prog="score",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="+",
        required=True,
        help="JSON-lines files of all conditions and folds",
    )
    parser.add_argument(
        "--data_dir", type=Path, required=True, help="with the predicted utterances"
    )
    parser.add_argument(
        "--emotions", type=Path, required=True, help="class order, one a line"
    )
    parser.add_argument("--corpus", required=True, help="name shown with the numbers")
    parser.add_argument("--tag", required=True, help="name of the experiment")
    parser.add_argument(
        "--synthetic", type=str2bool, required=True, help="no human spoke the corpus"
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--command", default="", help="shown with the numbers")
    parser.add_argument("--feature_dir", type=Path, help="whose card is shown")
    parser.add_argument(
        "--quantizer_config", type=config_of("quantizer"), help="YAML that is shown"
    )
    parser.add_argument(
        "--n_resamples", type=whole(1), default=1000, help="of the bootstrap"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of the bootstrap")
    return parser


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


def _facts(options: argparse.Namespace, data: "DataDirectory") -> dict[str, object]:
    """Gather what tells a reader how the numbers were made."""
    facts: dict[str, Any] = {"environment": environment()}
    if options.command:
        facts["command"] = options.command
    if options.feature_dir:
        facts["feature"] = read_json(options.feature_dir / "feature.json")
    if options.quantizer_config:
        facts["quantizer"] = read_yaml(options.quantizer_config)
    rate = facts.get("feature", {}).get("sample_rate")
    if audio := band_facts(data, sample_rate=rate):
        facts["audio"] = audio
    return facts


def work(options: argparse.Namespace) -> None:
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
    from emoq_plugin.evaluation.results import render_results, score_experiment

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
        facts=_facts(options, data),
        n_resamples=options.n_resamples,
        seed=options.seed,
    )
    write_json(options.output_dir / "scores.json", scores)
    with atomic_write(options.output_dir / "RESULTS.md") as stream:
        stream.write(render_results(scores))
    stage.finish(
        n_conditions=len(scores["systems"]), n_utterances=scores["n_utterances"]
    )
