"""Streaming weighted residual k-means: pure tensor functions, sources, the loop."""

# Raised when codebooks come out otherwise; see `Stage`.
VERSION = 1
