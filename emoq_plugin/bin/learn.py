"""Learn a quantizer from a directory of audio and a table of its emotions.

emoq learn recordings labels.csv --output mine
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.data.labelled_audio import COLUMNS
from emoq_plugin.learn_files import LearnOptions, learn

main = command(LearnOptions, learn, f"{__doc__}\n{COLUMNS}")

if __name__ == "__main__":
    main()
