"""ESPnet's k-means models (`km_<K>.mdl`, `km_<K>_RVQ_<l>.mdl`) in and out.

They are joblib files: pickles, which run code when they are loaded. Nothing in Emo-Q
reads them but the commands `emoq import-kmeans` and `emoq compare`, so give these only
what you trust.
"""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from emoq_plugin.core.bank import BALANCED, CodebookBank
from emoq_plugin.core.normalization import Normalization
from emoq_plugin.files import atomic_write
from emoq_plugin.optional import needs
from emoq_plugin.speech.encoders.model_files import fault_of, in_one_line

SPACES = ("features", "normalised")


def model_paths(path: str | Path, n_levels: int) -> list[Path]:
    """Name the files of the levels as ESPnet's scripts do.

    Examples
    --------
    >>> [p.name for p in model_paths("km_64.mdl", 2)]
    ['km_64_RVQ_0.mdl', 'km_64_RVQ_1.mdl']
    >>> model_paths("km_64.mdl", 1)[0].name
    'km_64.mdl'
    """
    path = Path(path)
    if path.suffix != ".mdl":
        raise ValueError(f"{path}: expected a name that ends in .mdl, as ESPnet's do")
    if n_levels == 1:
        return [path]
    return [path.with_name(f"{path.stem}_RVQ_{i}.mdl") for i in range(n_levels)]


class _Kept:
    """Attributes of an object of a class that this scikit-learn lacks."""


@contextlib.contextmanager
def _other_versions(names: set[str]) -> Iterator[None]:
    """Let modules that scikit-learn had, or will have, give `_Kept` for every class."""
    made = {}
    for name in names:
        made[name] = ModuleType(name)
        made[name].__getattr__ = lambda _: _Kept  # type: ignore[method-assign]
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


def _unpickle(path: Path) -> tuple[Any, str]:
    """Load a model, also one of a scikit-learn whose modules have other names.

    Returns
    -------
    model : object
    version : str
        Of the scikit-learn that made it; empty if that is the one here, or unknown.
    """
    with needs("espnet"):
        import joblib
    from sklearn.exceptions import InconsistentVersionWarning

    missing: set[str] = set()
    while True:
        try:
            with (
                _other_versions(missing),
                warnings.catch_warnings(record=True) as caught,
            ):
                warnings.simplefilter("always")
                model = joblib.load(path)
            break
        except ModuleNotFoundError as error:
            name = error.name or ""
            if not name.startswith("sklearn.") or name in missing:
                raise
            missing.add(name)
    if isinstance(model, _Kept):
        return model, getattr(model, "_sklearn_version", "before 0.18")
    versions = [
        w.message.original_sklearn_version
        for w in caught
        if isinstance(w.message, InconsistentVersionWarning)
    ]
    return model, "".join(versions[:1])


def read_centers(path: str | Path) -> torch.Tensor:
    """Unpickle a model and take its cluster centres, (K, D) float32.

    Of a file of another scikit-learn, only the centres are read, and its version is
    logged: they mean the same in all.

    Raises
    ------
    ValueError
        If it cannot be unpickled, or the object has no centres, or they are not a
        finite matrix.
    """
    import sklearn

    path = Path(path)
    try:
        model, version = _unpickle(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever unpickling raises
        fault = fault_of(path) or (
            f"cannot be unpickled ({in_one_line(error)}), expected a k-means model "
            "that joblib wrote: load it where it was made, and give its "
            "cluster_centers_ to a KMeans of this scikit-learn"
        )
        raise ValueError(f"{path}: {fault}") from error
    if version:
        logging.info(
            "%s: made by scikit-learn %s (here %s), only its cluster centres are read",
            path,
            version,
            sklearn.__version__,
        )
    centers = np.asarray(getattr(model, "cluster_centers_", None))
    if centers.ndim != 2 or centers.dtype.kind != "f" or not np.isfinite(centers).all():
        raise ValueError(
            f"{path} holds a {type(model).__name__} whose cluster_centers_ is "
            f"{centers.dtype} of shape {centers.shape}, expected finite (K, D) numbers"
        )
    return torch.from_numpy(centers.astype(np.float32))


def import_kmeans(
    path: str | Path, *, n_levels: int = 1, feature: dict[str, Any] | None = None
) -> CodebookBank:
    """Make a bank with the expert `balanced` from ESPnet's models.

    Parameters
    ----------
    path : str or Path
        ``km_<K>.mdl``; with several levels ``km_<K>_RVQ_<l>.mdl`` beside it are read.
    n_levels : int, default=1
    feature : dict, optional
        Feature specification, so that audio can be encoded.

    Raises
    ------
    ValueError
        For objects that are no k-means model, or levels or features of another
        dimension.
    """
    paths = model_paths(path, n_levels)
    levels = [read_centers(p) for p in paths]
    dimension = levels[0].shape[1]
    for p, centers in zip(paths, levels):
        if centers.shape[1] != dimension:
            raise ValueError(
                f"{p} has {centers.shape[1]} dimensions, {paths[0]} {dimension}"
            )
    if feature and feature["dimension"] != dimension:
        raise ValueError(
            f"{paths[0]} has {dimension} dimensions, the feature specification "
            f"{feature['dimension']}"
        )
    card: dict[str, Any] = {"imported_from": [p.name for p in paths]}
    return CodebookBank(
        [BALANCED],
        [centers[None] for centers in levels],
        Normalization("corpus", torch.zeros(dimension), torch.ones(dimension)),
        emotions=[],
        card=card | ({"feature": feature} if feature else {}),
    )


def centers_of(
    bank: CodebookBank, expert: str, *, space: str = "features"
) -> list[np.ndarray]:
    """Return the codewords of an expert where plain Euclidean k-means finds the same.

    Parameters
    ----------
    bank : CodebookBank
    expert : str
    space : {"features", "normalised"}, default="features"
        ESPnet's scripts measure distances in the features they are given. That is the
        same only if the normalisation shifts and scales all dimensions alike;
        otherwise give them normalised features and export in that space.

    Returns
    -------
    levels : list of (K, D) float32 array

    Raises
    ------
    ValueError
        If the distances differ in the space of the features.
    """
    if space not in SPACES:
        raise ValueError(f"space is '{space}', expected one of {SPACES}")
    levels = bank.expert(expert).codebooks
    norm = bank.normalization
    if space == "features":
        if norm.kind != "corpus" or not torch.allclose(norm.scale, norm.scale[0]):
            raise ValueError(
                f"this quantizer normalises by '{norm.kind}' and dimension, so nearest "
                "codewords of plain features are others: export with --space "
                "normalised and give ESPnet's scripts normalised features"
            )
        # Only the first level holds the mean; the others are of residuals.
        levels = [c * norm.scale + (norm.mean if i == 0 else 0)
                  for i, c in enumerate(levels)]  # fmt: skip
    return [level.numpy().astype(np.float32) for level in levels]


def export_kmeans(levels: Sequence[np.ndarray], path: str | Path) -> list[Path]:
    """Write scikit-learn models that ESPnet's scripts can predict with.

    Parameters
    ----------
    levels : sequence of (K, D) float32 array
    path : str or Path
        ``km_<K>.mdl``.

    Returns
    -------
    paths : list of Path
    """
    with needs("espnet"):
        import joblib
    from sklearn.cluster import MiniBatchKMeans

    paths = model_paths(path, len(levels))
    for target, centers in zip(paths, levels):
        model = MiniBatchKMeans(n_clusters=len(centers), n_init=1)
        model.cluster_centers_ = centers
        model.n_features_in_ = centers.shape[1]
        model._n_threads = 1  # set by fit, needed by predict
        with atomic_write(target, "wb") as stream:
            joblib.dump(model, stream)
    return paths
