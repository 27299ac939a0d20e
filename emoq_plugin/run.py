"""Runs a Python module or script with the plug-in registered in ESPnet.

`python -m emoq_plugin.run -m espnet2.bin.asr_train ...` is
`python -m espnet2.bin.asr_train ...` with Emo-Q's frontends, so a stock recipe takes
`--python "python3 -m emoq_plugin.run"` and nothing else.
"""

import runpy
import shlex
import sys

from emoq_plugin import register


def main(arguments: list[str]) -> None:
    """Run ``-m module ...``, ``script.py ...``, ``-c code ...`` or ``-`` (stdin).

    Parameters
    ----------
    arguments : list of str
        As `python` takes them; they become `sys.argv` of what is run.
    """
    kind, rest = (arguments or [""])[0], arguments[1:]
    if kind in ("-m", "-c") and rest:
        name, rest = rest[0], rest[1:]
        sys.argv = [kind if kind == "-c" else name, *rest]
        if kind == "-m":
            # Not alter_sys: spawned workers must import this module again, not `name`.
            runpy.run_module(name, run_name="__main__", alter_sys=False)
        else:
            _execute(name, "<string>")
    elif kind == "-":
        sys.argv = arguments
        _execute(sys.stdin.read(), "<stdin>")
    elif kind and not kind.startswith("-"):
        sys.argv = arguments
        runpy.run_path(kind, run_name="__main__")
    else:
        sys.exit(
            f"{__doc__}\nfound '{shlex.join(arguments)}', expected -m <module>, "
            "<script>, -c <code> or - before the arguments"
        )


def _execute(code: str, name: str) -> None:
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


# At the top level, so that spawned workers, which import this file, register too.
if __name__ in ("__main__", "__mp_main__"):
    try:
        register()
    except ValueError as error:
        sys.exit(f"emoq_plugin.run: {error}")

if __name__ == "__main__":
    main(sys.argv[1:])
