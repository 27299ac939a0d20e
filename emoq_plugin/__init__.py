"""Emotion-aware discrete speech units."""

__version__ = "0.1.0"
