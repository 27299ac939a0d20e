"""Stage 2: every utterance as mono audio at one rate, unusable ones named."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.format_data import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
