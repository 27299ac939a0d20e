"""Codes on disk, their text forms, and what they cost in bits."""
