"""Quantizers to other programs and back: ESPnet's k-means models, ONNX graphs."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from emoq_plugin.files import read_json
from emoq_plugin.options import POSITIONAL, Count

if TYPE_CHECKING:
    from emoq_plugin.routing.quantizer import RoutedQuantizer


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is written of which quantizer.

    Attributes
    ----------
    quantizer
        Artifact directory or hub name.
    system
        Of a bank: balanced or <expert set>-<router>.
    n_levels
        Levels to write; all when left out.
    kmeans
        File km_<K>.mdl to write (levels: km_<K>_RVQ_<l>.mdl).
    expert
        Of --kmeans: needed if the system has several.
    space
        Of --kmeans: where ESPnet's scripts will measure distances.
    onnx
        Directory for encode.onnx and decode.onnx.
    """

    quantizer: str
    system: str | None = None
    n_levels: Count | None = None
    kmeans: Path | None = None
    expert: str | None = None
    space: Literal["features", "normalised"] = "features"
    onnx: Path | None = None


def export(options: ExportOptions) -> None:
    """Load once, write what is asked for.

    Raises
    ------
    ValueError
        If nothing is asked for, or k-means models cannot hold it.
    """
    if not (options.kmeans or options.onnx):
        raise ValueError("nothing to write: give --kmeans <file> or --onnx <directory>")
    import emoq_plugin

    quantizer = emoq_plugin.load(
        options.quantizer, system=options.system, n_levels=options.n_levels
    )
    written: list[Path] = []
    if options.kmeans:
        written += _export_kmeans(quantizer, options)
    if options.onnx:
        from emoq_plugin.routing.onnx_export import export_onnx

        written += export_onnx(quantizer, options.onnx)
    for path in written:
        logging.info("wrote %s", path)


def _export_kmeans(quantizer: "RoutedQuantizer", options: ExportOptions) -> list[Path]:
    from emoq_plugin.espnet_adapters.kmeans_models import centers_of, export_kmeans

    experts = quantizer.bank.experts
    if len(experts) > 1:
        if options.expert is None:
            raise ValueError(f"k-means models have one expert: --expert, of {experts}")
        logging.warning(
            "%s holds %s alone: the route of system '%s' is left out, so clips "
            "routed to other experts get other units than here; --onnx keeps it",
            *(options.kmeans, options.expert, quantizer.system.name),
        )
    levels = centers_of(
        quantizer.bank, options.expert or experts[0], space=options.space
    )
    return export_kmeans(levels[: quantizer.n_levels], options.kmeans)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Which k-means models become a quantizer.

    Attributes
    ----------
    model
        File km_<K>.mdl (levels: km_<K>_RVQ_<l>.mdl beside it).
    n_levels
        Levels of residual quantization.
    feature_specification
        Feature specification, feature.json of dump/<feature>/<set>.
    output_dir
        Directory of the artifact.
    """

    model: Annotated[Path, POSITIONAL]
    n_levels: Count = 1
    feature_specification: Path | None = None
    output_dir: Path


def import_kmeans(options: ImportOptions) -> None:
    """Read, check, save."""
    from emoq_plugin.espnet_adapters import kmeans_models
    from emoq_plugin.speech.encoders.encoder import FeatureSpecification

    feature = None
    if options.feature_specification:
        values = read_json(options.feature_specification)
        feature = FeatureSpecification.from_json(
            values, options.feature_specification
        ).to_json()
    bank = kmeans_models.import_kmeans(
        options.model, n_levels=options.n_levels, feature=feature
    )
    bank.save_pretrained(options.output_dir)
    logging.info("%s: expert balanced, sizes %s", options.output_dir, bank.sizes)
