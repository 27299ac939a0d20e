"""The wrapper of every command: messages, tracebacks, standard output that ends."""

import argparse
import logging
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from emoq_plugin.bin._command import run_command
from emoq_plugin.bin.main import FOR_USERS, spelled, verbs
from emoq_plugin.errors import DEBUG, explain
from emoq_plugin.files import read_json
from emoq_plugin.progress import progress

TOO_MUCH = 2**60  # bytes


@pytest.fixture(autouse=True)
def no_debug(monkeypatch):
    """Let no test leave the flag behind."""
    monkeypatch.setenv(DEBUG, "")


def parser():
    return argparse.ArgumentParser(prog="tested")


def call(work, *arguments):
    run_command(parser, work, arguments)


def refuse(_=None):
    raise ValueError("x.csv:3: no such emotion: use another")


def deep(_=None):
    read_json(__file__)


def missing(_=None):
    Path("/no/such/file").read_text()


def memory(_=None):
    np.empty(TOO_MUCH, dtype=np.uint8)


def torch_memory(_=None):
    torch.empty(TOO_MUCH, dtype=torch.uint8)


def absent_package(_=None):
    import no_such_package_at_all  # noqa: F401


def bad_pickle(_=None):
    pickle.loads(b"version https://git-lfs")


def bad_yaml(_=None):
    yaml.safe_load("a: [")


def bad_bytes(_=None):
    b"\xff".decode()


def pooled(_=None):
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(refuse).result()


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (refuse, "x.csv:3: no such emotion: use another"),
        (pooled, "x.csv:3: no such emotion: use another"),
        (deep, "test_command.py:1: not JSON"),
        (missing, "'/no/such/file'"),
        (memory, "memory does not suffice"),
        (torch_memory, "memory does not suffice"),
        (absent_package, "No module named 'no_such_package_at_all'"),
        (bad_pickle, "a file is damaged or of another kind: UnpicklingError"),
        (bad_yaml, "a file is damaged or of another kind: ParserError"),
        (bad_bytes, "a file is damaged or of another kind: UnicodeDecodeError"),
    ],
)
def test_what_the_user_can_mend_is_one_message(caplog, work, message):
    for arguments, shown in ((), False), (("--debug",), True):
        caplog.clear()
        with pytest.raises(SystemExit, match="1"):
            call(work, *arguments)
        [record] = caplog.records
        assert message in record.getMessage()
        assert bool(record.exc_info) == shown


def of_numpy(_):
    np.zeros(2).reshape(3)


def of_a_name(_):
    int("three")


def of_unpacking(_):
    _, _ = [1, 2, 3]


def of_torch(_):
    torch.zeros(2) @ torch.zeros(3)


def broken_import(_):
    from emoq_plugin.bin import no_such_command  # noqa: F401


def child_pipe(_):
    raise BrokenPipeError(32, "of a worker")


@pytest.mark.parametrize(
    "work", [of_numpy, of_a_name, of_unpacking, of_torch, broken_import]
)
def test_a_fault_of_our_own_keeps_its_traceback(work):
    with pytest.raises((ValueError, RuntimeError, ImportError)) as caught:
        call(work)
    assert explain(caught.value) is None


def test_a_broken_pipe_that_is_not_standard_output_is_an_error(caplog):
    with pytest.raises(SystemExit, match="1"):
        call(child_pipe)
    assert "of a worker" in caplog.text


def test_the_flag_is_no_option_of_the_work_but_of_the_processes_that_it_starts():
    seen = []
    call(lambda options: seen.append((vars(options), os.environ[DEBUG])), "--debug")
    assert seen == [({}, "1")]


def test_the_number_of_threads_holds_here_and_in_processes_that_are_started(
    monkeypatch,
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before, seen = torch.get_num_threads(), []
    child = "import torch; print(torch.get_num_threads())"

    def work(options):
        done = subprocess.run([sys.executable, "-c", child], capture_output=True)
        seen.append((vars(options), torch.get_num_threads(), int(done.stdout)))

    try:
        call(work, "--num_threads", "2")
    finally:
        torch.set_num_threads(before)
    assert seen == [({}, 2, 2)]


@pytest.mark.parametrize("verb", verbs())
def test_every_command_has_the_flags_and_one_kind_of_help(capsys, verb):
    with pytest.raises(SystemExit, match="0"):
        import_module(f"emoq_plugin.bin.{verb}").main(["--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: emoq {spelled(verb)} ")
    for flag in ("--debug", "--num_threads", "-q, --quiet", "-v, --verbose"):
        assert flag in text
    if verb in FOR_USERS:  # with an example in a line of its own
        assert re.search(rf"^emoq {spelled(verb).replace('-', '[- ]')}\b", text, re.M)


def talk(_=None):
    logging.debug("detail")
    logging.getLogger("of.a.package").debug("inner life")
    logging.info("news")
    logging.warning("trouble")
    list(progress(range(10), 10, "work"))


@pytest.mark.parametrize(
    ("flag", "heard"),
    [
        ((), {"news", "trouble", "work"}),
        (("-q",), {"trouble"}),
        (("--quiet",), {"trouble"}),
        (("-v",), {"detail", "news", "trouble", "work"}),
    ],
)
def test_how_much_is_logged_is_chosen(flag, heard):
    script = (
        "import argparse, sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from emoq_plugin.bin._command import run_command\n"
        "from tests.bin.test_command import talk\n"
        "run_command(argparse.ArgumentParser, talk, sys.argv[1:])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, root, *flag],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    words = ("detail", "inner life", "news", "trouble", "work")
    assert {word for word in words if word in done.stderr} == heard
    assert ("peak memory" in done.stderr) == ("news" in heard)


def test_the_level_of_a_command_ends_with_it():
    before = logging.getLogger().level
    call(lambda _: None, "-v")
    assert logging.getLogger().level == before


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit, match="2"):
        call(talk, "-q", "-v")
    assert "not allowed with" in capsys.readouterr().err


# --------------------------------------------------------------- standard output

SCRIPT = """
import argparse, sys
from emoq_plugin.bin._command import run_command

def work(options):
    for n in range(100000):
        print(n, "x" * 60, flush={flush})

run_command(argparse.ArgumentParser, work, [])
"""


@pytest.mark.parametrize("flush", [True, False])
def test_a_reader_that_leaves_ends_the_command_in_silence(flush):
    script = SCRIPT.format(flush=flush)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().startswith(b"0 ")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize("arguments", [["encode", "--help"], []])
def test_help_that_nobody_reads_is_silent(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "emoq_plugin.bin.main", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_message():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(flush=False)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
