"""Make a quantizer from ESPnet's km_<K>.mdl; unpickles it, so only what you trust."""

import argparse
import logging
from pathlib import Path

from emoq_plugin.files import read_json
from emoq_plugin.options import whole


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="import_kmeans", description=__doc__)
    add = parser.add_argument
    add("model", type=Path, help="km_<K>.mdl (levels: km_<K>_RVQ_<l>.mdl beside it)")
    add("--n_levels", type=whole(1), default=1, help="of residual quantization")
    add("--feature_card", type=Path, help="feature.json of dump/<feature>/<set>")
    add("--output_dir", type=Path, required=True, help="of the artifact")
    return parser


def work(options: argparse.Namespace) -> None:
    """Read, check, save."""
    from emoq_plugin.espnet_adapters.kmeans_models import import_kmeans
    from emoq_plugin.speech.encoders.encoder import FeatureCard

    feature = None
    if options.feature_card:
        values = read_json(options.feature_card)
        feature = FeatureCard.from_json(values, options.feature_card).to_json()
    bank = import_kmeans(options.model, n_levels=options.n_levels, feature=feature)
    bank.save_pretrained(options.output_dir)
    logging.info("%s: expert balanced, sizes %s", options.output_dir, bank.sizes)
