"""Train ESPnet's emotion recognition task on the units of one fold."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.ser_train import SerTrainOptions, ser_train

main = command(SerTrainOptions, ser_train, __doc__)

if __name__ == "__main__":
    main()
