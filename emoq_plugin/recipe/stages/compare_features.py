"""Compare encoders or their layers by the probe, and choose one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from emoq_plugin.files import read_options, write_json
from emoq_plugin.presets import config_of

if TYPE_CHECKING:
    import numpy as np

    from emoq_plugin.evaluation.candidates import Choice
    from emoq_plugin.speech.store import FeatureStore


@dataclass(frozen=True, kw_only=True)
class CompareFeaturesOptions:
    """Options of the comparison.

    Attributes
    ----------
    feature_dirs : tuple of Path
        Sets of features, dump/<feature>/<set>; one of several layers side by side
        (layer_mode: concat) is compared layer by layer.
    data_dir : Path
        Formatted set, dump/raw/<set>.
    emotions : Path
        Class order, data/emotions.
    folds : Path
        Directory of the folds, data/folds.
    config : Path, optional
        File or name of conf/ser; the options of conf/ser/probe.yaml when left out.
    output : Path, optional
        JSON file for the result.
    """

    feature_dirs: tuple[Path, ...]
    data_dir: Path
    emotions: Path
    folds: Path
    config: Annotated[Path | None, config_of("ser")] = None
    output: Path | None = None


def compare_features(options: CompareFeaturesOptions) -> None:
    """Print the score of each candidate on validation speakers, and their choice."""
    from emoq_plugin.data.directory import DataDirectory, read_emotions
    from emoq_plugin.data.folds import read_fold, read_folds
    from emoq_plugin.evaluation.candidates import choose_by_validation
    from emoq_plugin.evaluation.emotion_probe import HEAD_OPTIONS
    from emoq_plugin.speech.store import FeatureStore

    head = read_options(options.config, HEAD_OPTIONS) if options.config else {}
    emotions = read_emotions(options.emotions)
    data = DataDirectory.read(options.data_dir, emotions)
    folds = [
        read_fold(options.folds, fold.name, data) for fold in read_folds(options.folds)
    ]
    pooled: dict[str, dict[str, np.ndarray]] = {}
    for place in options.feature_dirs:
        candidates = pooled_candidates(FeatureStore(place), place.parent.name)
        if twice := set(candidates) & set(pooled):
            raise ValueError(
                f"--feature_dirs: '{min(twice)}' comes twice, the second time from "
                f"{place}: give sets of directories with different names"
            )
        pooled |= candidates
    choice = choose_by_validation(pooled, data, folds, emotions, **head)
    print(_table(choice))
    if options.output:
        write_json(options.output, choice.to_json())


def pooled_candidates(
    store: "FeatureStore", name: str
) -> "dict[str, dict[str, np.ndarray]]":
    """Return mean and deviation over time of each clip, by layer where there are some.

    Parameters
    ----------
    store : FeatureStore
    name : str
        Of the candidate, `<name>, layer <k>` for one layer of several.
    """
    import torch

    from emoq_plugin.core.batch_encoding import pool

    layers = store.specification.layers
    several = store.specification.settings.get("layer_mode") == "concat"
    names = [f"{name}, layer {layer}" for layer in layers] if several else [name]
    found: dict[str, dict[str, np.ndarray]] = {each: {} for each in names}
    for clip, frames in store.items():
        parts = torch.from_numpy(frames).chunk(len(names), dim=1)
        for each, part in zip(names, parts, strict=True):
            found[each][clip] = pool(part).numpy()
    return found


def _table(choice: "Choice") -> str:
    lines = [
        "| features | macro-F1 %, validation speakers | chosen in folds |",
        "|---|---|---|",
    ]
    lines += [
        f"| {c.name} | {100 * c.valid_macro_f1:.1f} | {' '.join(c.chosen_in)} |"
        for c in choice.candidates
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"Chosen by all validation speakers: {choice.chosen}. Test speakers, each "
            "under the choice of the validation speakers of its fold: macro-F1 "
            f"{100 * choice.test_macro_f1:.1f} %.",
        ]
    )
