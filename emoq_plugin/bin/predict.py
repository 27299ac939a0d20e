"""Say what the router hears: posteriors over emotions, the expert that it chooses.

emoq predict a.wav

A JSON object a line. The limits are logged first: read them.
"""

from emoq_plugin.bin._parser import command
from emoq_plugin.speech.predict_files import PredictOptions, predict

main = command(PredictOptions, predict, __doc__)

if __name__ == "__main__":
    main()
