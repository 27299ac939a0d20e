"""Write one expert as ESPnet's k-means models, or a system as ONNX graphs."""

import argparse
import logging
from pathlib import Path

from emoq_plugin.options import whole


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="export", description=__doc__)
    add = parser.add_argument
    add("--quantizer", required=True, help="artifact directory or hub name")
    add("--system", help="of a bank: balanced or <expert set>-<router>")
    add("--n_levels", type=whole(1), help="levels to write; all when left out")
    add("--expert", help="kmeans: expert to write, needed if the system has several")
    add(
        "--space",
        default="features",
        choices=["features", "normalised"],
        help="kmeans: where ESPnet's scripts will measure distances",
    )
    add("--kmeans", type=Path, help="km_<K>.mdl to write (levels: km_<K>_RVQ_<l>.mdl)")
    add("--onnx", type=Path, help="directory for encode.onnx and decode.onnx")
    return parser


def work(options: argparse.Namespace) -> None:
    """Load once, write what is asked for."""
    if not (options.kmeans or options.onnx):
        raise ValueError("nothing to write: give --kmeans <file> or --onnx <directory>")
    import emoq_plugin

    quantizer = emoq_plugin.load(
        options.quantizer, system=options.system, n_levels=options.n_levels
    )
    if options.kmeans:
        from emoq_plugin.espnet_adapters.kmeans_models import centers_of, export_kmeans

        experts = quantizer.bank.experts
        if options.expert is None and len(experts) > 1:
            raise ValueError(f"k-means models have one expert: --expert, of {experts}")
        if len(experts) > 1:
            logging.warning(
                "%s holds %s alone: the route of system '%s' is left out, so clips "
                "routed to other experts get other units than here; --onnx keeps it",
                options.kmeans, options.expert, quantizer.system.name,
            )  # fmt: skip
        levels = centers_of(
            quantizer.bank, options.expert or experts[0], space=options.space
        )
        for path in export_kmeans(levels[: quantizer.n_levels], options.kmeans):
            logging.info("wrote %s", path)
    if options.onnx:
        from emoq_plugin.routing.onnx_export import export_onnx

        for path in export_onnx(quantizer, options.onnx):
            logging.info("wrote %s", path)
