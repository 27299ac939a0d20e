"""Split a data directory into speaker-disjoint folds, deterministically."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.make_folds import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
