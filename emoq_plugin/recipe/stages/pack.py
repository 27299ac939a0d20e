"""One system at one rate of one fold as an artifact that is ready to share."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from emoq_plugin import routing
from emoq_plugin.options import Count
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.recipe.stages.fold_inputs import find_bank
from emoq_plugin.units.rates import Rate


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """What is kept of which quantizer.

    Attributes
    ----------
    quantizer
        Directory or hub name.
    system
        Balanced or <expert set>-<router>.
    n_levels
        Levels to keep; all when left out.
    rate
        Instead: <K>x<L>, and --quantizer is exp/<tag>/fold<n>/quantizer.
    subwords
        Model of subwords, where stage 5 learned one; default: that of the quantizer.
    output_dir
        Directory of the artifact.
    """

    quantizer: Path
    system: str
    n_levels: Count | None = None
    rate: Rate | None = None
    subwords: Path | None = None
    output_dir: Path


def pack(options: PackOptions) -> None:
    """Keep the experts of the system and the first levels, drop everything else."""
    from emoq_plugin.core.artifact import SUBWORDS, local_directory

    source, n_levels = options.quantizer, options.n_levels
    if options.rate:
        from emoq_plugin.routing.systems import System

        n_levels = options.rate.n_levels
        clip_bits = System.parse(options.system).clip_bits
        source = find_bank(source, options.rate, clip_bits)
    if not source.is_dir():
        source = local_directory(source)
    inputs = [source / name for name in ("config.json", "model.safetensors")]
    subwords = options.subwords or source / SUBWORDS
    if subwords.is_file():
        inputs.append(subwords)
    stage = Stage(
        options.output_dir,
        inputs=inputs,
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
        clip_code=found.bank.clip_code,
    )
    depth = min(found.depth, found.n_levels)
    stage.start()
    RoutedQuantizer(bank, options.system, depth=depth).save_pretrained(
        options.output_dir
    )
    (options.output_dir / SUBWORDS).unlink(missing_ok=True)
    if subwords.is_file():
        shutil.copy(subwords, options.output_dir / SUBWORDS)
    stage.finish(experts=bank.experts, sizes=bank.sizes)
