"""Which corpora are in the training data of an encoder, as far as it is documented."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from emoq_plugin.speech.encoders.encoder import FeatureSpecification

# Encoders without weights.
UNTRAINED = ("fbank", "opensmile")


def encoder_id(specification: FeatureSpecification) -> str:
    """Return the name under which `leakage_notes` looks an encoder up."""
    return specification.versions.get("model", specification.encoder)


def leakage_notes(encoder: str, corpora: Iterable[str]) -> list[str]:
    """Say of each corpus whether the encoder was trained on it, with the source.

    An encoder that has heard a test corpus does not show how it does on new speech,
    even where no label was used.

    Parameters
    ----------
    encoder : str
        Model name (facebook/hubert-large-ll60k), or name of an encoder without weights.
        Of a path only the last part counts, so a local copy is known by its directory.
    corpora : iterable of str
        Names of corpora; case and punctuation do not count.

    Returns
    -------
    list of str
        One note a corpus.

    Examples
    --------
    >>> leakage_notes("fbank", ["esd"])
    ['esd: fbank is not trained, so it has seen nothing']
    >>> leakage_notes("my_model", ["esd"])
    ['esd: the training data of my_model are unknown']
    """
    name = encoder.rstrip("/").rpartition("/")[2]
    if name in UNTRAINED:
        return [f"{c}: {name} is not trained, so it has seen nothing" for c in corpora]
    entry = _table().get(_plain(name))
    if entry is None:
        return [f"{c}: the training data of {name} are unknown" for c in corpora]
    return [f"{corpus}: {_note(name, entry, corpus)}" for corpus in corpora]


def _note(name: str, entry: dict[str, Any], corpus: str) -> str:
    source = f"({entry['data']}; {entry['source']})"
    for how, seen in entry.get("seen", {}).items():
        if _plain(corpus) in map(_plain, seen):
            return f"{name} was trained on it, {how} {source}"
    for why, shared in entry.get("overlap", {}).items():
        if _plain(corpus) in map(_plain, shared):
            return f"not documented whether {name} has seen a part: {why} {source}"
    if entry["complete"]:
        return f"not in the training data of {name} {source}"
    return f"not documented whether {name} was trained on it {source}"


@cache
def _table() -> dict[str, dict[str, Any]]:
    import yaml

    path = files("emoq_plugin.speech.encoders").joinpath("leakage.yaml")
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {_plain(name): entry for entry in entries for name in entry["names"]}


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
