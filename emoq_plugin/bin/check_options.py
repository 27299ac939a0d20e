"""Check the options of a recipe before its first stage works.

Options have the names of the recipe's; those left out are not looked at. Lists are one
argument, as in the scripts.
"""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.check_options import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
