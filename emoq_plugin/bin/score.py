"""Score predictions of all folds: writes scores.json, RESULTS.md and a picture."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.score import ScoreOptions, score

main = command(ScoreOptions, score, __doc__)

if __name__ == "__main__":
    main()
