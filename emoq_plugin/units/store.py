"""Units of one system at one rate on disk: codes, routes, labels, bitrates."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import kaldiio
import numpy as np

from emoq_plugin.core.bank import member
from emoq_plugin.files import (
    atomic_write,
    check_types,
    errors_of,
    read_json,
    read_places,
    read_table,
    write_json,
    write_table,
)
from emoq_plugin.routing.base import Route
from emoq_plugin.units.text import pseudo_label_file

CODES = "codes.ark"
SCP = "codes.scp"
ROUTES = "utt2route"
CLIP_CODES = "utt2clip_codes"
WINDOW = "|"  # between the clip codes of two windows
CARD = "units.json"
BITRATE = "bitrate.json"
CARD_TYPES = {"experts": list[str], "n_levels": int}
CLIP_TYPES = {"clip_sizes": list[int]}
# Kaldiio's mark of an NPY array in an ark; a pickle or a command is not let through.
NPY = b"NPY"


class UnitWriter:
    r"""Writes the codes of clips one by one; the files appear when the block succeeds.

    Parameters
    ----------
    directory : str or Path
    size : int
        Codewords of a codebook.
    n_levels : int
    routed : bool
        Whether `utt2route` is written.
    clip_coded : bool, default=False
        Whether `utt2clip_codes` is written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with UnitWriter(folder, size=8, n_levels=1, routed=True) as writer:
    ...     writer.write("a", np.array([[5], [5], [2]]), {"specific/sad": 1.0})
    >>> Path(folder, "pseudo_labels_km8.txt").read_text()
    'a 5 5 2\n'
    >>> Path(folder, "utt2route").read_text()
    'a sad\n'
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        size: int,
        n_levels: int,
        routed: bool,
        clip_coded: bool = False,
    ):
        self.directory = Path(directory)
        self.size = size
        self.n_levels = n_levels
        self.routed = routed
        self.clip_coded = clip_coded
        self._stack = contextlib.ExitStack()
        self._places: dict[str, str] = {}
        self._routes: dict[str, str] = {}
        self._clip_codes: dict[str, str] = {}

    def __enter__(self) -> Self:
        def opened(name: str, mode: str = "w"):
            return self._stack.enter_context(atomic_write(self.directory / name, mode))

        self._ark = opened(CODES, "wb")
        names = [
            pseudo_label_file(self.size, level, self.n_levels)
            for level in range(self.n_levels)
        ]
        self._labels = [opened(name) for name in names]
        return self

    def write(
        self,
        utterance: str,
        codes: np.ndarray,
        route: Route,
        clip_codes: np.ndarray | None = None,
    ) -> None:
        """Write one clip.

        Parameters
        ----------
        utterance : str
        codes : (T, M * L) integer array
            (T, 0) where only clip codes are sent.
        route : mapping of M experts to weights
            With a soft route (M = 2) the labels are those of the heavier expert.
        clip_codes : (N, C) integer array, optional
            A row for each window.
        """
        codes = codes.astype(np.int16 if self.size <= 2**15 else np.int32)
        self._places[utterance] = (
            f"{CODES}:{self._ark.tell() + len(utterance.encode()) + 1}"
        )
        kaldiio.save_ark(self._ark, {utterance: codes}, write_function="numpy")
        for level, stream in enumerate(self._labels):
            stream.write(f"{utterance} {' '.join(map(str, codes[:, level]))}\n")
        self._routes[utterance] = format_route(route)
        if self.clip_coded:
            rows = (" ".join(map(str, row)) for row in clip_codes.tolist())
            self._clip_codes[utterance] = f" {WINDOW} ".join(rows)

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None:
            places = {
                u: f"{self.directory / place}" for u, place in self._places.items()
            }
            write_table(self.directory / SCP, places)
            if self.routed:
                write_table(self.directory / ROUTES, self._routes)
            if self.clip_coded:
                write_table(self.directory / CLIP_CODES, self._clip_codes)


def format_route(route: Route) -> str:
    """Write a route for `utt2route`: ``sad``, or ``angry=0.7 sad=0.3`` when mixed."""
    if len(route) == 1:
        return member(next(iter(route)))
    return " ".join(f"{member(e)}={w:.6g}" for e, w in route.items())


def parse_route(text: str, experts: Mapping[str, str]) -> Route:
    """Read a route of `utt2route`.

    Parameters
    ----------
    text : str
    experts : mapping of str to str
        Full name by member: ``{"sad": "specific/sad"}``.

    Raises
    ------
    ValueError
        For an unknown expert, a weight that is no number or weights that are no shares.
    """
    route = {}
    for item in text.split():
        name, _, weight = item.partition("=")
        if name not in experts:
            raise ValueError(f"route '{name}' is unknown, expected one of {[*experts]}")
        try:
            route[experts[name]] = float(weight or 1.0)
        except ValueError as error:
            raise ValueError(f"route weight '{weight}' is not a number") from error
    if not route:
        raise ValueError("empty route")
    total = sum(route.values())
    if min(route.values()) < 0 or not math.isclose(total, 1.0, abs_tol=1e-4):
        raise ValueError(f"route weights in '{text}' are not shares that sum to 1")
    return route


def parse_clip_codes(text: str, sizes: Sequence[int]) -> np.ndarray:
    """Read the clip codes of a clip, a line of `utt2clip_codes`.

    Parameters
    ----------
    text : str
    sizes : sequence of C int
        Alphabet of each symbol.

    Returns
    -------
    codes : (N, C) int64 array

    Raises
    ------
    ValueError
        For another number of symbols, or one outside its alphabet.
    """
    rows = [window.split() for window in text.split(WINDOW)]
    for row in rows:
        if len(row) != len(sizes):
            raise ValueError(
                f"clip code '{' '.join(row)}' has {len(row)} symbols, expected "
                f"{len(sizes)}"
            )
        for symbol, size in zip(row, sizes):
            if not (symbol.isascii() and symbol.isdigit()) or int(symbol) >= size:
                raise ValueError(
                    f"clip code '{' '.join(row)}': found {symbol}, expected 0 to "
                    f"{size - 1}"
                )
    return np.array(rows, dtype=np.int64)


class UnitStore(Mapping[str, np.ndarray]):
    """Units of one system at one rate, as stage 5 wrote them.

    Parameters
    ----------
    directory : str or Path
        Holds `codes.scp`, `codes.ark`, `units.json`, and `utt2route` where routed.

    Attributes
    ----------
    card : dict
        `units.json`: rate, system, experts, n_levels, codebooks_sha256, frame_rate_hz.
    bitrate : dict
        `bitrate.json`, bits/s.
    seconds : float or None
        Speech that the bitrates are of.
    routes : dict of str to Route
    clip_codes : dict of str to (N, C) int64 array
        Empty without a clip code.

    Raises
    ------
    ValueError
        For damaged files, with file and utterance.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        if not (self.directory / CARD).exists():
            raise FileNotFoundError(
                f"{self.directory / CARD} is missing: run stage 5 for it"
            )
        self.card = _read_object(self.directory / CARD, CARD_TYPES)
        check_types(self.card, CLIP_TYPES, self.directory / CARD)
        framed = self.card["n_levels"] >= 1 and self.card["experts"]
        if not framed and "clip_sizes" not in self.card:
            raise ValueError(f"{self.directory / CARD}: no level or no expert")
        self.bitrate = _read_object(self.directory / BITRATE, {})
        self.seconds = self.bitrate.pop("seconds", None)
        self._places = read_places(self.directory / SCP)
        experts = self.card["experts"]
        self.routes = {u: dict.fromkeys(experts[:1], 1.0) for u in self._places}
        if (self.directory / ROUTES).exists():
            named = {member(e): e for e in experts}
            self.routes = self._table(ROUTES, lambda text: parse_route(text, named))
        self.clip_codes: dict[str, np.ndarray] = {}
        if sizes := self.card.get("clip_sizes"):
            self.clip_codes = self._table(
                CLIP_CODES, lambda text: parse_clip_codes(text, sizes)
            )

    def _table[T](self, name: str, parse: Callable[[str], T]) -> dict[str, T]:
        """Read a table of all clips."""
        found = {}
        table = read_table(self.directory / name)
        for number, (utterance, text) in enumerate(table.items(), 1):
            with errors_of(f"{self.directory / name}:{number}"):
                found[utterance] = parse(text)
        if differ := sorted(set(found) ^ set(self._places)):
            raise ValueError(
                f"{self.directory}: utterance '{differ[0]}' is in only one of "
                f"{SCP} and {name} ({len(differ)} such): run stage 5 again"
            )
        return found

    def __getitem__(self, utterance: str) -> np.ndarray:
        """Read the (T, M * L) codes of one utterance."""
        ark, offset = self._places[utterance]
        with open(ark, "rb") as stream:
            try:
                stream.seek(offset)
                if stream.read(len(NPY)) != NPY:
                    raise ValueError(f"no array at byte {offset}")
                stream.seek(offset)
                codes = kaldiio.matio.read_kaldi(stream)
                if not isinstance(codes, np.ndarray) or codes.dtype.kind not in "iu":
                    raise ValueError("no array of whole numbers")
            except Exception as error:  # kaldiio's own depends on where the bytes end
                raise ValueError(
                    f"{ark}: utterance '{utterance}': truncated or garbled ({error}): "
                    "remove the directory and run stage 5 again"
                ) from error
        width = len(self.routes[utterance]) * self.card["n_levels"]
        if codes.ndim != 2 or codes.shape[1] != width:
            raise ValueError(
                f"{ark}: utterance '{utterance}' has codes of shape {codes.shape}, "
                f"expected (T, {width})"
            )
        return codes

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _read_object(path: Path, types: Mapping[str, Any]) -> dict[str, Any]:
    """Read a JSON object that has at least these names, with values of these types."""
    found = read_json(path)
    if not isinstance(found, dict) or not set(types) <= set(found):
        raise ValueError(f"{path}: expected an object with {', '.join(types) or '{}'}")
    check_types(found, types, path)
    return found


def write_cards(
    directory: str | Path, card: dict[str, Any], rates: dict[str, Any]
) -> None:
    """Write `bitrate.json`, then `units.json`, which marks the units as complete."""
    write_json(Path(directory) / BITRATE, rates)
    write_json(Path(directory) / CARD, card)
