"""Check a data directory, its folds and its audio; name every fault with its place.

emoq validate-data-dir --data_dir data/all --emotions data/emotions --folds data/folds
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.data.validation import ValidateOptions, validate_data_dir

main = command(ValidateOptions, validate_data_dir, __doc__)

if __name__ == "__main__":
    main()
