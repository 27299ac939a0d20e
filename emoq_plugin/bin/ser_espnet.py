"""Stage 6, ESPnet backend: train and apply ESPnet task on some systems of one fold."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.ser_espnet import SerEspnetOptions, ser_espnet

main = command(SerEspnetOptions, ser_espnet, __doc__)

if __name__ == "__main__":
    main()
