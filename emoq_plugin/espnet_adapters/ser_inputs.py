"""ESPnet input files made from a directory of units; nothing here imports espnet2."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emoq_plugin.files import read_json, read_table, write_table

CARD_FIELDS = ("rate", "arm", "experts", "n_levels", "codebooks_sha256")
BITRATES = ("nominal", "entropy", "side_info")


def units_files(path: str | Path) -> list[Path]:
    """List what identifies a directory of units (codes.scp holds only places)."""
    path = Path(path)
    arks = sorted(path.glob("*.ark")) or [path / "codes.ark"]
    route = path / "utt2route"
    return [path / "units.json", *arks, *([route] if route.exists() else [])]


def parse_route(text: str, experts: Sequence[str]) -> np.ndarray:
    """Read a value of `utt2route`.

    Parameters
    ----------
    text : str
        `<expert>`, or `<expert>=<weight> <expert>=<weight>` for a mixture, in the
        order of the blocks of ids. An expert may be named without its group, `angry`
        for `specific/angry`.
    experts : sequence of E str
        Names of units.json.

    Returns
    -------
    (M, E) float64 array
        One row for each mixed expert with its weight at its place; sums to 1.

    Raises
    ------
    ValueError
        For an unknown expert or weights that are no distribution.

    Examples
    --------
    >>> parse_route("sad=0.75 angry=0.25", ["specific/angry", "specific/sad"])
    array([[0.  , 0.75],
           [0.25, 0.  ]])
    """
    short = {name.rpartition("/")[2]: place for place, name in enumerate(experts)}
    places = short | {name: place for place, name in enumerate(experts)}
    tokens = text.split()
    rows = np.zeros((len(tokens), len(experts)))
    for row, token in zip(rows, tokens):
        name, equals, weight = token.partition("=")
        if name not in places:
            raise ValueError(f"expert '{name}', expected one of {list(experts)}")
        try:
            row[places[name]] = float(weight) if equals else 1.0
        except ValueError:
            raise ValueError(f"weight '{weight}' is not a number") from None
    total = rows.sum()
    if not (rows >= 0).all() or not math.isclose(total, 1.0, abs_tol=0.02):
        raise ValueError(f"weights of '{text}' sum to {total:g}, expected 1 (and >= 0)")
    return rows / total


@dataclass(frozen=True)
class Units:
    """A directory of units: `codes.scp`, `utt2route` and the card `units.json`.

    Attributes
    ----------
    path : Path
    card : dict
        units.json.
    codes : dict of str to str
        `<ark>:<offset>` by utterance.
    routes : dict of str to str
        Values of `utt2route`; empty when there is only one expert.
    """

    path: Path
    card: dict[str, Any]
    codes: dict[str, str]
    routes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> "Units":
        """Read the tables; the arks are opened later.

        Raises
        ------
        FileNotFoundError
            If codes.scp or units.json is missing.
        ValueError
            If the card lacks a field, or several experts have no `utt2route`.
        """
        path = Path(path)
        for name in ("units.json", "codes.scp"):
            if not (path / name).is_file():
                raise FileNotFoundError(f"{path / name} is missing: run stage 5 first")
        card = read_json(path / "units.json")
        lacking = [name for name in CARD_FIELDS if name not in card]
        if lacking:
            raise ValueError(f"{path / 'units.json'} lacks {lacking}")
        routes = {}
        if (path / "utt2route").exists():
            routes = read_table(path / "utt2route")
        elif len(card["experts"]) > 1:
            raise ValueError(
                f"{path} has no utt2route, needed for {len(card['experts'])} experts"
            )
        return cls(path, card, read_table(path / "codes.scp"), routes)

    def bitrate(self) -> dict[str, float]:
        """Give nominal, entropy and side-information rate in bits/s.

        Raises
        ------
        ValueError
            If neither units.json nor bitrate.json has them.
        """
        rates = self.card.get("bitrate_bps")
        if rates is None and (self.path / "bitrate.json").exists():
            found = read_json(self.path / "bitrate.json")
            rates = found.get("bitrate_bps", found)
        lacking = [name for name in BITRATES if name not in (rates or {})]
        if lacking:
            raise ValueError(
                f"{self.path}: no bitrate_bps with {lacking} in units.json or "
                "bitrate.json: run stage 5 again"
            )
        return {name: rates[name] for name in BITRATES}

    def having(self, utterances: Sequence[str], part: str) -> list[str]:
        """Keep the utterances that have units, and say how many have none.

        Raises
        ------
        ValueError
            If none has.
        """
        kept = [u for u in utterances if u in self.codes]
        lost = [u for u in utterances if u not in self.codes]
        if not kept:
            raise ValueError(
                f"{self.path / 'codes.scp'} has none of the {len(lost)} utterances "
                f"of the {part} list: is it the right set and fold?"
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

    def load(
        self, utterance: str, codebook_sizes: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Load and check the units of one utterance.

        Parameters
        ----------
        utterance : str
        codebook_sizes : sequence of L int
            K of every level.

        Returns
        -------
        codes : (T, M * L) int array
        route : (M * E,) float64 array

        Raises
        ------
        ValueError
            For an unreadable ark, a wrong shape, or an id outside its codebook (with
            utterance, level, id and K).
        """
        import kaldiio

        entry = self.codes[utterance]
        try:
            codes = np.asarray(kaldiio.load_mat(entry))
        except Exception as error:
            raise ValueError(f"units of '{utterance}' ({entry}): {error}") from error
        experts = self.card["experts"]
        try:
            text = self.routes[utterance] if self.routes else experts[0]
            route = parse_route(text, experts)
        except KeyError:
            raise ValueError(f"{self.path / 'utt2route'} lacks '{utterance}'") from None
        except ValueError as error:
            where = self.path / "utt2route"
            raise ValueError(f"{where}: utterance '{utterance}': {error}") from error
        width = len(route) * len(codebook_sizes)
        if codes.ndim != 2 or codes.shape[1] != width or codes.dtype.kind not in "iu":
            raise ValueError(
                f"units of '{utterance}' ({entry}) are {codes.dtype} {codes.shape}, "
                f"expected integers (T, {width}): {len(route)} mixed expert(s) of "
                f"{len(codebook_sizes)} levels"
            )
        if not len(codes):
            raise ValueError(f"units of '{utterance}' ({entry}) have no frame")
        self._check_ids(utterance, codes, codebook_sizes)
        return codes, route.ravel()

    def _check_ids(
        self, utterance: str, codes: np.ndarray, codebook_sizes: Sequence[int]
    ) -> None:
        sizes = np.array(codebook_sizes)
        columns = np.arange(codes.shape[1]) % len(sizes)
        bad = np.argwhere((codes < 0) | (codes >= sizes[columns]))
        if len(bad):
            frame, column = bad[0]
            level = columns[column]
            raise ValueError(
                f"units of '{utterance}' ({self.codes[utterance]}): level {level}, "
                f"frame {frame}: id {codes[frame, column]} is outside the codebook of "
                f"K={sizes[level]} codewords"
            )


def write_split(
    directory: str | Path,
    units: Units,
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
        Gets `units.ark`, `units.scp`, `route`, `votes` and `units_shape`.
    units : Units
    targets : mapping of str to (C,) float64 array
        Vote shares by utterance.
    codebook_sizes : sequence of int
        K of every level.

    Raises
    ------
    ValueError
        As `Units.load`, or when the number of mixed experts changes.
    """
    import kaldiio

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tables: dict[str, dict[str, str]] = {
        name: {} for name in ("route", "votes", "units_shape")
    }
    widths: dict[int, str] = {}
    specifier = f"ark,scp:{directory / 'units.ark'},{directory / 'units.scp'}"
    with kaldiio.WriteHelper(specifier) as write:
        for utterance in sorted(targets):
            codes, route = units.load(utterance, codebook_sizes)
            write(utterance, codes.astype(np.float32))
            widths.setdefault(codes.shape[1], utterance)
            tables["units_shape"][utterance] = ",".join(map(str, codes.shape))
            tables["route"][utterance] = " ".join(f"{w:.8g}" for w in route)
            tables["votes"][utterance] = " ".join(
                f"{share:.8g}" for share in targets[utterance]
            )
    if len(widths) > 1:
        raise ValueError(
            f"{units.path}: the number of ids a frame changes: {widths}; mix the same "
            "number of experts in all utterances"
        )
    for name, table in tables.items():
        write_table(directory / name, table)
