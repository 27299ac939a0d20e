"""Kaldi data directories with emotion: tables, votes, folds, audio."""

# Raised when tables, labels or folds come out otherwise; see `Stage`.
VERSION = 1
