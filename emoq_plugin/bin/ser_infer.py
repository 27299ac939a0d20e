"""Predict emotions with a trained ESPnet task; writes one line of posteriors.jsonl."""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.ser_infer import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
