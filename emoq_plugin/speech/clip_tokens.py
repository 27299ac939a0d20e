"""Clip codes of recordings as tokens in front of the units of another tokenizer."""

import logging
from dataclasses import dataclass
from pathlib import Path

from emoq_plugin.files import atomic_write, write_json
from emoq_plugin.options import Count
from emoq_plugin.speech.recordings import (
    QuantizerOptions,
    check_all_used,
    find_audio,
    open_speech,
    units_of_each,
)
from emoq_plugin.units.clip_tokens import (
    ClipVocabulary,
    UnitForm,
    check_same_utterances,
    read_unit_lines,
    unit_line,
)
from emoq_plugin.units.text import escape_name

# Beside the output: its vocabulary, where it comes from, seconds of each recording.
CARD = ".json"


@dataclass(frozen=True, kw_only=True)
class ClipTokensOptions(QuantizerOptions):
    """Which units, which clip code (of a quantizer that has one), where to.

    Attributes
    ----------
    units
        Units of another tokenizer, one utterance a line.
    n_units
        Size of their vocabulary; clip tokens are counted from it on.
    form
        Numbers divided by blanks (pseudo_labels), or one character a unit (cjk).
    join
        True writes clip tokens in front of the units, false clip tokens alone.
    output
        File, of the same form; <output>.json gets vocabulary and durations.
    """

    units: Path
    n_units: Count
    form: UnitForm = "pseudo_labels"
    join: bool = True
    output: Path


def clip_tokens(options: ClipTokensOptions) -> None:
    """Write the tokens of all recordings, in the order of the units.

    Raises
    ------
    ValueError
        For a quantizer without clip code, utterances that only audio or units have,
        what is no unit, and recordings that cannot be used.
    """
    paths = {escape_name(n): path for n, path in find_audio(options.audio).items()}
    if options.output.resolve() == options.units.resolve():
        raise ValueError(f"--output {options.output} is --units, expected another file")
    units = read_unit_lines(options.units, options.form, n_units=options.n_units)
    check_same_utterances(paths, units, options.units)

    speech = open_speech(options)
    code = speech.quantizer.bank.clip_code
    if code is None:
        raise ValueError(
            f"{options.quantizer} has no clip code: learn one with "
            "EmoQuantizer(clip_bits=...), or pack a system such as balanced+clip32"
        )
    vocabulary = ClipVocabulary(options.n_units, code.sizes)
    failed: list[str] = []
    found = dict(units_of_each(speech, paths, options, failed=failed))
    check_all_used(failed, paths)
    with atomic_write(options.output) as stream:
        for name, frames in units.items():
            tokens = vocabulary.tokens(found[name].clip_codes)
            if options.join:
                tokens = vocabulary.join(found[name].clip_codes, frames)
            print(name, unit_line(tokens, options.form), file=stream)
    write_json(
        Path(f"{options.output}{CARD}"),
        {
            "n_units": options.n_units,
            "n_tokens": len(vocabulary),
            "clip_sizes": code.sizes,
            "clip_first": vocabulary.first.tolist(),
            "form": options.form,
            "joined": options.join,
            "quantizer": options.quantizer,
            "codebooks_sha256": speech.quantizer.codebooks_sha256,
            "seconds": {name: round(u.seconds, 6) for name, u in found.items()},
        },
    )
    n_codes = sum(len(u.clip_codes) for u in found.values())
    seconds = sum(u.seconds for u in found.values())
    logging.info(
        "%s: %d utterances, %d clip codes of %d tokens and %.4g bits, %.1f bit/s more; "
        "vocabulary of %d, clip tokens from %d on",
        *(options.output, len(found), n_codes, len(code.sizes), code.bits),
        *(code.bits * n_codes / seconds, len(vocabulary), options.n_units),
    )
