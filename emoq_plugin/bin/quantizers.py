"""List the quantizers that come with the package: rate, encoder, score, model card.

emoq quantizers
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.pretrained import QuantizersOptions, quantizers

main = command(QuantizersOptions, quantizers, __doc__)

if __name__ == "__main__":
    main()
