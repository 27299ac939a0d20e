"""Write one expert as ESPnet's k-means models, or a system as ONNX graphs."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.espnet_adapters.export import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
