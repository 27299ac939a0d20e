"""Speech to frames to units: audio, encoders, the store of frames, the pipeline."""

# Raised when formatted audio or stored frames come out otherwise; see `Stage`.
VERSION = 1
