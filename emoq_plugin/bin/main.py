"""`emoq <verb>`: the same as `python -m emoq_plugin.bin.<verb>`."""

import importlib
import pkgutil
import sys

from emoq_plugin import bin as commands
from emoq_plugin.bin._command import readers_may_leave


def verbs() -> list[str]:
    """Return the names of all commands."""
    names = (module.name for module in pkgutil.iter_modules(commands.__path__))
    return sorted(n for n in names if not n.startswith("_") and n != "main")


def main(arguments: list[str] | None = None) -> None:
    """Run one command; without a verb, list them."""
    arguments = sys.argv[1:] if arguments is None else arguments
    known, used = verbs(), 1
    verb = arguments[0].replace("-", "_") if arguments else ""
    # `emoq data from-csv` reads better than `emoq data_from_csv`.
    if (two := "_".join(arguments[:2]).replace("-", "_")) in known:
        verb, used = two, 2
    if verb not in known:
        with readers_may_leave():
            print("Usage: emoq <verb> [options]; emoq <verb> --help\n\nverbs:")
            for name in known:
                module = importlib.import_module(f"emoq_plugin.bin.{name}")
                print(f"  {name:18} {(module.__doc__ or '').splitlines()[0]}")
        helped = verb in ("", "__help", "_h")
        sys.exit(0 if helped else f"\nunknown verb '{arguments[0]}'")
    importlib.import_module(f"emoq_plugin.bin.{verb}").main(arguments[used:])


if __name__ == "__main__":
    main()
