"""Encode audio files by a quantizer: units as text, JSON or NumPy arrays."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.speech.encode_files import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
