"""Make docs/api.md from docstrings: python local/api_page.py > docs/api.md."""

import inspect
from importlib import import_module

# What a program of a user may import; everything else may change without a word.
PUBLIC = {
    "Quantizers": (
        "emoq_plugin:EmoQuantizer",
        "emoq_plugin:load",
        "emoq_plugin.routing.quantizer:RoutedQuantizer",
        "emoq_plugin.core.rvq:Quantized",
        "emoq_plugin.core.bank:CodebookBank",
    ),
    "Speech": (
        "emoq_plugin:SpeechToUnits",
        "emoq_plugin.units.clip_units:Units",
        "emoq_plugin.speech.streaming:StreamingEncoder",
        "emoq_plugin.speech.encoders.registry:build_encoder",
        "emoq_plugin.speech.encoders.encoder:Encoder",
    ),
    "ESPnet": (
        "emoq_plugin:register",
        "emoq_plugin.espnet_adapters.transcribe:Transcriber",
    ),
    "Results": (
        "emoq_plugin.evaluation.results:Results",
        "emoq_plugin.recipe.study.submit:submit_missing",
    ),
}
HEAD = """# API

What programs may import, made from docstrings by
`python local/api_page.py > docs/api.md`. `help(name)` has parameters, shapes, errors
and examples of each. How the package is built: [architecture.md](architecture.md); its
commands: `./emoq --help`.
"""


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    for title, names in PUBLIC.items():
        lines += [f"## {title}", ""]
        for place in names:
            module, _, name = place.partition(":")
            lines += [*_described(module, name), ""]
    return "\n".join(lines).rstrip() + "\n"


def _described(module: str, name: str) -> list[str]:
    found = getattr(import_module(module), name)
    lines = [f"### `{module}.{name}`", "", _summary(found), ""]
    if not inspect.isclass(found):
        return [*lines, f"    {name}{_signature(found)}"]
    lines += [f"    {name}{_signature(found.__init__, skip=1)}", ""]
    for method, value in vars(found).items():
        if method.startswith("_") and method != "__call__":
            continue
        plain = getattr(value, "__func__", value)  # of a class method
        if isinstance(value, property):
            lines.append(f"- `.{method}`: {_summary(value)}")
        elif callable(plain) and plain.__doc__:
            shown = "" if method == "__call__" else f".{method}"
            sign = _signature(plain, skip=not isinstance(value, staticmethod))
            lines.append(f"- `{shown}{sign}`: {_summary(plain)}")
    return lines


def _summary(found: object) -> str:
    text = inspect.cleandoc(getattr(found, "__doc__", None) or "")
    return " ".join(text.partition("\n\n")[0].split())


def _signature(found: object, *, skip: int = 0) -> str:
    """Return the parameters with their defaults, types left to `help`."""
    parameters = list(inspect.signature(found).parameters.values())[skip:]
    empty = inspect.Parameter.empty
    plain = [p.replace(annotation=empty) for p in parameters]
    return str(inspect.Signature(plain))


if __name__ == "__main__":
    print(page(), end="")
