"""Audio files to units, in one of the formats of `units.formats`."""

import contextlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from emoq_plugin.files import atomic_write
from emoq_plugin.options import Count, Natural
from emoq_plugin.pretrained import DEFAULT
from emoq_plugin.speech.recordings import (
    QuantizerOptions,
    check_all_used,
    find_audio,
    open_speech,
    units_of_each,
    warn_escaped,
)
from emoq_plugin.units.clip_tokens import ClipVocabulary
from emoq_plugin.units.formats import (
    Format,
    LineWriter,
    check_output,
    format_name,
    write_npz,
)


@dataclass(frozen=True, kw_only=True)
class EncodeOptions(QuantizerOptions):
    """Which quantizer, which of its units, where to.

    Attributes
    ----------
    n_levels
        Levels of the stream; all when left out.
    format
        Lines of one level (pseudo_labels, cjk), subwords of all levels (bpe), or
        everything (jsonl: one JSON object a line; npz: NumPy arrays).
    level
        Of pseudo_labels and cjk, from 0.
    repeat
        False drops repeated units from pseudo_labels and cjk.
    output
        File; standard output for - or when left out.
    """

    quantizer: str = DEFAULT
    n_levels: Count | None = None
    format: Annotated[Format, format_name] = "pseudo_labels"
    level: Natural = 0
    repeat: bool = True
    output: Path | None = None


def encode(options: EncodeOptions) -> None:
    """Encode a few recordings at a time and write each as soon as it is there.

    Raises
    ------
    ValueError
        For options that do not fit each other, before any work; at the end for
        recordings that could not be used.
    """
    output = None if options.output == Path("-") else options.output
    paths = find_audio(options.audio)
    check_output(output, options.format, paths)
    if options.format in ("pseudo_labels", "cjk", "bpe"):
        warn_escaped(paths)

    speech = open_speech(options, n_levels=options.n_levels)
    quantizer = speech.quantizer
    width = quantizer.n_levels
    if options.level >= width:
        raise ValueError(f"--level {options.level}, expected 0 to {width - 1}")
    code = quantizer.bank.clip_code
    if code is not None and options.format in ("pseudo_labels", "cjk"):
        vocabulary = ClipVocabulary(quantizer.bank.sizes[options.level], code.sizes)
        logging.info(
            "clip tokens of %d symbols come first, numbers %d to %d, behind the units",
            *(len(code.sizes), vocabulary.n_units, len(vocabulary) - 1),
        )
    subwords = None
    if options.format == "bpe":
        quantizer.system.check_frame_codes_alone("--format bpe", "--format jsonl")
        from emoq_plugin.core.artifact import SUBWORDS, local_directory
        from emoq_plugin.units.subwords import read_subwords

        n_units = sum(quantizer.bank.sizes[:width]) * quantizer.system.n_streams
        model = local_directory(options.quantizer) / SUBWORDS
        subwords = read_subwords(model, n_units)
    failed: list[str] = []
    found = units_of_each(speech, paths, options, failed=failed)
    if options.format == "npz":
        write_npz(
            output,
            found,
            experts=quantizer.bank.experts,
            sizes=quantizer.bank.sizes[:width],
            **({} if code is None else {"clip_sizes": code.sizes}),
            frame_rate_hz=speech.encoder.specification.frame_rate_hz,
            codebooks_sha256=quantizer.codebooks_sha256,
        )
    else:
        writer = LineWriter(options.format, options.level, options.repeat, subwords)
        opened = atomic_write(output) if output else contextlib.nullcontext(sys.stdout)
        with opened as stream:
            writer.write(stream, found, quantizer, output)
    check_all_used(failed, paths)
