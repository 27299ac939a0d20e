"""Units of data directories for ESPnet's asr2.sh, in place of its stages 2 to 6."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.espnet_adapters.asr2_units import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
