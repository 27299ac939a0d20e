"""Adds the plug-in's classes to ESPnet's registries as its task modules are imported.

ESPnet has no entry points: a registry is a `ClassChoices` in a task module. They are
found by looking, not by a list: every registry of frontends that a module of
`espnet2.tasks` holds gets `emoq_quantized`, or `emoq_units` where frontends embed
tokens; every registry of tokenizer quantizers gets `emoq`.
"""

import inspect
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

TASKS = "espnet2.tasks"
VERSION = "202611"


def check_version() -> None:
    """Refuse an ESPnet that the plug-in was not made for.

    Raises
    ------
    ValueError
        Naming both versions, or that ESPnet is missing.
    """
    advice = f"pip install 'espnet[train]=={VERSION}'"
    try:
        found = version("espnet")
    except PackageNotFoundError as error:
        raise ValueError(f"ESPnet is not installed: {advice}") from error
    if found.partition(".")[0] != VERSION:
        raise ValueError(
            f"ESPnet {found} is installed, the plug-in is made for {VERSION}: {advice}"
        )


def register() -> None:
    """Register with the task modules that are imported and those that will be.

    A second call changes nothing.

    Raises
    ------
    ValueError
        For another version of ESPnet, or where a registry has another class under one
        of our names.
    """
    check_version()
    if not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{TASKS}.") and module is not None:
            register_module(module)


def registries(module: ModuleType) -> dict[str, Any]:
    """Return registries of a module that take a class of ours, by attribute."""
    from espnet2.asr.frontend.abs_frontend import AbsFrontend
    from espnet2.tok.abs_quantizer import AbsSpeechTokenizerQuantizer
    from espnet2.train.class_choices import ClassChoices

    bases = (AbsFrontend, AbsSpeechTokenizerQuantizer)
    return {
        name: value
        for name, value in list(vars(module).items())
        if isinstance(value, ClassChoices) and value.base_type in bases
    }


def register_module(module: ModuleType) -> None:
    """Register with the registries of one module."""
    for where, choices in registries(module).items():
        name, made = _class_for(choices)
        _add(choices, name, made, where=f"{module.__name__}.{where}")


def embeds_tokens(choices: Any) -> bool:
    """Return whether a registry's frontends are called with a vocabulary size."""
    return any(
        "input_size" in inspect.signature(frontend).parameters
        for frontend in choices.classes.values()
    )


def _class_for(choices: Any) -> tuple[str, type]:
    from espnet2.asr.frontend.abs_frontend import AbsFrontend

    if choices.base_type is not AbsFrontend:
        from emoq_plugin.espnet_adapters.tokenizer_quantizer import TokenizerQuantizer

        return "emoq", TokenizerQuantizer
    if embeds_tokens(choices):
        from emoq_plugin.espnet_adapters.text_units_frontend import TextUnitsFrontend

        return "emoq_units", TextUnitsFrontend
    from emoq_plugin.espnet_adapters.quantized_frontend import NAME, frontend_of

    return NAME, frontend_of(choices)


def _add(choices: Any, name: str, made: type, *, where: str) -> None:
    if not issubclass(made, choices.base_type):
        raise ValueError(
            f"{where}: {made.__name__} is no {choices.base_type.__name__}, which this "
            f"registry needs: the plug-in is made for ESPnet {VERSION}"
        )
    found = choices.classes.get(name)
    if found is None:
        choices.classes[name] = made
    elif not found.__module__.startswith("emoq_plugin."):
        raise ValueError(
            f"{where} has another class under the name '{name}': {found}. The plug-in "
            "does not replace it; rename that one"
        )


class _Loader(SourceFileLoader):
    """Registers with a task module as soon as it is executed."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        register_module(module)


class _Watcher(MetaPathFinder):
    """Finds ESPnet's task modules as Python does, with our loader."""

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{TASKS}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
