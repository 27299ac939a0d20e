"""Speech to frames to units: audio, encoders, the store of frames, the pipeline."""
