"""Codes on disk, their text forms, and what they cost in bits."""

# Raised when codes or bitrates come out otherwise; see `Stage`.
VERSION = 1
