"""Predict emotions with a trained ESPnet task; writes one line of posteriors.jsonl."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import batched, groupby
from pathlib import Path

from emoq_plugin import evaluation
from emoq_plugin.files import read_table, read_yaml
from emoq_plugin.options import Natural
from emoq_plugin.recipe.stage import Stage

BATCH_SIZE = 64
UNITS_FILES = ("units.json", "bitrate.json", "codes.ark")
MAYBE = ("utt2route", "utt2clip_codes")  # with a router, with a clip code


@dataclass(frozen=True, kw_only=True)
class SerInferOptions:
    """Options of the prediction.

    Attributes
    ----------
    exp_dir : Path
        The output_dir of ser_train.
    units_dir : Path
        As in training.
    fold_dir : Path
        With the list named by --set.
    set : str
        List of utterances to predict.
    output : Path
        posteriors.jsonl.
    ngpu : int
        0 predicts on the CPU.
    """

    exp_dir: Path
    units_dir: Path
    fold_dir: Path
    set: str = "test"
    output: Path
    ngpu: Natural = 0


def units_files(units_dir: Path) -> list[Path]:
    """List what identifies units (codes.scp holds only places)."""
    beside = [units_dir / name for name in MAYBE]
    files = [units_dir / name for name in UNITS_FILES]
    return [*files, *(path for path in beside if path.exists())]


def best_model(exp_dir: str | Path) -> Path:
    """Return the best epoch's model by the first `best_model_criterion`."""
    config = Path(exp_dir) / "config.yaml"
    try:
        phase, name, _ = read_yaml(config)["best_model_criterion"][0]
    except (LookupError, TypeError) as error:
        raise ValueError(f"{config}: no best_model_criterion") from error
    return config.with_name(f"{phase}.{name}.best.pth")


def load_model(exp_dir: str | Path, *, device: str = "cpu"):
    """Load the best model as ESPnet does, and verify its codebooks.

    Returns
    -------
    ESPnetSERModel
        In evaluation mode.

    Raises
    ------
    ValueError
        If the codebooks of the checkpoint are not those of config.yaml.
    """
    from emoq_plugin.espnet_adapters.ser_task import SERTask

    model_file = best_model(exp_dir)
    model, _ = SERTask.build_model_from_file(
        model_file.with_name("config.yaml"), model_file, device
    )
    model.frontend.verify_codebooks(str(model_file))
    return model.eval()


def predict(model, units, utterances: Sequence[str]):
    """Return the posteriors of utterances, in their order.

    Utterances of equal length go together, so nothing is ever padded and no posterior
    depends on its neighbours.

    Parameters
    ----------
    model : ESPnetSERModel
    units : UnitStore
    utterances : sequence of N str

    Returns
    -------
    (N, C) float64 array

    Raises
    ------
    ValueError
        If the units were made with other codebooks than the model's.
    """
    import numpy as np
    import torch

    from emoq_plugin.espnet_adapters.ser_inputs import load_units

    frontend = model.frontend
    for name, found, expected in (
        ("codebooks", units.card["codebooks_sha256"], frontend.quantizer_sha256),
        ("experts", list(units.card["experts"]), frontend.experts),
        ("levels", units.card["n_levels"], len(frontend.codebook_sizes)),
    ):
        if found != expected:
            raise ValueError(
                f"{units.directory}: units have {name} {found}, "
                f"the model was trained on {expected}"
            )
    loaded = {u: load_units(units, u, frontend.codebook_sizes) for u in utterances}

    beside = units.clip_codes

    def shape(utterance: str) -> tuple:
        codes, route = loaded[utterance]
        return (*codes.shape, len(route), len(beside.get(utterance, ())))

    device = next(model.parameters()).device
    posteriors = {}
    for _, group in groupby(sorted(loaded, key=shape), key=shape):
        for names in batched(group, BATCH_SIZE):
            codes = np.stack([loaded[u][0] for u in names]).astype(np.int64)
            route = np.stack([loaded[u][1] for u in names]).astype(np.float32)
            lengths = torch.full((len(names),), codes.shape[1])
            windows = []
            if beside:
                tokens = torch.from_numpy(np.stack([beside[u] for u in names]))
                n_windows = torch.full((len(names),), tokens.shape[1])
                windows = [tokens.to(device), n_windows.to(device)]
            rows = model.predict(
                torch.from_numpy(codes).to(device),
                lengths.to(device),
                torch.from_numpy(route).to(device),
                *windows,
            )
            posteriors.update(zip(names, rows.cpu().double().numpy()))
    rows = np.stack([posteriors[u] for u in utterances])
    return rows / rows.sum(axis=1, keepdims=True)


def ser_infer(options: SerInferOptions) -> None:
    """Write the posteriors of one list of a fold; a second call does nothing."""
    units_dir, fold_dir, output = options.units_dir, options.fold_dir, options.output
    stage = Stage(
        output.parent,
        inputs=[options.exp_dir, *units_files(units_dir), fold_dir / options.set],
        settings={"set": options.set, "fold": fold_dir.name},
        code=[evaluation],
        marker=f".{output.name}.done.json",
    )
    if stage.is_done() and output.exists():
        return
    stage.start()
    from emoq_plugin.espnet_adapters.ser_inputs import available
    from emoq_plugin.evaluation.predictions import (
        BITRATES,
        Prediction,
        write_predictions,
    )
    from emoq_plugin.units.store import UnitStore

    units = UnitStore(units_dir)
    listed = list(read_table(fold_dir / options.set))
    utterances = available(units, listed, options.set)
    device = "cuda" if options.ngpu > 0 else "cpu"
    model = load_model(options.exp_dir, device=device)
    prediction = Prediction(
        fold=fold_dir.name,
        rate=units.card["rate"],
        system=units.card["system"],
        head="espnet",
        bitrate_bps={name: units.bitrate[name] for name in BITRATES},
        emotions=model.emotions,
        utterances=utterances,
        posteriors=predict(model, units, utterances),
        seconds=units.seconds,
    )
    write_predictions(output, [prediction])
    stage.finish(n_utterances=len(utterances))
