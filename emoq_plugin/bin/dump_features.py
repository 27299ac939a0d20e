"""Encode a set of utterances: one job of an array, or the merge that ends it."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.dump_features import DumpFeaturesOptions, dump_features

main = command(DumpFeaturesOptions, dump_features, __doc__)

if __name__ == "__main__":
    main()
