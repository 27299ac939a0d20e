"""Units of data directories for ESPnet's asr2.sh, in place of its stages 2 to 6.

Writes `<dumpdir>/raw/<set>` for every set, and into the model's directory the packed
quantizer, `emoq_units.json` (the card) and `asr2.options` (the options of asr2.sh that
enter it at stage 7, one argument a line).

emoq asr2-units --quantizer mine --sets train dev test --asr_exp exp/asr_emoq
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.espnet_adapters.asr2_units import Asr2UnitsOptions, asr2_units

main = command(Asr2UnitsOptions, asr2_units, __doc__)

if __name__ == "__main__":
    main()
