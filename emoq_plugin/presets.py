"""Files of conf/, found by a path or by the name of a preset."""

import functools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

# The repository, which holds conf/<kind>/<preset>.yaml; a recipe knows its own.
ROOT = Path(os.environ.get("EMOQ_ROOT") or Path(__file__).parents[1])


def find_config(
    name: str | Path, kind: str, *, places: Sequence[str | Path] = (".",)
) -> Path:
    """Find a file of options.

    Parameters
    ----------
    name : str or Path
        A path, seen from one of the places or from the repository, or the name of a
        preset: ``fbank`` for ``conf/features/fbank.yaml``.
    kind : str
        Directory of the presets: `features`, `quantizer`, `ser` or `study`.
    places : sequence of str or Path
        Directories that a path may be seen from; the first that has it is taken.

    Raises
    ------
    FileNotFoundError
        With the places that were searched and the presets that exist.

    Examples
    --------
    >>> find_config("fbank", "features") == find_config(
    ...     "conf/features/fbank.yaml", "features", places=["/"])
    True
    """
    presets = ROOT / "conf" / kind
    tried = [Path(place) / name for place in (*places, ROOT)]
    if Path(name).name == str(name):
        tried += [presets / name, presets / f"{name}.yaml"]
    for path in tried:
        if path.is_file():
            logging.debug("--%s %s: %s", kind, name, path)
            return path
    known = " ".join(sorted(path.stem for path in presets.glob("*.yaml")))
    seen_from = ", ".join(dict.fromkeys(os.path.abspath(p) for p in (*places, ROOT)))
    raise FileNotFoundError(
        f"{name} is missing: no such file, seen from {seen_from}, and no preset of "
        f"{presets}, which are: {known}"
    )


def config_of(kind: str) -> Callable[[str], Path]:
    """Return the type of an option: a file of `conf/<kind>`, see `find_config`.

    For `argparse`, so that a wrong one is reported before any work.
    """
    return functools.partial(find_config, kind=kind)


def find_for_script(name: str | Path, kind: str) -> Path:
    """Find a file of options that a script was given, as an absolute path.

    A path is seen from where its user is (`called_from`) before where the script is.

    Raises
    ------
    FileNotFoundError
        See `find_config`.
    """
    called_from = os.environ.get("called_from", ".")  # noqa: SIM112
    return find_config(name, kind, places=[called_from, "."]).absolute()
