"""`emoq <verb>`: the same as `python -m emoq_plugin.bin.<verb>`."""

import ast
import difflib
import importlib
import pkgutil
import sys
from pathlib import Path

import emoq_plugin
from emoq_plugin import bin as commands
from emoq_plugin.bin._command import readers_may_leave

# What users call themselves; the stages of a recipe call the others.
FOR_USERS = ("encode", "predict", "quantizers", "learn", "transcribe", "export")
FOR_USERS += (
    "import_kmeans",
    "pack",
    "data_from_csv",
    "validate_data_dir",
    "asr2_units",
    "asr2_wer",
    "synthesis_units",
    "clip_tokens",
    "score_tokens",
    "compare",
)
FOR_USERS += ("completion",)


def verbs() -> list[str]:
    """Return the names of all commands."""
    names = (module.name for module in pkgutil.iter_modules(commands.__path__))
    return sorted(n for n in names if not n.startswith("_") and n != "main")


def usage() -> str:
    """Return a list of all verbs, those of users first."""
    lines = ["usage: emoq <verb> [options]; emoq <verb> --help; emoq --version"]
    stages = [name for name in verbs() if name not in FOR_USERS]
    for title, names in (("commands", FOR_USERS), ("stages of recipes", stages)):
        lines += ["", f"{title}:"]
        lines += [f"  {spelled(name):18} {summary(name)}" for name in names]
    return "\n".join(lines)


def spelled(verb: str) -> str:
    """Return a verb as users write it."""
    return verb.replace("_", "-")


def summary(verb: str) -> str:
    """Return the first line of a command's docstring, without importing it."""
    source = (Path(commands.__path__[0]) / f"{verb}.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def main(arguments: list[str] | None = None) -> None:
    """Run one command; without a verb, list them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["help"]:  # `emoq help encode`, as git has it
        arguments = [*arguments[1:], "--help"]
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help", "--version"):
        with readers_may_leave():
            version = first == "--version"
            print(f"emoq {emoq_plugin.__version__}" if version else usage())
        sys.exit(0)
    known, used = verbs(), 1
    verb = first.replace("-", "_")
    # `emoq data from-csv` reads better than `emoq data-from-csv`.
    if (two := "_".join(arguments[:2]).replace("-", "_")) in known:
        verb, used = two, 2
    if verb not in known:
        alike = [name for name in known if name.startswith(f"{verb}_")]
        alike += difflib.get_close_matches(verb, known, 1)
        hint = f"did you mean '{spelled(alike[0])}'? " if alike else ""
        print(
            f"emoq: unknown verb '{first}': {hint}`emoq --help` lists all",
            file=sys.stderr,
        )
        sys.exit(2)
    importlib.import_module(f"emoq_plugin.bin.{verb}").main(arguments[used:])


if __name__ == "__main__":
    main()
