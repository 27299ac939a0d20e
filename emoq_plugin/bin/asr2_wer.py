"""Word error rate of what asr2.sh decoded (stage 14), by jiwer, without sclite.

Reads `<asr_exp>/<inference>/<set>/text` and writes `wer.json` beside it.

emoq asr2-wer --asr_exp exp/asr_emoq --sets test
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.espnet_adapters.asr2_wer import Asr2WerOptions, asr2_wer

main = command(Asr2WerOptions, asr2_wer, __doc__)

if __name__ == "__main__":
    main()
