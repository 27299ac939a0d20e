"""Stage 7: what reconstructions of every system at every rate keep, for one fold."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.measure import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
