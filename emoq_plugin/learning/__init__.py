"""Streaming weighted residual k-means: pure tensor functions, sources, the loop."""
