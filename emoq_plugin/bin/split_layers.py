"""Split features of several layers, encoded in one pass, into one set a layer."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.split_layers import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
