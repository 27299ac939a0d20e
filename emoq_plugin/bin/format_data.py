"""Stage 2: every utterance as mono audio at one rate, unusable ones named."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.format_data import FormatDataOptions, format_data

main = command(FormatDataOptions, format_data, __doc__)

if __name__ == "__main__":
    main()
