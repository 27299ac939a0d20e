"""Word error rate of Whisper's own decoder on quantized states of its encoder.

emoq whisper-words --data_dir dump/raw/all --model_dir openai/whisper-base --language de --quantizers mine
"""  # noqa: E501

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.whisper_words import WhisperWordsOptions, whisper_words

main = command(WhisperWordsOptions, whisper_words, __doc__)

if __name__ == "__main__":
    main()
