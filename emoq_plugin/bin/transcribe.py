"""Transcribe audio files by a trained asr2 model of ESPnet that reads our units."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.espnet_adapters.transcribe_files import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
