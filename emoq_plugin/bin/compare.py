"""Compare two quantizers, k-means models or files of units: why one is worse.

emoq compare exp/mine exp/theirs --data dump/fbank/all --labels dump/raw/all
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.espnet_adapters.compare import CompareOptions, compare

main = command(CompareOptions, compare, __doc__)

if __name__ == "__main__":
    main()
