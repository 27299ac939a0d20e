"""Encode audio files by a quantizer: units as text, JSON or NumPy arrays."""

import argparse
import logging
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import batched
from pathlib import Path
from typing import Any

from emoq_plugin.bin._command import run_command, str2bool
from emoq_plugin.files import atomic_write

FORMATS = ("pseudo_labels", "cjk", "json", "npz")
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff")


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="encode", description=__doc__)
    add = parser.add_argument
    add("audio", nargs="+", help="files, directories, or - for a list on stdin")
    add("--quantizer", required=True, help="artifact directory or hub name")
    add("--arm", help="of a bank: balanced or <group>-<router>")
    add("--n_levels", type=int, help="levels of the stream; all when left out")
    add("--format", choices=FORMATS, default="pseudo_labels")
    add("--level", type=int, default=0, help="of pseudo_labels and cjk, from 0")
    add("--repeat", type=str2bool, default=True, help="false drops repeated units")
    add("--output", type=Path, help="file; standard output when left out (not npz)")
    add("--multi_channel", default="error", choices=["error", "first", "mean"])
    add("--one_speaker", type=str2bool, default=False, help="all files are of one")
    add("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    add("--model_dir", help="local directory of the encoder's model")
    return parser


def find_audio(names: Iterable[str]) -> dict[str, str]:
    """Give the path of each recording by its name in the output.

    Parameters
    ----------
    names : iterable of str
        Files, directories (searched for audio), or ``-``: paths on standard input,
        one a line, or ``<name> <path>`` as in wav.scp.

    Raises
    ------
    ValueError
        If a directory holds no audio, or two recordings have one name.
    """
    found: dict[str, str] = {}
    for name, path in _walk(names):
        if name in found:
            raise ValueError(
                f"'{found[name]}' and '{path}' are both called '{name}': give a list "
                "of '<name> <path>' on standard input"
            )
        found[name] = path
    if not found:
        raise ValueError("no audio given")
    return found


def _walk(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if name == "-":
            for line in filter(None, map(str.strip, sys.stdin)):
                key, _, path = line.partition(" ")
                yield (key, path) if path else (Path(key).stem, key)
        elif Path(name).is_dir():
            inside = (p for p in Path(name).rglob("*") if p.suffix.lower() in SUFFIXES)
            files = sorted(inside)
            if not files:
                raise ValueError(f"{name} holds no audio file ({', '.join(SUFFIXES)})")
            for path in files:
                yield path.relative_to(name).with_suffix("").as_posix(), str(path)
        else:
            yield Path(name).stem, name


def each_recording(
    call: Callable[[list[str]], Iterable[Any]],
    paths: Mapping[str, str],
    *,
    failed: list[str],
    size: int = 1,
) -> Iterator[tuple[str, Any]]:
    """Call with `size` paths at a time; one that fails does not stop the others.

    Yields
    ------
    name, result
        Of the recordings that can be used, in their order; the paths of the others are
        told and put into `failed`.
    """

    def results(batch: dict[str, str]) -> Iterator[tuple[str, Any]]:
        try:
            yield from list(zip(batch, call(list(batch.values()))))
        except (ValueError, OSError) as error:
            if len(batch) == 1:
                [(name, path)] = batch.items()
                logging.error("%s: %s", name, error)
                failed.append(path)
            else:  # find out which
                for item in batch.items():
                    yield from results(dict([item]))

    for batch in batched(paths.items(), size):
        yield from results(dict(batch))


def check_all_used(failed: list[str], paths: Mapping[str, str]) -> None:
    """Raise a `ValueError` that names the recordings that failed, if there are any."""
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(paths)} recordings cannot be used, the others are "
            f"done: {', '.join(failed)}"
        )


def _line(name: str, units: Any, options: argparse.Namespace) -> str:
    from emoq_plugin.units.text import deduplicate

    if options.format == "json":
        return f'{{"name": {_quoted(name)}, {units.to_json()[1:]}'
    if options.format == "cjk":
        return f"{name} {units.cjk(options.level, repeat=options.repeat)}"
    codes = units.codes[:, options.level]
    codes = codes if options.repeat else deduplicate(codes)
    return f"{name} {' '.join(map(str, codes))}"


def _quoted(name: str) -> str:
    import json

    return json.dumps(name, ensure_ascii=False)


def work(options: argparse.Namespace) -> None:
    """Encode a few at a time and write each as soon as it is there."""
    if options.format == "npz" and options.output is None:
        raise ValueError("--format npz needs --output <file>.npz")
    paths = find_audio(options.audio)

    import emoq_plugin
    from emoq_plugin.devices import pick_device
    from emoq_plugin.speech.pipeline import BATCH_FILES, SpeechToUnits

    quantizer = emoq_plugin.load(
        options.quantizer, arm=options.arm, n_levels=options.n_levels
    )
    width = quantizer.n_levels
    if not 0 <= options.level < width:
        raise ValueError(f"--level {options.level}, expected 0 to {width - 1}")
    device = pick_device(options.device, 1)
    speech = SpeechToUnits(quantizer, device=device, model_dir=options.model_dir)
    channels = {"multi_channel": options.multi_channel}
    mean = None
    if options.one_speaker:
        mean = speech.speaker_mean(paths.values(), **channels)
    failed: list[str] = []
    found = each_recording(
        lambda files: speech(files, speaker_mean=mean, **channels),
        paths,
        failed=failed,
        size=BATCH_FILES,
    )
    if options.format == "npz":
        _write_npz(options.output, found)
    elif options.output:
        with atomic_write(options.output) as stream:
            stream.writelines(f"{_line(name, u, options)}\n" for name, u in found)
    else:
        for name, units in found:
            print(_line(name, units, options), flush=True)
    check_all_used(failed, paths)


def _write_npz(path: Path, found: Iterable[tuple[str, Any]]) -> None:
    import numpy as np

    with atomic_write(path, "wb") as stream, zipfile.ZipFile(stream, "w") as pack:
        for name, units in found:  # savez takes no recording called 'file'
            with pack.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, units.codes, allow_pickle=False)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
