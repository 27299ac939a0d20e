"""Run what is missing of a study as one array of jobs: stage 7 of a recipe.

All other options are the recipe's, such as `--nj 32` (tasks at a time), `--ngpu 1`,
`--cmd_opts "--mem 8G"`, or `--stop_stage 8` for the report. Killed and called again, it
waits for the jobs that still run, and then runs those that are not done.
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.sweep import SweepOptions, sweep

main = command(SweepOptions, sweep, __doc__)

if __name__ == "__main__":
    main()
