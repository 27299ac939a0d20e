"""Write one expert as ESPnet's k-means models, or a system as ONNX graphs.

emoq export --quantizer mine --onnx exp/onnx
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.espnet_adapters.export import ExportOptions, export

main = command(ExportOptions, export, __doc__)

if __name__ == "__main__":
    main()
