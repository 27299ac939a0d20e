"""Stage 8: a study or an experiment as one self-contained HTML page, or Markdown."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.report import ReportOptions, report

main = command(ReportOptions, report, __doc__)

if __name__ == "__main__":
    main()
