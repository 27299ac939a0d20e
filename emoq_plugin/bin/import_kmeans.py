"""Make a quantizer from ESPnet's km_<K>.mdl; unpickles it, so only what you trust."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.espnet_adapters.import_kmeans import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
