"""What `create_dataset.func` of a training configuration names: stage 1 of recipes."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from emoq_plugin.data.validation import ValidateOptions, validate_data_dir
from emoq_plugin.espnet_adapters.espnet3.settings import Settings
from emoq_plugin.files import check_options
from emoq_plugin.recipe.stages.make_folds import MakeFoldsOptions, make_folds
from emoq_plugin.recipe.stages.prepare_corpus import (
    PrepareCorpusOptions,
    prepare_corpus,
)


def published(recipe: Settings, corpus_dir: str | None, **options: Any) -> None:
    """Prepare a corpus of `emoq_plugin.data.corpora`.

    Parameters
    ----------
    recipe : Settings
    corpus_dir : str
        Directory or archive as distributed; download: fetch it, if open.
    **options
        Of `PrepareCorpusOptions`.
    """
    known = {field.name for field in fields(PrepareCorpusOptions)} - {"corpus"}
    check_options(options, known, "create_dataset")
    prepare_corpus(
        PrepareCorpusOptions(
            corpus=recipe.corpus,
            corpus_dir=corpus_dir or "",
            output_dir=recipe.data,
            set_name=recipe.set_name,
            **options,
        )
    )
    validate_data_dir(
        ValidateOptions(
            data_dir=recipe.data / recipe.set_name,
            emotions=recipe.emotions,
            folds=recipe.data / "folds",
        )
    )


def made(
    recipe: Settings,
    script: str,
    *,
    folds: dict[str, Any],
    **options: Any,
) -> None:
    """Let a program write the data directory, and make folds of its speakers.

    Parameters
    ----------
    recipe : Settings
    script : str
        A Python program that writes `<data_dir>/{<set_name>,emotions}`.
    folds : dict
        Of `MakeFoldsOptions`; `group_file` is seen from the data directory.
    **options
        Of the program.
    """
    if not Path(script).is_file():
        raise FileNotFoundError(f"create_dataset.script {script}: no such program")
    given = [word for name, v in options.items() for word in (f"--{name}", str(v))]
    subprocess.run(
        [sys.executable, script, "--data_dir", str(recipe.data), *given], check=True
    )
    known = {field.name for field in fields(MakeFoldsOptions)}
    check_options(folds, known - {"data_dir", "output"}, "create_dataset.folds")
    data_dir = recipe.data / recipe.set_name
    if "group_file" in folds:
        folds = folds | {"group_file": data_dir / folds["group_file"]}
    make_folds(
        MakeFoldsOptions(data_dir=data_dir, output=recipe.data / "folds", **folds)
    )
