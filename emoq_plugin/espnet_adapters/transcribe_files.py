"""Audio files to text, by a trained asr2 model of ESPnet that reads our units."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from emoq_plugin.speech.recordings import (
    RecordingOptions,
    check_all_used,
    each_as_given,
    find_audio,
    warn_escaped,
)
from emoq_plugin.units.formats import format_name
from emoq_plugin.units.text import escape_name

if TYPE_CHECKING:
    from emoq_plugin.espnet_adapters.transcribe import Transcription


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions(RecordingOptions):
    """Which model, how it decodes, what is printed.

    Attributes
    ----------
    asr
        Directory asr_... of asr2.sh, or a packed model.
    format
        Text, or jsonl: one JSON object a line, with the units.
    inference_config
        Decoding options, as for asr2.sh.
    inference_asr_model
        Checkpoint; valid.acc.ave.pth when there is one.
    """

    asr: Path
    format: Annotated[Literal["text", "jsonl"], format_name] = "text"
    inference_config: Path | None = None
    inference_asr_model: str | None = None


def transcribe(options: TranscribeOptions) -> None:
    """Transcribe one after the other; one that fails does not stop the others.

    Raises
    ------
    ValueError
        At the end, for recordings that could not be used.
    """
    paths = find_audio(options.audio)
    if options.format == "text":
        warn_escaped(paths)

    from emoq_plugin.devices import pick_device
    from emoq_plugin.espnet_adapters.transcribe import Transcriber

    transcriber = Transcriber.from_pretrained(
        options.asr,
        device=pick_device(options.device, 1),
        model_file=options.inference_asr_model,
        inference_config=options.inference_config,
        model_dir=options.model_dir,
    )
    logging.getLogger("espnet2").setLevel(logging.WARNING)  # ten lines a recording
    failed: list[str] = []
    found = each_as_given(
        transcriber, transcriber.speech, paths, options, failed=failed
    )
    for name, transcription in found:
        print(_line(name, transcription, options.format), flush=True)
    check_all_used(failed, paths)


def _line(name: str, found: "Transcription", form: str) -> str:
    if form == "text":
        return f"{escape_name(name)} {found.text}"
    values = {"name": name, "text": found.text, **found.units.as_dict()}
    return json.dumps(values, ensure_ascii=False)
