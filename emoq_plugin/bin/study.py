"""Stage 7: a study of many experiments: --list its jobs, --run them, --aggregate.

A job is one corpus, feature, quantizer, seed and fold at all rates: stages 4 to 6 with
its own codebooks, and the measures of what the units keep. Finished parts are not done
again, so a study goes on wherever it stopped.
"""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.study import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
