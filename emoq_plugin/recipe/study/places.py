"""Where the data, configurations and results of a study are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from emoq_plugin.data.directory import read_emotions
from emoq_plugin.recipe.stages.fold_inputs import FoldInputs
from emoq_plugin.recipe.study.config import Job, StudyConfig

# The name of the corpora of `learn_on` together.
JOINED = "joined"


class StudyPlaces:
    """A configuration in a place.

    Parameters
    ----------
    name : str
    config : StudyConfig
    output : Path
        exp/study_<name>.
    root : Path
        Of the repository: holds `conf` and `egs2`.
    corpus : str
        The recipe's own.
    data_dir, emotions, folds, dumpdir : Path
        Of the recipe; features are in `<dumpdir>/<feature>/<set>`, where the set is
        the last part of `data_dir`.
    alignments : Path, optional
        Phone labels, see `measure`.
    """

    def __init__(
        self,
        name: str,
        config: StudyConfig,
        *,
        output: Path,
        root: Path,
        corpus: str,
        data_dir: Path,
        emotions: Path,
        folds: Path,
        dumpdir: Path,
        alignments: Path | None = None,
    ):
        self.name = name
        self.config = config
        self.output = output
        self.root = root
        self.corpus = corpus
        self.set_name = data_dir.name
        self.dumpdir = dumpdir
        self.alignments = alignments
        self.crosses = bool(config.learn_on)
        here = output / JOINED
        self.data_dir = here / "raw" if self.crosses else data_dir
        self.emotions = here / "emotions" if self.crosses else emotions
        self.folds = here / "folds" if self.crosses else folds
        for other in (*config.learn_on, *config.test_on):
            if not (place := self.recipe(other)).is_dir():
                recipes = sorted(p.parent.name for p in (root / "egs2").glob("*/ser2"))
                raise ValueError(
                    f"corpus '{other}' has no recipe {place}, expected one of {recipes}"
                )
        for entry in config.quantizers.items():
            self._base(*entry)
        self.left_out: dict[str, str] = {}

    @classmethod
    def of_recipe(
        cls,
        config: str | Path,
        recipe: str | Path,
        *,
        alignments: str | Path | None = None,
    ) -> Self:
        """Return the study that stage 7 of a recipe runs with its default options.

        Parameters
        ----------
        config : str or Path
            File of `conf/study`.
        recipe : str or Path
            egs2/<corpus>/ser2.
        alignments : str or Path, optional
            Phone labels, if the recipe's run.sh gives some: results made without them
            are not those of stage 7.

        Raises
        ------
        ValueError
            For a configuration that no stage knows.
        """
        config, recipe = Path(config), Path(recipe).resolve()
        return cls(
            config.stem,
            StudyConfig.read(config),
            output=recipe / "exp" / f"study_{config.stem}",
            root=recipe.parents[2],
            corpus=recipe.parent.name,
            data_dir=recipe / "dump" / "raw" / "all",
            emotions=recipe / "data" / "emotions",
            folds=recipe / "data" / "folds",
            dumpdir=recipe / "dump",
            alignments=Path(alignments).resolve() if alignments else None,
        )

    def recipe(self, corpus: str) -> Path:
        """Return the recipe's directory of a corpus."""
        return self.root / "egs2" / corpus / "ser2"

    def _base(self, name: str, entry: Mapping[str, Any]) -> Path:
        path = self.root / "conf" / "quantizer" / f"{entry.get('base', name)}.yaml"
        if not path.exists():
            known = sorted(p.stem for p in path.parent.glob("*.yaml"))
            raise ValueError(
                f"quantizer '{name}': {path} is missing, expected a base of {known}"
            )
        return path

    def feature_config(self, feature: str) -> Path:
        """Return the configuration of a feature."""
        return self.root / "conf" / "features" / f"{feature}.yaml"

    @property
    def probe_config(self) -> Path:
        """Return the configuration of the heads."""
        return self.root / "conf" / "ser" / f"{self.config.probe}.yaml"

    def feature_dir(self, feature: str) -> Path:
        """Return the features that jobs read."""
        if self.crosses:
            return self.output / JOINED / feature
        return self.dumpdir / feature / self.set_name

    def fold_dir(self, job: Job, fold: str) -> Path:
        """Return the directory of one fold's results."""
        return self.output / job.directory / f"fold{fold}"

    def inputs(self, fold: str) -> FoldInputs:
        """Return what the stages of a fold read."""
        return FoldInputs(
            data_dir=self.data_dir, emotions=self.emotions, folds=self.folds, fold=fold
        )

    def quantizer_dir(self, job: Job, fold: str) -> Path:
        """Return the directory of the banks that a fold is encoded with."""
        if self.crosses:
            return self.output / job.directory / "quantizer"
        return self.fold_dir(job, fold) / "quantizer"

    def marker(self, job: Job) -> Path:
        """Return the file that says that a job is done."""
        if self.crosses:
            return self.output / job.directory / ".job.done.json"
        return self.fold_dir(job, job.folds[0]) / ".job.done.json"

    def valid_file(self, job: Job, fold: str) -> Path:
        """Return the predictions of a fold's validation clips."""
        inner = "select/ser" if self.config.train_on == "train+valid" else "ser"
        return self.fold_dir(job, fold) / inner / "valid.jsonl"

    def classes(self) -> list[str]:
        """Return the class order."""
        return read_emotions(self.emotions)
