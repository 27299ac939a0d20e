"""Corpora as distributed: one module each, found by name."""

import importlib
import pkgutil

from emoq_plugin.data.corpora.corpus import Corpus

_NOT_CORPORA = ("archives", "corpus", "download", "finding", "tables")


def names() -> list[str]:
    """Return the names of all corpora that can be prepared."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in modules if name not in _NOT_CORPORA)


def load(name: str) -> Corpus:
    """Return the description of a corpus.

    Raises
    ------
    ValueError
        If there is no such corpus.
    """
    if name not in names():
        raise ValueError(
            f"corpus '{name}', expected one of: {' '.join(names())}; another corpus "
            "is described by a CSV file, see docs/new_corpus.md"
        )
    return importlib.import_module(f"{__name__}.{name}").CORPUS
