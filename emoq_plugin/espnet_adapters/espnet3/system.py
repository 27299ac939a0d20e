"""The system: the stages of ser2 recipes under the names of espnet3."""

import argparse
import importlib
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from espnet3.contract.stages import StageSpec
from espnet3.systems.base.system import BaseSystem
from espnet3.systems.launch import build_parser, launch
from omegaconf import DictConfig, OmegaConf

from emoq_plugin.data.directory import DataDirectory, read_emotions
from emoq_plugin.data.folds import ALL
from emoq_plugin.data.votes import format_votes
from emoq_plugin.espnet_adapters.espnet3 import PACKAGE
from emoq_plugin.espnet_adapters.espnet3.jobs import make_pool, run_jobs
from emoq_plugin.espnet_adapters.espnet3.settings import Settings
from emoq_plugin.evaluation.predictions import Prediction, read_predictions
from emoq_plugin.files import write_table
from emoq_plugin.recipe.stages.dump_features import DumpFeaturesOptions, dump_features
from emoq_plugin.recipe.stages.encode_units import EncodeUnitsOptions, encode_units
from emoq_plugin.recipe.stages.format_data import FormatDataOptions, format_data
from emoq_plugin.recipe.stages.learn_codebooks import (
    LearnCodebooksOptions,
    learn_codebooks,
)
from emoq_plugin.recipe.stages.pack import PackOptions, pack
from emoq_plugin.recipe.stages.score import ScoreOptions, score
from emoq_plugin.recipe.stages.ser_espnet import SerEspnetOptions, ser_espnet
from emoq_plugin.recipe.stages.ser_probe import SerProbeOptions, ser_probe
from emoq_plugin.units.rates import Rate


class SER2System(BaseSystem):
    """Emotion recognition on discrete units, by the stage functions of the recipes.

    Folders, fingerprints and scores are those of `egs2/TEMPLATE/ser2/ser2.sh`.

    Examples
    --------
    >>> [stage.name for stage in SER2System.stages][:4]
    ['create_dataset', 'format_data', 'dump_features', 'train']
    """

    stages: ClassVar[tuple[StageSpec, ...]] = (
        StageSpec(name="create_dataset", config="training", log_dir="log_dir"),
        StageSpec(name="format_data", config="training", log_dir="log_dir"),
        StageSpec(name="dump_features", config="training", log_dir="log_dir"),
        StageSpec(name="train", config="training", log_dir="log_dir"),
        StageSpec(name="encode_units", config="training", log_dir="log_dir"),
        StageSpec(name="infer", config="training", log_dir="log_dir"),
        StageSpec(name="measure", config=("training", "metrics"), log_dir="log_dir"),
        StageSpec(name="pack_model", config="training", log_dir="log_dir"),
    )

    def __init__(
        self,
        training_config: DictConfig | None = None,
        metrics_config: DictConfig | None = None,
    ):
        super().__init__(training_config=training_config, metrics_config=metrics_config)
        if training_config is None:
            raise ValueError("no training configuration: give --training_config")
        r = self._recipe = Settings.read(OmegaConf.to_container(training_config))
        self._pool = make_pool(r.nj, fresh=r.ngpu > 0)

    def _run(self, work: Callable[[Any], None], *jobs: Any, name: str = "") -> None:
        log_dir = self._recipe.log_dir
        run_jobs(self._pool, work, jobs, log_dir=log_dir, name=name)

    def create_dataset(self) -> None:
        """Call `create_dataset.func` with the settings and its other fields."""
        given = dict(self._recipe.create_dataset)
        module, _, name = str(given.pop("func", None)).rpartition(".")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"create_dataset.func '{module}.{name}': {error}, expected the dotted "
                "name of a function"
            ) from error
        function(self._recipe, **given)

    def format_data(self) -> None:
        """Stage 2 of ser2.sh."""
        r = self._recipe
        names = "sample_rate min_seconds max_seconds on_error multi_channel allow_pipe"
        options = FormatDataOptions(
            data_dir=r.data / r.set_name,
            emotions=r.emotions,
            output_dir=r.raw,
            nj=r.nj,
            **{name: getattr(r, name) for name in names.split()},
        )
        self._run(format_data, options)

    def dump_features(self) -> None:
        """Stage 3 of ser2.sh."""
        r = self._recipe
        shared = {
            "data_dir": r.raw,
            "output_dir": r.features,
            "config": r.file("feature_config"),
            "model_dir": r.model,
            "nj": r.nj,
            "device": r.device,
        }
        numbers = range(1, r.nj + 1)
        parts = (DumpFeaturesOptions(job=job, **shared) for job in numbers)
        self._run(dump_features, *parts)
        whole = DumpFeaturesOptions(merge=True, **shared)
        self._run(dump_features, whole, name="merge_features")

    def _learning(
        self, fold: str, rates: tuple[Rate, ...], systems: list[str]
    ) -> LearnCodebooksOptions:
        r = self._recipe
        return LearnCodebooksOptions(
            inputs=r.inputs(fold),
            feature_dir=r.features,
            config=r.file("quantizer_config"),
            rates=rates,
            systems=tuple(systems),
            train_on=r.train_on,
            route_depth=r.route_depth,
            crossfit=r.crossfit,
            corpus=r.corpus,
            output_dir=r.quantizer(fold),
            device=r.device,
            job=1 if fold == ALL else int(fold),
        )

    def train(self) -> None:
        """Stage 4 of ser2.sh: learn codebooks."""
        r = self._recipe
        jobs = (self._learning(fold, r.all_rates, r.systems) for fold in r.folds)
        self._run(learn_codebooks, *jobs)

    def _of_fold(self, fold: str) -> dict[str, Any]:
        r = self._recipe
        return {
            "inputs": r.inputs(fold),
            "quantizer_dir": r.quantizer(fold),
            "rates": r.all_rates,
        }

    def encode_units(self) -> None:
        """Stage 5 of ser2.sh."""
        r = self._recipe
        jobs = (
            EncodeUnitsOptions(
                **self._of_fold(fold),
                feature_dir=r.features,
                systems=tuple(r.systems),
                route_depth=r.route_depth,
                seed=r.seed,
                subwords=r.subwords,
                output_dir=r.units(fold),
            )
            for fold in r.folds
        )
        self._run(encode_units, *jobs)

    def infer(self) -> None:
        """First half of stage 6 of ser2.sh: train and apply the heads."""
        r = self._recipe
        if "probe" in r.ser_backend:
            jobs = (
                SerProbeOptions(
                    **self._of_fold(fold),
                    feature_dir=r.features,
                    units_dir=r.units(fold),
                    systems=tuple(r.systems),
                    train_on=r.train_on,
                    config=r.file("probe_config"),
                    output_dir=r.ser(fold, "probe"),
                )
                for fold in r.folds
            )
            self._run(ser_probe, *jobs)
        if "espnet" in r.ser_backend:
            jobs = (
                SerEspnetOptions(
                    **self._of_fold(fold),
                    units_dir=r.units(fold),
                    rate=Rate.parse(r.espnet_rate),
                    systems=tuple(r.espnet_systems),
                    config=r.file("ser_config"),
                    ngpu=r.ngpu,
                    job=int(fold),
                    seed=r.seed,
                    ser_args=r.ser_args,
                    output_dir=r.ser(fold, "espnet"),
                )
                for fold in r.folds
            )
            self._run(ser_espnet, *jobs)

    def _predictions(self) -> list[Path]:
        r, found = self._recipe, []
        for backend in r.ser_backend:
            parts = [""]
            if backend == "espnet":
                parts = [f"{r.espnet_rate}_{system}" for system in r.espnet_systems]
            for part in parts:
                places = (r.ser(fold, backend) / part for fold in r.folds)
                found += [place / "posteriors.jsonl" for place in places]
        return found

    def measure(self) -> dict[str, Any]:
        """Second half of stage 6 of ser2.sh, and espnet3's metrics of each condition.

        scores.json and RESULTS.md come from `recipe.stages.score`; labels and
        posteriors of all folds then go to `<inference_dir>/<condition>/*.scp`, and
        what the metrics configuration asks for to `<inference_dir>/metrics.json`.
        """
        r, predictions = self._recipe, self._predictions()
        options = ScoreOptions(
            predictions=tuple(predictions),
            data_dir=r.raw,
            emotions=r.emotions,
            corpus=r.corpus,
            tag=r.exp_tag,
            synthetic=r.synthetic,
            output_dir=r.exp,
            command=f"python {shlex.join(sys.argv)}",
            feature_dir=r.features,
            quantizer_config=r.file("quantizer_config"),
        )
        self._run(score, options)
        emotions = read_emotions(r.emotions)
        write_conditions(
            Path(self.metrics_config.inference_dir),
            [found for path in predictions for found in read_predictions(path)],
            DataDirectory.read(r.raw, emotions),
        )
        return super().measure()

    def pack_model(self) -> None:
        """Stage 9 of ser2.sh."""
        r, fold = self._recipe, str(self._recipe.pack_fold)
        rate, place = Rate.parse(r.pack_rate), f"{r.pack_rate}_{r.pack_system}"
        if fold == ALL:
            self._run(learn_codebooks, self._learning(ALL, (rate,), [r.pack_system]))
            place += f"_{ALL}"
        options = PackOptions(
            quantizer=r.quantizer(fold),
            system=r.pack_system,
            rate=rate,
            subwords=r.units(fold) / r.pack_rate / r.pack_system / "subwords.model",
            output_dir=r.exp / "packed" / place,
        )
        self._run(pack, options)


def write_conditions(
    directory: Path, predictions: list[Prediction], data: DataDirectory
) -> None:
    """Write what espnet3's metrics read, a directory a condition, all folds together.

    Parameters
    ----------
    directory : Path
        Gets `<condition>/{emotion,emotion_recognised,votes,posteriors}.scp`; the
        label of a clip without a majority is empty.
    predictions : list of Prediction
    data : DataDirectory
        Labels and votes.
    """
    conditions: dict[str, list[Prediction]] = defaultdict(list)
    for found in predictions:
        conditions[found.key.replace("/", "_")].append(found)
    for name, parts in conditions.items():
        emotions = parts[0].emotions
        utterances = [u for part in parts for u in part.utterances]
        posteriors = np.concatenate([part.posteriors for part in parts])
        targets = data.targets(utterances, emotions)
        columns = {
            "emotion": [data.emotion.get(u, "") for u in utterances],
            "emotion_recognised": [emotions[n] for n in posteriors.argmax(axis=1)],
            "votes": [format_votes(row, emotions) for row in targets],
            "posteriors": [format_votes(row, emotions) for row in posteriors],
        }
        for column, values in columns.items():
            write_table(
                directory / name / f"{column}.scp", dict(zip(utterances, values))
            )


def recipe_parser() -> argparse.ArgumentParser:
    """Return espnet3's parser with the recipe's own files as the defaults."""
    parser = build_parser(SER2System)
    parser.set_defaults(
        stages=[spec.name for spec in SER2System.stages if spec.name != "pack_model"],
        training_config=Path("conf/training.yaml"),
        metrics_config=Path("conf/metrics.yaml"),
    )
    return parser


def main() -> None:
    """Run a recipe: `python run.py [--stages ...] [--training_config ...]`."""
    launch(SER2System, conf_package=PACKAGE, parser=recipe_parser())
