"""Units of data directories for ESPnet's tts2.sh and svs2.sh, in place of k-means.

Writes `dump/raw/<set>/text.km.<tag>` (tts2) or `token_<tag>` (svs2) for every set, and
into `dump/<tag>` the packed quantizer, the list of tokens and `<layout>.options` (the
options that enter the script after its stage of units, one argument a line).

emoq synthesis-units --quantizer mine --layout tts2 --sets train dev test
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.espnet_adapters.synthesis_units import (
    SynthesisUnitsOptions,
    synthesis_units,
)

main = command(SynthesisUnitsOptions, synthesis_units, __doc__)

if __name__ == "__main__":
    main()
