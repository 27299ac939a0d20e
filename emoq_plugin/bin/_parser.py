"""Parsers made from dataclasses of options: each option is said once."""

import argparse
import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from emoq_plugin.bin._command import run_command
from emoq_plugin.options import PASSED_ON, POSITIONAL, REPEATED, SWITCH, str2bool


@dataclasses.dataclass(frozen=True)
class Command:
    """The `main` of a command that only parses.

    Attributes
    ----------
    get_parser : callable
        Makes the parser, without the options that every command has.
    work : callable
        Called with what was parsed.
    passes_on : bool
        See `run_command`.
    """

    get_parser: Callable[[], argparse.ArgumentParser]
    work: Callable[[argparse.Namespace], None]
    passes_on: bool = False

    def __call__(self, arguments: Sequence[str] | None = None) -> None:
        """Run the command."""
        run_command(self.get_parser, self.work, arguments, passes_on=self.passes_on)


def command(
    options: type, work: Callable[[Any], Any], description: str | None
) -> Command:
    """Return the `main` of a command that only parses.

    Parameters
    ----------
    options : type
        A dataclass, see `parser_of`.
    work : callable
        Called with an instance of it; its name is that of the command.
    description : str, optional
        For `--help`; ends with an example.
    """
    passes_on = any(PASSED_ON in _marks(hint) for _, hint, _ in _fields(options))

    def get_parser() -> argparse.ArgumentParser:
        return parser_of(
            options,
            prog=f"emoq {work.__name__.replace('_', '-')}",
            description=description,
            formatter_class=Formatter,
            allow_abbrev=not passes_on,
        )

    return Command(get_parser, lambda parsed: work(made(options, parsed)), passes_on)


def parser_of(options: type, **settings: Any) -> argparse.ArgumentParser:
    """Make a parser from a dataclass of options.

    Names, types and defaults are those of the fields, the help is what the docstring
    says of them under `Attributes`. `Literal` gives choices, a tuple takes several
    values, `bool` is true or false, a class with a method `parse` is read by it, the
    options of a dataclass within are among the others. `Annotated` holds a function
    that reads the text, `POSITIONAL`, `SWITCH`, `REPEATED` or `PASSED_ON`.

    Parameters
    ----------
    options : type
    **settings
        Of `argparse.ArgumentParser`.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Trim:
    ...     '''Options.
    ...
    ...     Attributes
    ...     ----------
    ...     wav
    ...         File to cut.
    ...     seconds
    ...         What is kept.
    ...     '''
    ...
    ...     wav: Path
    ...     seconds: float = 1.0
    >>> made(Trim, parser_of(Trim).parse_args(["--wav", "a.wav"])).seconds
    1.0
    """
    parser = argparse.ArgumentParser(**settings)
    for field, hint, text in _fields(options):
        if PASSED_ON not in _marks(hint):
            _add(parser, field, hint, text)
    return parser


# Keeps the lines of a description, which ends with an example.
Formatter = argparse.RawDescriptionHelpFormatter


def made(options: type, parsed: argparse.Namespace) -> Any:
    """Return the dataclass of parsed options."""
    hints, values = get_type_hints(options), {}
    for field in dataclasses.fields(options):
        kind, name = hints[field.name], field.name
        if dataclasses.is_dataclass(kind) and not hasattr(kind, "parse"):
            values[name] = made(kind, parsed)
        else:
            found = getattr(parsed, name)
            values[name] = tuple(found) if isinstance(found, list) else found
    return options(**values)


def _fields(options: type) -> Iterator[tuple[dataclasses.Field, Any, str]]:
    """Yield each field with its annotation and help, those of dataclasses within."""
    hints, said = get_type_hints(options, include_extras=True), _described(options)
    for field in dataclasses.fields(options):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and not hasattr(kind, "parse"):
            yield from _fields(kind)
        else:
            yield field, kind, said.get(field.name, "")


def _marks(hint: Any) -> tuple[Any, ...]:
    """Return what `Annotated` holds besides the type."""
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _described(options: type) -> dict[str, str]:
    """Return what docstrings say under `Attributes`, of the bases too, as help."""
    found: dict[str, str] = {}
    for kind in reversed(options.__mro__):
        text = inspect.cleandoc(kind.__doc__ or "")
        _, _, section = text.partition("Attributes\n----------\n")
        section = re.split(r"\n\n\w[^\n]*\n---", section)[0]
        for names, lines in re.findall(
            r"^(\w.*)\n((?:(?: .*)?(?:\n|$))*)", section, re.M
        ):
            words = " ".join(lines.split()).removesuffix(".")
            words = words[:1].lower() + words[1:] if words[1:2].islower() else words
            found |= dict.fromkeys(names.partition(" :")[0].split(", "), words)
    return found


def _add(
    parser: argparse.ArgumentParser, field: dataclasses.Field, hint: Any, text: str
) -> None:
    """Add one option."""
    how: dict[str, Any] = {}
    positional = False
    while "type" not in how:
        origin, inner = get_origin(hint), get_args(hint)
        if origin is Annotated:
            marks, hint = _marks(hint), inner[0]
            positional |= POSITIONAL in marks
            if SWITCH in marks:
                how["action"] = "store_true"
            if REPEATED in marks:
                how["action"] = "extend"
            for read in filter(callable, marks):
                how.setdefault("type", _reader(read))
        elif origin in (Union, types.UnionType):
            hint = next(kind for kind in inner if kind is not type(None))
        elif origin is tuple:
            how["nargs"], hint = "+", inner[0]
        elif origin is Literal:
            how["choices"], hint = list(inner), type(inner[0])
        else:
            break
    if get_origin(hint) is Literal:  # beside a function that reads the text
        how["choices"] = list(get_args(hint))
    if how.get("action") != "store_true":
        kind = str2bool if hint is bool else hint
        how.setdefault("type", _reader(getattr(kind, "parse", kind)))
        if hint is bool:
            how["metavar"] = "{true,false}"
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is not dataclasses.MISSING:
        how["default"] = default
        text += _shown(default) if how.get("action") != "store_true" else ""
        if positional:
            how["nargs"] = "*" if "nargs" in how else "?"
        elif default == ():
            how["nargs"] = "*"
            how["default"] = []  # which `extend` can extend
    elif not positional:
        how["required"] = True
    name = field.name if positional else f"--{field.name}"
    parser.add_argument(name, help=text.replace("%", "%%"), **how)


def _reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Keep the message of a ValueError, which argparse would replace by its own."""
    if read in (str, int, float, Path):
        return read

    def wrapped(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return wrapped


def _shown(default: Any) -> str:
    if default is None or default == "" or default == ():
        return ""
    values = default if isinstance(default, tuple) else [default]
    words = " ".join(map(str, values))
    return f"; default: {words.lower() if isinstance(default, bool) else words}"
