"""Stage 8: a study or an experiment as one self-contained HTML page, or Markdown."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.report import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
