"""Stage 5: encode a set with the quantizers of one fold, every system at every rate."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.encode_units import EncodeUnitsOptions, encode_units

main = command(EncodeUnitsOptions, encode_units, __doc__)

if __name__ == "__main__":
    main()
