"""Stage 1 of a known corpus: data/all, data/emotions, speaker-disjoint data/folds.

emoq prepare-corpus --corpus emodb --corpus_dir /path/to/emodb
"""

import argparse

from emoq_plugin.bin._parser import Command, Formatter, made, parser_of
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
        prog="emoq prepare-corpus",
        description=f"{__doc__}\nCorpora: {', '.join(corpora.names())}.",
        formatter_class=Formatter,
    )
    for name, use in own_options().items():
        parser.add_argument(f"--{name}", help="; ".join(use))
    return parser


def work(parsed: argparse.Namespace) -> None:
    """Do what was parsed."""
    found = {name: getattr(parsed, name) for name in own_options()}
    parsed.own = {name: v for name, v in found.items() if v is not None}
    prepare_corpus(made(PrepareCorpusOptions, parsed))


main = Command(get_parser, work)


if __name__ == "__main__":
    main()
