"""Packages that a light install leaves out."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Name the command that installs what an import in the block lacks.

    Parameters
    ----------
    extra : str
        Of setup.cfg, `options.extras_require`.

    Raises
    ------
    ValueError
        For a package that is missing or cannot be imported.

    Examples
    --------
    >>> with needs("report"):
    ...     import no_such_package
    Traceback (most recent call last):
    ValueError: the package no_such_package is missing: pip install 'emoq[report]'
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("emoq_plugin"):
            raise
        absent = isinstance(error, ModuleNotFoundError) and error.name
        what = f"{error.name} is missing" if absent else f"cannot be imported ({error})"
        raise ValueError(f"the package {what}: pip install 'emoq[{extra}]'") from error
