"""`emoq encode` on a busy machine: how threads wait, and one thread.

python -m benchmarks.threads recordings --quantizer mine

Every line is the command in a process of its own, its start included; busy processes
count without end beside it.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.common import ROOT, machine
from emoq_plugin.files import write_json

FIRST = "one thread, alone"
# What libgomp does where nobody sets a policy.
SPINNING = {"GOMP_SPINCOUNT": "300000"}
SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE"}
# Options, environment, beside busy processes.
LINES: dict[str, tuple[list[str], dict[str, str], bool]] = {
    FIRST: (["--num_threads=1"], {}, False),
    "default, alone": ([], {}, False),
    "spinning, alone": ([], SPINNING, False),
    "sleeping, alone": ([], SLEEPING, False),
    "one thread, beside": (["--num_threads=1"], {}, True),
    "default, beside": ([], {}, True),
    "spinning, beside": ([], SPINNING, True),
    "sleeping, beside": ([], SLEEPING, True),
}


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep processes counting within the block."""
    command = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def time_encode(
    audio: Sequence[str], more: Sequence[str], environment: dict[str, str]
) -> float:
    """Return the seconds of one call of the command."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP"))}
    with tempfile.TemporaryDirectory() as folder:
        output = f"--output={Path(folder) / 'units'}"
        command = [sys.executable, "-m", "emoq_plugin.bin.main", "encode", "--quiet"]
        start = time.perf_counter()
        subprocess.run(
            [*command, *map(os.path.abspath, audio), output, *more],
            env=own | environment,
            cwd=ROOT,
            check=True,
        )
        return time.perf_counter() - start


def get_parser() -> argparse.ArgumentParser:
    """Make the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("audio", nargs="+", help="files or directories")
    add("--quantizer", required=True, type=os.path.abspath)
    add("--busy", type=int, default=2, help="busy processes")
    add("--output", type=Path, help="JSON file")
    parser.set_defaults(
        device="cpu", clock="wall", threads=len(os.sched_getaffinity(0))
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Time all lines, print the table."""
    options = get_parser().parse_args(arguments)
    facts = machine(options)
    print(
        f"machine: {facts['processor']}, {facts['cores']} cores, torch {facts['torch']}"
    )
    print(f"{'':34} {'seconds':>9} {'/ alone with one':>17}")
    seconds: dict[str, float] = {}
    for name, (more, environment, is_beside) in LINES.items():
        given = [f"--quantizer={options.quantizer}", *more]
        with busy(options.busy if is_beside else 0):
            seconds[name] = time_encode(options.audio, given, environment)
        ratio = seconds[name] / seconds[FIRST]
        shown = f"{name} {options.busy} busy" if is_beside else name
        print(f"{shown:34} {seconds[name]:>9.1f} {ratio:>17.2f}", flush=True)
    if options.output:
        write_json(options.output, {"machine": facts, "seconds": seconds})


if __name__ == "__main__":
    main()
