"""ESPnet input files made from a directory of units; nothing here imports espnet2."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import kaldiio
import numpy as np

from emoq_plugin.files import write_table
from emoq_plugin.units.store import UnitStore


def available(units: UnitStore, utterances: Sequence[str], part: str) -> list[str]:
    """Keep the utterances that have units, and say how many have none.

    Raises
    ------
    ValueError
        If none has.
    """
    kept = [u for u in utterances if u in units]
    lost = [u for u in utterances if u not in units]
    if not kept:
        raise ValueError(
            f"{units.directory} has units for none of the {len(lost)} utterances of "
            f"the {part} list: is it the right set, and is the list not empty?"
        )
    if lost:
        logging.warning(
            "%s: %d of %d utterances have no units: %s",
            part,
            len(lost),
            len(utterances),
            " ".join(lost[:5]),
        )
    return kept


def load_units(
    units: UnitStore, utterance: str, codebook_sizes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Load and check the units of one utterance.

    Parameters
    ----------
    units : UnitStore
    utterance : str
    codebook_sizes : sequence of L int
        K of every level.

    Returns
    -------
    codes : (T, M * L) int64 array
    route : (M * E,) float64 array
        For each mixed expert a row of E numbers with its weight at its place.

    Raises
    ------
    ValueError
        For damaged units, no frame, or an id outside its codebook (with utterance,
        level, frame, id and K).
    """
    codes = units[utterance].astype(np.int64)
    if not len(codes):
        raise ValueError(f"{units.directory}: units of '{utterance}' have no frame")
    sizes = np.array(codebook_sizes)
    columns = np.arange(codes.shape[1]) % len(sizes)
    bad = np.argwhere((codes < 0) | (codes >= sizes[columns]))
    if len(bad):
        frame, column = bad[0]
        level = columns[column]
        raise ValueError(
            f"{units.directory}: units of '{utterance}': level {level}, frame {frame}: "
            f"id {codes[frame, column]} is outside the codebook of K={sizes[level]} "
            "codewords"
        )
    experts = units.card["experts"]
    route = np.zeros((len(units.routes[utterance]), len(experts)))
    for row, (expert, weight) in zip(route, units.routes[utterance].items()):
        row[experts.index(expert)] = weight
    return codes, route.ravel()


def _specifier(directory: Path, name: str) -> str:
    return f"ark,scp:{directory / f'{name}.ark'},{directory / f'{name}.scp'}"


def write_split(
    directory: str | Path,
    units: UnitStore,
    targets: Mapping[str, np.ndarray],
    *,
    codebook_sizes: Sequence[int],
) -> None:
    """Write ESPnet's input files of one part of a fold.

    ESPnet reads arks with its own library, which knows Kaldi's types only: no NumPy
    arrays and no integer matrices. So the ids go as float32 matrices, exact below
    2**24, and `SERTask` turns them back into integers.

    Parameters
    ----------
    directory : str or Path
        Gets `units.ark`, `units.scp`, `route`, `votes` and `units_shape`; with a clip
        code also `clip_codes.ark` and `clip_codes.scp`.
    units : UnitStore
    targets : mapping of str to (C,) float64 array
        Vote shares by utterance.
    codebook_sizes : sequence of int
        K of every level.

    Raises
    ------
    ValueError
        As `load_units`, or when the number of mixed experts changes.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tables: dict[str, dict[str, str]] = {
        name: {} for name in ("route", "votes", "units_shape")
    }
    widths: dict[int, str] = {}
    with kaldiio.WriteHelper(_specifier(directory, "units")) as write:
        for utterance in sorted(targets):
            codes, route = load_units(units, utterance, codebook_sizes)
            write(utterance, codes.astype(np.float32))
            widths.setdefault(codes.shape[1], utterance)
            tables["units_shape"][utterance] = ",".join(map(str, codes.shape))
            tables["route"][utterance] = " ".join(f"{w:.8g}" for w in route)
            tables["votes"][utterance] = " ".join(
                f"{share:.8g}" for share in targets[utterance]
            )
    if units.clip_codes:
        with kaldiio.WriteHelper(_specifier(directory, "clip_codes")) as write:
            for utterance in sorted(targets):
                write(utterance, units.clip_codes[utterance].astype(np.float32))
    if len(widths) > 1:
        raise ValueError(
            f"{units.directory}: the number of ids a frame changes: {widths}; "
            "mix the same number of experts in all utterances"
        )
    for name, table in tables.items():
        write_table(directory / name, table)
