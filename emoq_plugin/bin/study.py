"""Stage 7: a study of many experiments: --list its jobs, --run them, --aggregate.

A job is one corpus, feature, quantizer, seed and fold at all rates: stages 4 to 6 with
its own codebooks, and the measures of what the units keep. Finished parts are not done
again, so a study goes on wherever it stopped.
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.study import StudyOptions, study

main = command(StudyOptions, study, __doc__)

if __name__ == "__main__":
    main()
