"""Stage 1 of a known corpus: data/all, data/emotions, speaker-disjoint data/folds."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.prepare_corpus import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
