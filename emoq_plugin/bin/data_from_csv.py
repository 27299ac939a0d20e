"""A corpus described by one CSV file: data/all, data/emotions and data/folds."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.data_from_csv import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
