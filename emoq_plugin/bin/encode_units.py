"""Stage 5: encode a set with the quantizers of one fold, every system at every rate."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.encode_units import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
