"""What a start imports: nothing that the work does not need."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.speech.tiny_bank import RATE, make_bank

# Each takes half a second or more.
HEAVY = {
    "espnet2",
    "joblib",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "transformers",
}

SCRIPT = """
import sys
from emoq_plugin.bin.main import main
main({arguments!r})
print(*{{name.partition(".")[0] for name in sys.modules}}, file=sys.stderr)
"""


def imported(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout, set(done.stderr.splitlines()[-1].split())


def test_the_package_itself_imports_nothing():
    names = "{name.partition('.')[0] for name in sys.modules}"
    _, found = imported(f"import emoq_plugin, sys; print(*{names}, file=sys.stderr)")
    assert "emoq_plugin" in found
    assert not found & (HEAVY | {"numpy", "torch"})


@pytest.mark.parametrize("form", ["pseudo_labels", "jsonl"])
def test_units_of_a_recording_need_no_heavy_package(tmp_path, form):
    make_bank().save_pretrained(tmp_path)
    noise = np.random.default_rng(0).normal(size=RATE) / 8
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    arguments = ["encode", str(tmp_path / "a.wav"), "--format", form]
    arguments += ["--quantizer", str(tmp_path)]
    arguments += ["--system", "specific-distortion"]
    printed, found = imported(SCRIPT.format(arguments=arguments))
    assert len(printed.splitlines()) == 1 and "torch" in found
    assert not found & HEAVY


@pytest.mark.parametrize(
    "verb", ["encode", "learn", "transcribe", "asr2-units", "pack"]
)
def test_help_does_not_wait_for_torch(verb):
    script = f"""
import sys
from emoq_plugin.bin.main import main
try:
    main([{verb!r}, "--help"])
except SystemExit:
    print(*{{name.partition(".")[0] for name in sys.modules}}, file=sys.stderr)
"""
    printed, found = imported(script)
    assert printed.startswith(f"usage: emoq {verb}")
    assert not found & (HEAVY | {"torch"})
