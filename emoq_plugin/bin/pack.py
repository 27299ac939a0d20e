"""Stage 9: one system at one rate of one fold as an artifact that is ready to share.

emoq pack --quantizer exp/quantizer/64x4 --system specific-distortion --output_dir mine
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.pack import PackOptions, pack

main = command(PackOptions, pack, __doc__)

if __name__ == "__main__":
    main()
