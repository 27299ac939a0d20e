"""Recordings that a command is given: their names, and the bad ones among them."""

import atexit
import gc
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import batched
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from emoq_plugin.data.tree import walk
from emoq_plugin.errors import debugging, explain
from emoq_plugin.options import POSITIONAL
from emoq_plugin.units.text import escape_name

if TYPE_CHECKING:
    from torch import Tensor

    from emoq_plugin.speech.pipeline import SpeechToUnits
    from emoq_plugin.units.clip_units import Units

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff")


@dataclass(frozen=True, kw_only=True)
class RecordingOptions:
    """Recordings that a command is given, and how they are read.

    Attributes
    ----------
    audio
        Files, directories, or - for standard input: one recording, or a list of paths.
    multi_channel
        What is done with several channels.
    one_speaker
        True where all recordings are of one speaker, for a quantizer that removes the
        mean of the speaker.
    device
        Auto is the GPU where there is one.
    model_dir
        Local directory of the encoder's model.
    """

    audio: Annotated[tuple[str, ...], POSITIONAL]
    multi_channel: Literal["error", "first", "mean"] = "error"
    one_speaker: bool = False
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    model_dir: str | None = None


@dataclass(frozen=True, kw_only=True)
class QuantizerOptions(RecordingOptions):
    """The quantizer that recordings are given to.

    Attributes
    ----------
    quantizer
        Artifact directory, one that comes with the package (emoq quantizers), or hub
        name.
    system
        Of a bank: balanced or <expert set>-<router>.
    check
        False takes a quantizer whose golden clip has other features or codes here than
        where it was made.
    """

    quantizer: str
    system: str | None = None
    check: bool = True


def open_speech(
    options: QuantizerOptions, *, n_levels: int | None = None
) -> "SpeechToUnits":
    """Load the quantizer and its encoder, and say in the log which it is."""
    from emoq_plugin.devices import pick_device
    from emoq_plugin.speech.pipeline import SpeechToUnits

    speech = SpeechToUnits.from_pretrained(
        options.quantizer,
        system=options.system,
        n_levels=n_levels,
        device=pick_device(options.device, 1),
        model_dir=options.model_dir,
        check=options.check,
    )
    logging.info("quantizer %s: %s", options.quantizer, speech.quantizer)
    return speech


def find_audio(names: Iterable[str]) -> dict[str, str]:
    """Return the path of each recording by its name in the output.

    Parameters
    ----------
    names : iterable of str
        Files, directories (searched for audio, through links), or ``-``: standard
        input, which holds a recording, then called `stdin`, or a list, one ``<path>``
        or, as in wav.scp, ``<name> <path>`` a line. Paths may hold blanks.

    Raises
    ------
    ValueError
        If a directory holds no audio, two recordings have one name, a name is not
        UTF-8, a line of the list can be read in two ways, or standard input is empty,
        a terminal, or neither audio nor text.
    """
    found: dict[str, str] = {}
    for name, path in _named(names):
        if name in found:
            raise ValueError(
                f"'{found[name]}' and '{path}' are both called '{name}': give a list "
                "of '<name> <path>' on standard input"
            )
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the name of {path!a} is not UTF-8: rename the file, for example by "
                "convmv"
            ) from error
        found[name] = path
    if not found:
        raise ValueError("no audio given")
    return found


def _named(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if name == "-":
            yield from _from_standard_input()
        elif Path(name).is_dir():
            tree = walk(name, SUFFIXES)
            left_out = f"; left out: {text}" if (text := tree.listed()) else ""
            logging.info("%s: %d audio files%s", name, len(tree.files), left_out)
            if not tree.files:
                raise ValueError(f"{name} holds no audio file ({', '.join(SUFFIXES)})")
            for path in tree.files:
                yield path.relative_to(name).with_suffix("").as_posix(), str(path)
        else:
            yield Path(name).stem, name


def _from_standard_input() -> Iterator[tuple[str, str]]:
    """Read a recording or a list; no audio is UTF-8 without a zero byte."""
    if sys.stdin.isatty():
        raise ValueError(
            "- is standard input, a terminal here: pipe a recording into it, as in "
            "`cat a.wav | emoq encode -`, or a list of paths"
        )
    content = sys.stdin.buffer.read()
    if not content.strip():
        raise ValueError(
            "standard input is empty, expected a recording or a list of paths: did the "
            "command before the pipe fail?"
        )
    try:
        text = content.decode()
        is_list = "\0" not in text
    except UnicodeDecodeError:
        is_list = False
    if not is_list:
        path = _kept(content)
        yield path.stem, str(path)
        return
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line := line.strip():
            yield _name_and_path(line, number)


def _kept(content: bytes) -> Path:
    """Write a recording from a pipe to a file, which is there until Python ends."""
    import soundfile

    try:
        soundfile.info(BytesIO(content))
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"standard input is neither audio ({error}) nor a list of paths in UTF-8: "
            "pipe WAV, FLAC, Ogg, MP3 or AIFF into it, or convert the list, for "
            "example by iconv"
        ) from error
    folder = tempfile.mkdtemp(prefix="emoq_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "stdin")
    path.write_bytes(content)
    return path


def _name_and_path(line: str, number: int) -> tuple[str, str]:
    """Return '<name> <path>', or a path with blanks: the one of both that exists."""
    name, *rest = line.split(maxsplit=1)
    if not rest:
        return Path(line).stem, line
    [path] = rest
    if not isfile(line):
        # No name of a data directory has a slash: a path, though no file.
        return (
            (Path(line).stem, line)
            if "/" in name and not isfile(path)
            else (name, path)
        )
    if isfile(path):
        raise ValueError(
            f"standard input:{number}: '{line}' is a file, and so is '{path}': write "
            "'<name> <path>' in this line"
        )
    return Path(line).stem, line


def warn_escaped(names: Iterable[str]) -> None:
    """Log that names are escaped, if there are any."""
    if changed := [name for name in names if escape_name(name) != name]:
        logging.warning(
            "%d names hold blanks or %%, which are written as in addresses ('%s' as "
            "'%s'); --format jsonl keeps them",
            len(changed), changed[0], escape_name(changed[0]),
        )  # fmt: skip


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
        logged and put into `failed`.
    """
    for batch in batched(paths.items(), size):
        yield from _results(call, dict(batch), failed)


def _results(
    call: Callable[[list[str]], Iterable[Any]], batch: dict[str, str], failed: list[str]
) -> Iterator[tuple[str, Any]]:
    try:
        found = list(call(list(batch.values())))
    except Exception as error:  # whatever a decoder or torch raises
        found = None
        if len(batch) == 1:
            [(name, path)] = batch.items()
            message = explain(error)
            shown = error if message is None or debugging() else None
            logging.error("%s: %s", name, message or repr(error), exc_info=shown)
            failed.append(path)
    if found is not None:
        yield from zip(batch, found, strict=True)
    elif len(batch) > 1:  # find out which
        _free_memory()
        for name, path in batch.items():
            yield from _results(call, {name: path}, failed)


def _free_memory() -> None:
    """Give back what a call that failed has left."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def units_of_each(
    speech: "SpeechToUnits",
    paths: Mapping[str, str],
    options: RecordingOptions,
    *,
    failed: list[str],
) -> "Iterator[tuple[str, Units]]":
    """Encode recordings, some at a time; see `each_as_given`."""
    from emoq_plugin.speech.pipeline import BATCH_FILES

    return each_as_given(
        speech, speech, paths, options, failed=failed, size=BATCH_FILES
    )


def each_as_given(
    call: Callable[..., Iterable[Any]],
    speech: "SpeechToUnits",
    paths: Mapping[str, str],
    options: RecordingOptions,
    *,
    failed: list[str],
    size: int = 1,
) -> Iterator[tuple[str, Any]]:
    """Call with recordings and how they are read; see `each_recording`.

    Of one speaker the mean is taken at once, over all recordings; what cannot be used
    is then in `failed` before the first call.

    Parameters
    ----------
    call : callable
        Called with paths, `multi_channel` and `speaker_mean`.
    """
    channels = {"multi_channel": options.multi_channel}
    mean, usable = None, paths
    if options.one_speaker:
        mean, usable = mean_of_speaker(speech, paths, failed=failed, **channels)
    return each_recording(
        lambda files: call(files, speaker_mean=mean, **channels),
        usable,
        failed=failed,
        size=size,
    )


def mean_of_speaker(
    speech: "SpeechToUnits",
    paths: Mapping[str, str],
    *,
    failed: list[str],
    multi_channel: str,
) -> tuple["Tensor", dict[str, str]]:
    """Return the mean frame of one speaker, and the recordings that can be used."""
    from emoq_plugin.speech.pipeline import mean_frame

    sums = dict(
        each_recording(
            lambda files: [
                speech.frame_sum(f, multi_channel=multi_channel) for f in files
            ],
            paths,
            failed=failed,
        )
    )
    return mean_frame(sums.values()), {name: paths[name] for name in sums}


def check_all_used(failed: list[str], paths: Mapping[str, str]) -> None:
    """Raise a `ValueError` that names the recordings that failed, if there are any."""
    if failed:
        others = ", the others are done" if len(failed) < len(paths) else ""
        raise ValueError(
            f"{len(failed)} of {len(paths)} recordings cannot be used{others}: "
            f"{', '.join(failed)}"
        )
