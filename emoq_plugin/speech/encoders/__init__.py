"""Encoders that turn speech into frames, and the ark/scp store of their output."""
