"""Split features of several layers, encoded in one pass, into one set a layer."""

from dataclasses import dataclass
from pathlib import Path

from emoq_plugin.progress import progress
from emoq_plugin.recipe.stage import Stage


@dataclass(frozen=True, kw_only=True)
class SplitLayersOptions:
    """Options of the split.

    Attributes
    ----------
    feature_dir : Path
        Dump of layer_mode: concat.
    output_dir : str
        Of one layer, with {layer} in it: dump/wavlm_layer{layer}/all.
    """

    feature_dir: Path
    output_dir: str


def split_layers(options: SplitLayersOptions) -> None:
    """Write the features of each layer, specified as if it were alone."""
    from emoq_plugin.speech.encoders.layers import specifications_of_layers
    from emoq_plugin.speech.store import (
        FeatureStore,
        merge_feature_jobs,
        remove_job_files,
        write_features,
        write_golden,
    )

    if "{layer}" not in options.output_dir:
        raise ValueError(f"--output_dir {options.output_dir}, expected {{layer}} in it")
    store = FeatureStore(options.feature_dir)
    for place, spec in enumerate(specifications_of_layers(store.specification)):
        [layer] = spec.layers
        output = Path(options.output_dir.replace("{layer}", str(layer)))
        stage = Stage(output, inputs=[options.feature_dir], settings={"layer": layer})
        if stage.is_done():
            continue
        stage.start()
        part = slice(place * spec.dimension, (place + 1) * spec.dimension)
        items = progress(store.items(), len(store), f"layer {layer}")
        write_features(output, spec, ((utt, x[:, part]) for utt, x in items))
        if store.golden is not None:
            write_golden(output, store.golden[:, part])
        lengths = merge_feature_jobs(output, 1)
        stage.finish(utterances=len(lengths), frames=sum(lengths.values()))
        remove_job_files(output)
