"""Put the clip codes of a quantizer as tokens in front of units of another tokenizer.

emoq clip-tokens wavs --quantizer mine --units km500.txt --n_units 500 --output new.txt
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.speech.clip_tokens import ClipTokensOptions, clip_tokens

main = command(ClipTokensOptions, clip_tokens, __doc__)

if __name__ == "__main__":
    main()
