"""Share of units that stay under noise, another speed, a narrow band and MP3.

emoq stability recordings --quantizer mine
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.stability import StabilityOptions, stability

main = command(StabilityOptions, stability, __doc__)

if __name__ == "__main__":
    main()
