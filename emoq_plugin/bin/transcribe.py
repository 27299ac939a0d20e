"""Transcribe audio files by a trained asr2 model of ESPnet that reads our units.

emoq transcribe a.wav --asr exp/asr_emoq
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.espnet_adapters.transcribe_files import TranscribeOptions, transcribe

main = command(TranscribeOptions, transcribe, __doc__)

if __name__ == "__main__":
    main()
