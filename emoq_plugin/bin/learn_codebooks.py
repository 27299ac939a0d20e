"""Stage 4: learn the codebooks of one fold (one job of an array over folds).

Under torchrun or srun the processes share the frames of the fold:
`torchrun --nproc_per_node 2 -m emoq_plugin.bin.learn_codebooks ...`.
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.learn_codebooks import (
    LearnCodebooksOptions,
    learn_codebooks,
)

main = command(LearnCodebooksOptions, learn_codebooks, __doc__)

if __name__ == "__main__":
    main()
