"""Encode audio files by a quantizer: units as text, JSON lines or NumPy arrays.

emoq encode a.wav b.flac --quantizer mine --format jsonl
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.speech.encode_files import EncodeOptions, encode

main = command(EncodeOptions, encode, __doc__)

if __name__ == "__main__":
    main()
