"""Make a quantizer from ESPnet's km_<K>.mdl; unpickles it, so only what you trust.

emoq import-kmeans km_500.mdl --output_dir exp/imported
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.espnet_adapters.export import ImportOptions, import_kmeans

main = command(ImportOptions, import_kmeans, __doc__)

if __name__ == "__main__":
    main()
