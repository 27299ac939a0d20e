"""Stage 7: what reconstructions of every system at every rate keep, for one fold."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.measure import MeasureOptions, measure

main = command(MeasureOptions, measure, __doc__)

if __name__ == "__main__":
    main()
