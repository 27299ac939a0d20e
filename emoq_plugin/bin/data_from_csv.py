"""A corpus described by one CSV file: data/all, data/emotions and data/folds.

emoq data from-csv --csv clips.csv
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.data_from_csv import (
    COLUMNS,
    DataFromCsvOptions,
    data_from_csv,
)

main = command(DataFromCsvOptions, data_from_csv, f"{__doc__}\n{COLUMNS}")

if __name__ == "__main__":
    main()
