"""Imported by Python at its start when this directory is in PYTHONPATH."""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

HERE = Path(__file__).parent


def register() -> None:
    """Register with ESPnet if EMOQ_AUTOREGISTER is 1; a fault is only reported."""
    if os.environ.get("EMOQ_AUTOREGISTER") != "1":
        return
    try:
        import emoq_plugin

        emoq_plugin.register()
    except (ImportError, ValueError) as error:
        print(f"EMOQ_AUTOREGISTER: {error}", file=sys.stderr)


def run_hidden() -> None:
    """Run the `sitecustomize` that this one hides, if there is one."""
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    register()
    run_hidden()
