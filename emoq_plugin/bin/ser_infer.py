"""Predict emotions with a trained ESPnet task; writes one line of posteriors.jsonl."""

from emoq_plugin.bin._parser import command
from emoq_plugin.recipe.stages.ser_infer import SerInferOptions, ser_infer

main = command(SerInferOptions, ser_infer, __doc__)

if __name__ == "__main__":
    main()
