"""Split features of several layers, encoded in one pass, into one set a layer."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.split_layers import SplitLayersOptions, split_layers

main = command(SplitLayersOptions, split_layers, __doc__)

if __name__ == "__main__":
    main()
