"""The benchmark of threads: busy processes end, every line is timed."""

import os

import pytest
import soundfile

from benchmarks import threads
from emoq_plugin.files import read_json
from tests.speech.tiny_bank import make_bank
from tests.speech.tiny_models import make_waves


def test_busy_processes_end_with_the_block(monkeypatch):
    started = []
    plain = threads.subprocess.Popen
    monkeypatch.setattr(
        threads.subprocess, "Popen", lambda c: started.append(plain(c)) or started[-1]
    )
    with pytest.raises(KeyError), threads.busy(2):
        assert [process.poll() for process in started] == [None, None]
        raise KeyError
    assert all(process.poll() is not None for process in started)


def test_a_call_is_timed_with_the_environment_of_its_line(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")  # of who measures
    seen = []

    def run(command, env, **_):
        seen.append((command[-1], {k for k in env if k[:4] in ("OMP_", "GOMP")}))

    facts = {"processor": "any", "cores": 2, "torch": "2"}
    monkeypatch.setattr(threads, "machine", lambda options: facts)
    monkeypatch.setattr(threads.subprocess, "run", run)
    monkeypatch.setattr(threads, "busy", threads.contextlib.nullcontext)
    output = tmp_path / "report.json"
    threads.main(["a.wav", "--quantizer", "q", "--output", str(output)])
    assert list(read_json(output)["seconds"]) == list(threads.LINES)
    quantizer = f"--quantizer={os.path.abspath('q')}"
    assert seen[:2] == [("--num_threads=1", set()), (quantizer, set())]
    assert seen[2][1] == {"GOMP_SPINCOUNT"}


def test_the_command_is_the_one_that_users_call(tmp_path):
    make_bank().save_pretrained(tmp_path / "bank")
    soundfile.write(tmp_path / "a.wav", make_waves([8000])[0], 16000)
    more = [f"--quantizer={tmp_path / 'bank'}", "--system=balanced", "--num_threads=1"]
    assert threads.time_encode([str(tmp_path / "a.wav")], more, {}) > 0
