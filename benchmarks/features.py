"""Stage 3 with Whisper: the 30-s window, `window: clip`, bfloat16, plain transformers.

python -m benchmarks.features --model_dir whisper_base --data_dir dump/raw/all

Each line encodes the same clips in a process of its own, with the model loaded and
warmed up before the clock runs. Ratios are of CPU seconds: other work on the machine
hardly moves them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, machine
from emoq_plugin.devices import has_bfloat16
from emoq_plugin.files import read_json, read_table, write_json

Encode = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
# Before `window: clip`, stage 3 computed all blocks of the 30-s window.
BEFORE = "30-s window, all blocks"


def plain(options: argparse.Namespace) -> Encode:
    """Encode by transformers, a clip at a time."""
    import torch
    from transformers import AutoFeatureExtractor, WhisperModel

    model = options.model_dir
    encoder = WhisperModel.from_pretrained(model, dtype=torch.float32).encoder.eval()
    extractor = AutoFeatureExtractor.from_pretrained(model)
    rate = extractor.sampling_rate

    @torch.inference_mode()
    def encode(waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = []
        for wave in waves:
            mel = extractor(wave, sampling_rate=rate, return_tensors="pt")
            out = encoder(mel.input_features, output_hidden_states=True)
            frames = out.hidden_states[options.layer][0]
            found.append(frames[: len(wave) // 320].numpy())
        return found

    return encode


def ours(**conf: object) -> Callable[[argparse.Namespace], Encode]:
    """Return what makes our encoder."""

    def make(options: argparse.Namespace) -> Encode:
        from emoq_plugin.speech.encoders.registry import build_encoder

        given = {"layers": [options.layer]} | conf
        return build_encoder("huggingface", model=options.model_dir, **given)

    return make


LINES: dict[str, Callable[[argparse.Namespace], Encode]] = {
    "transformers, one clip at a time": plain,
    BEFORE: ours(layers=[-1]),
    "30-s window": ours(),
    "window: clip": ours(window="clip"),
    "window: clip, bfloat16": ours(window="clip", precision="bfloat16"),
}


def get_parser() -> argparse.ArgumentParser:
    """Make the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--model_dir", required=True, help="local directory of a Whisper model")
    add("--data_dir", required=True, type=Path, help="formatted set, dump/raw/<set>")
    add("--clips", type=int, default=48, help="evenly from the set; 0: all")
    add("--layer", type=int, default=3)
    add("--threads", type=int, default=1)
    add("--repeats", type=int, default=1)
    add("--output", type=Path, help="JSON file")
    for hidden in ("line", "result"):
        add(f"--{hidden}", help=argparse.SUPPRESS)
    parser.set_defaults(device="cpu", clock="cpu")
    return parser


def read_waves(data_dir: Path, n_clips: int) -> list[np.ndarray]:
    """Read clips at even distances from a set, at 16 kHz."""
    from emoq_plugin.speech.audio import read_audio

    entries = list(read_table(data_dir / "wav.scp").values())
    step = max(1, len(entries) // n_clips) if n_clips else 1
    chosen = entries[::step][: n_clips or None]
    return [read_audio(entry, sample_rate=16000)[0] for entry in chosen]


def time_line(options: argparse.Namespace) -> dict:
    """Time one line in this process."""
    import torch

    torch.set_num_threads(options.threads)
    waves = read_waves(options.data_dir, options.clips)
    encode, times = LINES[options.line](options), []
    encode(waves[:2])
    cpu = []
    for _ in range(options.repeats):
        start, used = time.perf_counter(), time.process_time()
        encode(waves)
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {
        "seconds": statistics.median(times),
        "cpu_seconds": statistics.median(cpu),
        "repeats": times,
        "clips": len(waves),
        "audio_seconds": sum(map(len, waves)) / 16000,
    }


def time_apart(line: str, arguments: Sequence[str], threads: int) -> dict:
    """Time one line in a process of its own."""
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        more = [f"--line={line}", f"--result={result.name}"]
        subprocess.run(
            [sys.executable, "-m", "benchmarks.features", *arguments, *more],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            cwd=ROOT,
            check=True,
            stderr=subprocess.DEVNULL,
        )
        return read_json(result.name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time all lines and print the table, or one in a process of its own."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = get_parser().parse_args(arguments)
    if options.line:
        write_json(options.result, time_line(options))
        return
    facts = machine(options)
    print(
        f"machine: {facts['processor']}, {facts['cores']} cores, {facts['threads']} "
        f"threads, {facts['cpu_capability']}, torch {facts['torch']}"
    )
    names = [n for n in LINES if "bfloat16" not in n or has_bfloat16()]
    lines: dict[str, dict] = {}
    print(f"{'':34} {'seconds':>9} {'CPU s':>9} {'/ before':>9} {'audio / CPU s':>15}")
    for name in sorted(names, key=lambda name: name != BEFORE):
        lines[name] = line = time_apart(name, arguments, options.threads)
        line["ratio"] = line["cpu_seconds"] / lines[BEFORE]["cpu_seconds"]
        speed = line["audio_seconds"] / line["cpu_seconds"]
        print(
            f"{name:34} {line['seconds']:>9.2f} {line['cpu_seconds']:>9.2f} "
            f"{line['ratio']:>9.3f} {speed:>15.1f}",
            flush=True,
        )
    print(f"{line['clips']} clips, {line['audio_seconds']:.0f} s of audio")
    if options.output:
        write_json(options.output, {"machine": facts, "lines": lines})


if __name__ == "__main__":
    main()
