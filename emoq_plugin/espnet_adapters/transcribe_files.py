"""Transcribe audio files by a trained asr2 model of ESPnet that reads our units."""

import argparse
import json
import logging
from typing import Any

from emoq_plugin.options import str2bool
from emoq_plugin.speech.recordings import (
    check_all_used,
    each_recording,
    escape_name,
    find_audio,
    mean_of_speaker,
    tell_escaped,
)


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="transcribe", description=__doc__)
    add = parser.add_argument
    add("audio", nargs="+", help="files, directories, or - for a list on stdin")
    add("--asr", required=True, help="asr_... directory of asr2.sh, or a packed model")
    add("--format", choices=["text", "json"], default="text")
    add("--inference_config", help="decoding options, as for asr2.sh")
    add("--inference_asr_model", help="checkpoint; valid.acc.ave.pth when there is one")
    add("--multi_channel", default="error", choices=["error", "first", "mean"])
    add("--one_speaker", type=str2bool, default=False, help="all files are of one")
    add("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    add("--model_dir", help="local directory of the encoder's model")
    return parser


def work(options: argparse.Namespace) -> None:
    """Transcribe one after the other; one that fails does not stop the others."""
    paths = find_audio(options.audio)
    if options.format == "text":
        tell_escaped(paths)

    from emoq_plugin.devices import pick_device
    from emoq_plugin.espnet_adapters.transcribe import Transcriber

    transcribe = Transcriber.from_pretrained(
        options.asr,
        device=pick_device(options.device, 1),
        model_file=options.inference_asr_model,
        inference_config=options.inference_config,
        model_dir=options.model_dir,
    )
    logging.getLogger("espnet2").setLevel(logging.WARNING)  # ten lines a recording
    use: dict[str, Any] = {"multi_channel": options.multi_channel}
    failed: list[str] = []
    usable = paths
    if options.one_speaker:
        mean, usable = mean_of_speaker(transcribe.speech, paths, failed=failed, **use)
        use["speaker_mean"] = mean
    found = each_recording(
        lambda files: transcribe(files, **use), usable, failed=failed
    )
    for name, transcription in found:
        print(_line(name, transcription, options.format), flush=True)
    check_all_used(failed, paths)


def _line(name: str, found: Any, format_: str) -> str:
    if format_ == "text":
        return f"{escape_name(name)} {found.text}"
    units = json.loads(found.units.to_json())
    return json.dumps({"name": name, "text": found.text, **units}, ensure_ascii=False)
