"""Stage 6, probe backend: predictions of every system at every rate of one fold."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.ser_probe import SerProbeOptions, ser_probe

main = command(SerProbeOptions, ser_probe, __doc__)

if __name__ == "__main__":
    main()
