"""Run what is missing of a study as one array of jobs: stage 7 of a recipe.

All other options are the recipe's, such as `--nj 32` (tasks at a time), `--ngpu 1`,
`--cmd_opts "--mem 8G"`, or `--stop_stage 8` for the report. Killed and called again, it
waits for the jobs that still run, and then runs those that are not done.
"""

from emoq_plugin.bin._command import run_command
from emoq_plugin.recipe.stages.sweep import get_parser, work


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments, passes_on=True)


if __name__ == "__main__":
    main()
