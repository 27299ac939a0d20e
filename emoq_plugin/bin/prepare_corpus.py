"""Stage 1 of a known corpus: data/all, data/emotions, speaker-disjoint data/folds."""

import argparse
from collections.abc import Sequence

from emoq_plugin.bin._command import run_command
from emoq_plugin.bin._parser import made, parser_of
from emoq_plugin.data import corpora
from emoq_plugin.recipe.stages.prepare_corpus import (
    PrepareCorpusOptions,
    own_options,
    prepare_corpus,
)


def get_parser() -> argparse.ArgumentParser:
    """Return the parser, with the options of single corpora at the end."""
    parser = parser_of(
        PrepareCorpusOptions,
        prog="prepare_corpus",
        description=f"{__doc__} Corpora: {', '.join(corpora.names())}.",
    )
    for name, use in own_options().items():
        parser.add_argument(f"--{name}", help="; ".join(use))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""

    def work(parsed: argparse.Namespace) -> None:
        found = {name: getattr(parsed, name) for name in own_options()}
        parsed.own = {name: v for name, v in found.items() if v is not None}
        prepare_corpus(made(PrepareCorpusOptions, parsed))

    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
