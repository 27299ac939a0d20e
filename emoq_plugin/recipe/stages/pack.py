"""Stage 9: one system at one rate of one fold as an artifact that is ready to share."""

import argparse
from pathlib import Path

from emoq_plugin import routing
from emoq_plugin.options import whole
from emoq_plugin.recipe.stages.fold_inputs import find_bank
from emoq_plugin.units.rates import Rate
from emoq_plugin.recipe.stage import Stage


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="pack", description=__doc__)
    add = parser.add_argument
    add("--quantizer", type=Path, required=True, help="directory or hub name")
    add("--system", required=True, help="balanced or <expert set>-<router>")
    add("--n_levels", type=whole(1), help="levels to keep; all when left out")
    add(
        "--rate",
        help="instead: <K>x<L>, and --quantizer is exp/<tag>/fold<n>/quantizer",
    )
    add("--output_dir", type=Path, required=True, help="of the artifact")
    return parser


def work(options: argparse.Namespace) -> None:
    """Keep the experts of the system and the first levels, drop everything else."""
    source, n_levels = options.quantizer, options.n_levels
    if options.rate:
        rate = Rate.parse(options.rate)
        n_levels, source = rate.n_levels, find_bank(source, rate)
    if not source.is_dir():
        from emoq_plugin.core.artifact import local_directory

        source = local_directory(source)
    stage = Stage(
        options.output_dir,
        inputs=[source / name for name in ("config.json", "model.safetensors")],
        settings={"system": options.system, "n_levels": n_levels},
        code=[routing],
    )
    if stage.is_done():
        return
    import emoq_plugin
    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.routing.quantizer import RoutedQuantizer

    found = emoq_plugin.load(str(source), system=options.system, n_levels=n_levels)
    bank = CodebookBank(
        found.bank.experts,
        found.bank.codebooks[: found.n_levels],
        found.bank.normalization,
        emotions=found.bank.emotions,
        card=found.bank.card,
        router_parameters=found.bank.router_parameters,
    )
    depth = min(found.depth, found.n_levels)
    stage.start()
    RoutedQuantizer(bank, options.system, depth=depth).save_pretrained(
        options.output_dir
    )
    stage.finish(experts=bank.experts, sizes=bank.sizes)
