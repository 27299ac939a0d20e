"""Encode audio files by a quantizer: units as text, JSON or NumPy arrays."""

import argparse
import contextlib
import logging
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoq_plugin.files import atomic_write, write_table
from emoq_plugin.options import str2bool
from emoq_plugin.speech.recordings import (
    check_all_used,
    each_recording,
    escape_name,
    find_audio,
    mean_of_speaker,
    tell_escaped,
)

if TYPE_CHECKING:
    from emoq_plugin.routing.quantizer import RoutedQuantizer
    from emoq_plugin.units.clip_units import Units

FORMATS = ("pseudo_labels", "cjk", "json", "npz")
# Beside the arrays of the recordings, what their numbers mean.
FACTS = "emoq"
ROUTES = ".utt2route"  # added to the name of a text file
# What a suffix of --output promises.
SUFFIXES = {".json": "json", ".jsonl": "json", ".npz": "npz"}


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="encode", description=__doc__)
    add = parser.add_argument
    add("audio", nargs="+", help="files, directories, or - for a list on stdin")
    add("--quantizer", required=True, help="artifact directory or hub name")
    add("--system", help="of a bank: balanced or <expert set>-<router>")
    add("--n_levels", type=int, help="levels of the stream; all when left out")
    add("--format", choices=FORMATS, default="pseudo_labels")
    add("--level", type=int, default=0, help="of pseudo_labels and cjk, from 0")
    add("--repeat", type=str2bool, default=True, help="false drops repeated units")
    add("--output", type=Path, help="file; standard output for - or when left out")
    add("--multi_channel", default="error", choices=["error", "first", "mean"])
    add("--one_speaker", type=str2bool, default=False, help="all files are of one")
    add("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    add("--model_dir", help="local directory of the encoder's model")
    return parser


def work(options: argparse.Namespace) -> None:
    """Encode a few at a time and write each as soon as it is there."""
    if options.output == Path("-"):
        options.output = None
    _check_output(options.output, options.format)
    paths = find_audio(options.audio)
    if options.format == "npz":
        _check_members(paths)
    elif options.format != "json":
        tell_escaped(paths)

    import emoq_plugin
    from emoq_plugin.devices import pick_device
    from emoq_plugin.speech.pipeline import BATCH_FILES, SpeechToUnits

    quantizer = emoq_plugin.load(
        options.quantizer, system=options.system, n_levels=options.n_levels
    )
    width = quantizer.n_levels
    if not 0 <= options.level < width:
        raise ValueError(f"--level {options.level}, expected 0 to {width - 1}")
    device = pick_device(options.device, 1)
    speech = SpeechToUnits(quantizer, device=device, model_dir=options.model_dir)
    channels = {"multi_channel": options.multi_channel}
    failed: list[str] = []
    mean, usable = None, paths
    if options.one_speaker:
        mean, usable = mean_of_speaker(speech, paths, failed=failed, **channels)
    found = each_recording(
        lambda files: speech(files, speaker_mean=mean, **channels),
        usable,
        failed=failed,
        size=BATCH_FILES,
    )
    if options.format == "npz":
        _write_npz(
            options.output,
            found,
            experts=quantizer.bank.experts,
            sizes=quantizer.bank.sizes[:width],
            frame_rate_hz=speech.encoder.card.frame_rate_hz,
            codebooks_sha256=quantizer.codebooks_sha256,
        )
    else:
        _write_lines(found, options, quantizer)
    check_all_used(failed, paths)


def _check_output(output: Path | None, form: str) -> None:
    suffix = output.suffix.lower() if output else ""
    if form == "npz" and suffix != ".npz":
        raise ValueError("--format npz needs --output <file>.npz")
    if SUFFIXES.get(suffix, form) != form:
        raise ValueError(
            f"--output {output} with --format {form}: give --format "
            f"{SUFFIXES[suffix]}, or another name"
        )


def _write_lines(
    found: Iterable[tuple[str, "Units"]],
    options: argparse.Namespace,
    quantizer: "RoutedQuantizer",
) -> None:
    """Write a line a recording, and the routes that a line of text does not hold."""
    from emoq_plugin.units.store import format_route

    output, routes = options.output, {}
    beside = output and Path(f"{output}{ROUTES}")
    routed = options.format != "json" and len(quantizer.bank.experts) > 1
    if routed:
        _tell_route(options.format, quantizer, beside)
    with atomic_write(output) if output else contextlib.nullcontext(sys.stdout) as out:
        for name, units in found:
            print(_line(name, units, options), file=out, flush=output is None)
            routes[escape_name(name)] = format_route(units.route)
    if beside and routed:
        write_table(beside, routes)
    elif beside:
        beside.unlink(missing_ok=True)  # of units that stood here before


def _tell_route(form: str, quantizer: "RoutedQuantizer", beside: Path | None) -> None:
    place = f"is written to {beside}" if beside else (
        "is left out: --output FILE writes it beside the file, --format json holds it"
    )  # fmt: skip
    logging.warning(
        "equal units of %s are different sounds where the experts differ (%s); the "
        "route %s",
        form, ", ".join(quantizer.bank.experts), place,
    )  # fmt: skip
    if quantizer.system.router == "soft":
        logging.warning(
            "%s hold only the units of the heavier of two experts: --format json or "
            "npz has both",
            form,
        )


def _line(name: str, units: "Units", options: argparse.Namespace) -> str:
    import json

    from emoq_plugin.units.text import deduplicate

    if options.format == "json":
        return (
            f'{{"name": {json.dumps(name, ensure_ascii=False)}, {units.to_json()[1:]}'
        )
    word = escape_name(name)
    if options.format == "cjk":
        return f"{word} {units.cjk(options.level, repeat=options.repeat)}"
    codes = units.codes[:, options.level]
    codes = codes if options.repeat else deduplicate(codes)
    return f"{word} {' '.join(map(str, codes))}"


# ------------------------------------------------------------------------------- npz


def _check_members(names: Iterable[str]) -> None:
    """Refuse names that NumPy would take for one another."""
    names = set(names)
    for name in names:
        # Asked for 'a.npy', `numpy.load` gives the array called 'a'.
        if f"{name}.npy" in names:
            raise ValueError(
                f"'{name}' and '{name}.npy' cannot be told apart in an npz file: use "
                "--format json, or give a list of '<name> <path>' on standard input"
            )
        if name.startswith(f"{FACTS}/"):
            raise ValueError(
                f"'{name}': names below '{FACTS}/' are taken in an npz file: use "
                "--format json, or give a list of '<name> <path>' on standard input"
            )


def _write_npz(
    path: Path,
    found: Iterable[tuple[str, "Units"]],
    *,
    experts: Sequence[str],
    **facts: Any,
) -> None:
    """Write an array of codes for each recording, then what the codes mean."""
    import numpy as np

    names, routes = [], []
    with atomic_write(path, "wb") as stream, zipfile.ZipFile(stream, "w") as pack:

        def put(name: str, values: Any) -> None:  # savez takes no array called 'file'
            with pack.open(f"{name}.npy", "w", force_zip64=True) as member:
                array = np.asarray(values)
                np.lib.format.write_array(member, array, allow_pickle=False)

        for name, units in found:
            put(name, units.codes)
            names.append(name)
            routes.append(units.route)
        facts |= {
            "experts": experts,
            "names": np.array(names, dtype=str),
            # (N, M): each row in the order of the M blocks of the codes.
            "route": [[experts.index(e) for e in route] for route in routes],
            "weights": [[*route.values()] for route in routes],
        }
        for name, values in facts.items():
            put(f"{FACTS}/{name}", values)
