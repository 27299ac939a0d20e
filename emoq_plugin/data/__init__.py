"""Kaldi data directories with emotion: tables, votes, folds, audio."""
