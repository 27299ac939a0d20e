"""References of the method and of the corpora that recipes exist for."""

import importlib
import re

METHOD = (
    "Zhou, Wang, Wu, Bailey, Dang: Emotion-Aware Quantization for Discrete Speech "
    "Representations: An Analysis of Emotion Preservation. arXiv 2603.21224, 2026."
)
METHOD_ADDRESS = "https://arxiv.org/abs/2603.21224"
# The other corpora say it in the docstring of their module in `data.corpora`.
_CORPORA = {
    "emodb": "EMO-DB: Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss: A database of "
    "German emotional speech, Interspeech 2005.",
    "mini_emo": "mini_emo: synthetic, made by this toolkit (docs/mini_emo.md); espeak-"
    "ng speech changed by WORLD. Nobody spoke and nobody listened.",
}


def cite_corpus(corpus: str) -> str:
    """Return the reference of a corpus, or say that there is none here.

    Examples
    --------
    >>> cite_corpus("nemo")
    'nEMO: Christop: "nEMO: dataset of emotional speech in Polish", LREC-COLING 2024.'
    """
    if corpus in _CORPORA:
        return _CORPORA[corpus]
    unknown = f"{corpus}: see the documents that came with the corpus."
    if not re.fullmatch(r"[a-z]\w*", corpus):
        return unknown
    try:
        module = importlib.import_module(f"emoq_plugin.data.corpora.{corpus}")
    except ModuleNotFoundError:
        return unknown
    name, *paragraphs = (module.__doc__ or "").split("\n\n")
    found = re.match(
        r".*?\d{4}.*?\.(?=\s|$)", " ".join("".join(paragraphs[:1]).split())
    )
    return f"{name.partition(':')[0].strip()}: {found[0]}" if found else unknown
