"""A python for `--python` that starts warm: commands are forks of one loaded process.

Importing torch anew for each stage is most of the time that a small recipe takes.
The client below hands its arguments, directory, environment and output to the server.
A command joins the client's process group, so that killing the group ends it too.
The variable TEST_FAULT makes it fail: `replace:3` kills it where it would give the
third file its name, `unlink:3` where it would remove the third, `cut:100` where a file
would grow beyond 100 bytes; `size:100` lets none grow further, as a full disk does;
`rest:3` makes it sleep for a second before the third file has its name.
"""

import contextlib
import itertools
import json
import os
import resource
import runpy
import signal
import socket
import sys
import threading
import time
from pathlib import Path

CLIENT = """#!{python} -SE
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
call = [sys.argv[1:], os.getcwd(), dict(os.environ), os.getpgrp()]
call = json.dumps(call).encode()
socket.send_fds(line, [len(call).to_bytes(8, "big")], [1, 2])
line.sendall(call)
sys.exit(int(line.recv(8) or b"1"))
"""


def serve(folder: Path) -> None:
    """Write the client `<folder>/python` and answer it until killed."""
    import sklearn.linear_model  # noqa: F401
    import torch

    torch.set_num_threads(1)
    import emoq_plugin.evaluation.emotion_probe  # noqa: F401
    import emoq_plugin.learning.fit_bank  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "socket"))
    server.listen()
    client = folder / "python.part"
    text = CLIENT.format(python=sys.executable, address=str(folder / "socket"))
    client.write_text(text)
    client.chmod(0o755)
    client.rename(folder / "python")
    while True:
        line, _ = server.accept()
        # A process of its own answers, so that jobs run beside each other.
        if os.fork() == 0:
            _answer(line)
        line.close()


def _answer(line: socket.socket) -> None:
    head, outputs, _, _ = socket.recv_fds(line, 8, 2)
    size = int.from_bytes(head, "big")
    call = b""
    while len(call) < size:
        call += line.recv(size - len(call))
    arguments, directory, environment, group = json.loads(call)
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, group)
        except PermissionError:
            os._exit(1)  # killed already
        for number, output in zip((1, 2), outputs):
            os.dup2(output, number)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        _provoke(os.environ.pop("TEST_FAULT", ""))
        code = 0
        try:
            _run(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(arguments: list[str]) -> None:
    """Do what `python -m <module> ...` or `python <script> ...` does."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        # Absolute: processes that it spawns begin in the server's directory.
        sys.argv = [os.path.abspath(arguments[0]), *arguments[1:]]
        sys.path.insert(0, os.path.dirname(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")


def _provoke(fault: str) -> None:
    kind, _, number = fault.partition(":")
    if kind in ("size", "cut"):
        if kind == "cut":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
    elif kind:
        name = "replace" if kind == "rest" else kind
        count, act = itertools.count(1), getattr(os, name)

        def failing(*names, **options):
            if next(count) == int(number):
                if kind == "rest":
                    time.sleep(1)
                else:
                    os.kill(os.getpid(), signal.SIGKILL)
            act(*names, **options)

        setattr(os, name, failing)


if __name__ == "__main__":
    # Ends with the test session, whose end closes the standard input.
    threading.Thread(
        target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True
    ).start()
    serve(Path(sys.argv[1]))
