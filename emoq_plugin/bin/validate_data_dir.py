"""Check a data directory, its folds and its audio; name every fault with its place."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.data.validation import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
