"""Score emotion in units of another tokenizer, alone and with clip tokens beside.

emoq score-tokens --tokens new.txt --quantizer mine --folds data/folds --fold 1 ...
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.score_tokens import ScoreTokensOptions, score_tokens

main = command(ScoreTokensOptions, score_tokens, __doc__)

if __name__ == "__main__":
    main()
