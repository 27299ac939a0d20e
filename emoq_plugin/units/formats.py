"""Units of recordings as files: lines of text or JSON, arrays of NumPy."""

import json
import logging
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from emoq_plugin.files import atomic_write, write_table
from emoq_plugin.units.text import escape_name

if TYPE_CHECKING:
    from emoq_plugin.routing.quantizer import RoutedQuantizer
    from emoq_plugin.units.clip_units import Units
    from emoq_plugin.units.subwords import Subwords

Format = Literal["pseudo_labels", "cjk", "bpe", "jsonl", "npz"]
# Beside the arrays of the recordings, what their numbers mean.
MEANING = "emoq"
ROUTES = ".utt2route"  # added to the name of a text file
# What a suffix of a file promises.
SUFFIXES = {".json": "jsonl", ".jsonl": "jsonl", ".npz": "npz"}


def format_name(text: str) -> str:
    """Return the name of a format; JSON lines were called `json`."""
    return "jsonl" if text == "json" else text


def check_output(output: Path | None, form: str, names: Iterable[str]) -> None:
    """Refuse a file that its name promises to be another, or that cannot be.

    Parameters
    ----------
    output : Path or None
        None for standard output.
    form : str
        One of `Format`.
    names : iterable of str
        Of the recordings; NumPy takes some for one another.

    Raises
    ------
    ValueError
        With the option to change.
    """
    suffix = output.suffix.lower() if output else ""
    if form == "npz" and suffix != ".npz":
        raise ValueError("--format npz needs --output <file>.npz")
    if SUFFIXES.get(suffix, form) != form:
        raise ValueError(
            f"--output {output} with --format {form}: give --format "
            f"{SUFFIXES[suffix]}, or another name"
        )
    if form == "npz":
        _check_members(set(names))


def _check_members(names: set[str]) -> None:
    for name in names:
        # Asked for 'a.npy', `numpy.load` gives the array called 'a'.
        if f"{name}.npy" in names:
            fault = f"'{name}' and '{name}.npy' are one name in an npz file"
        elif name.startswith(f"{MEANING}/"):
            fault = f"'{name}': names below '{MEANING}/' are taken in an npz file"
        else:
            continue
        raise ValueError(
            f"{fault}: use --format jsonl, or give a list of '<name> <path>' on "
            "standard input"
        )


@dataclass(frozen=True)
class LineWriter:
    """Writes a line a recording, as soon as it is there.

    Parameters
    ----------
    form : {"pseudo_labels", "cjk", "bpe", "jsonl"}
    level : int, default=0
        Of pseudo_labels and cjk, which hold one.
    repeat : bool, default=True
        False drops units that repeat the one before, from pseudo_labels and cjk.
    subwords : Subwords, optional
        For bpe.
    """

    form: str
    level: int = 0
    repeat: bool = True
    subwords: "Subwords | None" = None

    def write(
        self,
        stream: IO[str],
        found: Iterable[tuple[str, "Units"]],
        quantizer: "RoutedQuantizer",
        output: Path | None,
    ) -> None:
        """Write lines, and beside a file the routes that a line of text does not hold.

        Parameters
        ----------
        stream : text file
        found : iterable of (name, Units)
        quantizer : RoutedQuantizer
        output : Path or None
            Name of the file; None for standard output, which is flushed line by line.
        """
        from emoq_plugin.units.store import format_route  # imports torch

        beside = output and Path(f"{output}{ROUTES}")
        routed = self.form != "jsonl" and len(quantizer.bank.experts) > 1
        if routed:
            self._warn(quantizer, beside)
        routes = {}
        for name, units in found:
            print(self.line(name, units), file=stream, flush=output is None)
            routes[escape_name(name)] = format_route(units.route)
        if beside and routed:
            write_table(beside, routes)
        elif beside:
            beside.unlink(missing_ok=True)  # of units that were here before

    def line(self, name: str, units: "Units") -> str:
        """Return the line of one recording."""
        if self.form == "jsonl":
            return json.dumps({"name": name, **units.as_dict()}, ensure_ascii=False)
        word = escape_name(name)
        if self.subwords:
            from emoq_plugin.units.subwords import unit_text  # imports torch

            text = unit_text(units.codes, units.sizes * len(units.route))
            return f"{word} {' '.join(self.subwords.pieces(text))}"
        if self.form == "cjk":
            return f"{word} {units.cjk(self.level, repeat=self.repeat)}"
        ids = units.stream(self.level, repeat=self.repeat)
        return f"{word} {' '.join(map(str, ids))}"

    def _warn(self, quantizer: "RoutedQuantizer", beside: Path | None) -> None:
        place = (
            f"is written to {beside}"
            if beside
            else "is left out: --output FILE writes it beside the file, --format jsonl "
            "holds it"
        )
        logging.warning(
            "equal units of %s are different sounds where the experts differ (%s); the "
            "route %s",
            *(self.form, ", ".join(quantizer.bank.experts), place),
        )
        if quantizer.system.n_streams > 1 and self.form != "bpe":
            logging.warning(
                "%s hold only the units of the heavier of two experts: --format jsonl "
                "or npz has both",
                self.form,
            )


def write_npz(
    path: Path,
    found: Iterable[tuple[str, "Units"]],
    *,
    experts: list[str],
    **meaning: Any,
) -> None:
    """Write an array of codes for each recording, then what the codes mean.

    Parameters
    ----------
    path : Path
    found : iterable of (name, Units)
    experts : list of str
        In whose order the routes count.
    **meaning
        Further arrays, below `emoq/` in the file.
    """
    names, routes, clip_codes = [], [], {}
    with atomic_write(path, "wb") as stream, zipfile.ZipFile(stream, "w") as pack:

        def put(name: str, values: Any) -> None:  # savez takes no array called 'file'
            with pack.open(f"{name}.npy", "w", force_zip64=True) as member:
                array = np.asarray(values)
                np.lib.format.write_array(member, array, allow_pickle=False)

        for name, units in found:
            put(name, units.codes)
            names.append(name)
            routes.append(units.route)
            if units.clip_codes is not None:
                clip_codes[name] = units.clip_codes
        if clip_codes:
            # (W, C): those of all windows, recording after recording.
            meaning["clip_codes"] = np.concatenate([*clip_codes.values()])
            meaning["clip_windows"] = [len(codes) for codes in clip_codes.values()]
        meaning |= {
            "experts": experts,
            "names": np.array(names, dtype=str),
            # (N, M): each row in the order of the M blocks of the codes.
            "route": [[experts.index(e) for e in route] for route in routes],
            "weights": [[*route.values()] for route in routes],
        }
        for name, values in meaning.items():
            put(f"{MEANING}/{name}", values)
