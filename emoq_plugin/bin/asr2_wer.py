"""Word error rate of what asr2.sh decoded (stage 14), by jiwer, without sclite."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.espnet_adapters.asr2_wer import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
