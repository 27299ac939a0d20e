"""Compare encoders or layers by the probe; validation speakers choose one.

emoq compare-features --feature_dirs dump/whisper_base_layers/all --data_dir dump/raw/all --emotions data/emotions --folds data/folds
"""  # noqa: E501

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.compare_features import (
    CompareFeaturesOptions,
    compare_features,
)

main = command(CompareFeaturesOptions, compare_features, __doc__)

if __name__ == "__main__":
    main()
