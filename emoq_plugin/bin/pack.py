"""Stage 9: one system at one rate of one fold as an artifact that is ready to share."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.pack import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
