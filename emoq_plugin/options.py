"""How options are read: numbers within bounds, marks for what a type cannot say."""

import argparse
import math
from collections.abc import Callable
from typing import Annotated

# Within `Annotated`: an argument without a name; a switch without a value; values that
# are added to those that were given before; what the parser does not have and the
# command adds, such as options for another program.
POSITIONAL = "positional"
SWITCH = "switch"
REPEATED = "repeated"
PASSED_ON = "passed on"


def str2bool(text: str) -> bool:
    """Read `true` or `false` as ESPnet's options spell them."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the type of a whole number.

    Examples
    --------
    >>> whole(1)("6")
    6
    """

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            bounds = f"of at least {least}" if most is None else f"{least} to {most}"
            raise argparse.ArgumentTypeError(
                f"'{text}', expected a whole number {bounds}"
            )
        return value

    return read


def number(least: float) -> Callable[[str], float]:
    """Return the type of a finite number.

    Examples
    --------
    >>> number(0)("0.5")
    0.5
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(
                f"'{text}', expected a number of at least {least:g}"
            )
        return value

    return read


def optional(kind: Callable[[str], object]) -> Callable[[str], object]:
    """Return a type whose empty value is None: scripts spell an absent option so."""

    def read(text: str) -> object:
        return kind(text) if text else None

    return read


Count = Annotated[int, whole(1)]
Natural = Annotated[int, whole(0)]
Seconds = Annotated[float, number(0)]
