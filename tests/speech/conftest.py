"""Encoders of every kind on tiny random models."""

import pytest

from tests.speech.tiny_models import KINDS, PACKAGES


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Give encoder and options of a kind; its files are made when first asked for."""
    made = {}

    def give(kind):
        name, make, options = KINDS[kind]
        if name in PACKAGES:
            pytest.importorskip(PACKAGES[name])
        if kind not in made:
            made[kind] = dict(options)
            if make is not None:
                directory = tmp_path_factory.mktemp(kind)
                make(directory)
                made[kind]["model"] = str(directory)
        return name, dict(made[kind])

    return give
