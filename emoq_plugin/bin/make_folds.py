"""Split a data directory into speaker-disjoint folds, deterministically."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.make_folds import MakeFoldsOptions, make_folds

main = command(MakeFoldsOptions, make_folds, __doc__)

if __name__ == "__main__":
    main()
