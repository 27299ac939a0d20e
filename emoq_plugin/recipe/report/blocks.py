"""Parts that a page is made of: tables, figures, text; and how numbers look."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from emoq_plugin.recipe.report.content import METRICS, Triple, as_triple, metric_of
from emoq_plugin.routing.systems import CONTINUOUS
from emoq_plugin.units.rates import NO_FRAMES

NOTHING = "–"
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Cell:
    """One cell: `value` is the unrounded number, `share` (0 to 1) how dark it is."""

    text: str
    value: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows; `style`: plain, sortable, shades."""

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    style: str = "plain"

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Heading of each column, and whether it holds numbers."""
        cells = list(zip(*self.rows)) or [()] * len(self.header)
        numeric = [any(c.value is not None for c in column) for column in cells]
        return list(zip(self.header, numeric))


@dataclass(frozen=True)
class Tables:
    """Small tables side by side."""

    kind: ClassVar[str] = "tables"
    caption: str
    tables: Sequence[Table]


@dataclass(frozen=True)
class Figure:
    """Drawings (title, SVG) side by side, a legend (label, marker), their numbers."""

    kind: ClassVar[str] = "figure"
    caption: str
    drawings: Sequence[tuple[str, str]]
    legend: Sequence[tuple[str, str]]
    numbers: Table


@dataclass(frozen=True)
class Text:
    """A list, or code."""

    kind: ClassVar[str] = "text"
    lines: Sequence[str]
    code: bool = False


@dataclass(frozen=True)
class Fold:
    """Blocks that are closed until a reader asks for them."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: "Sequence[Block]"


Block = Table | Tables | Figure | Text | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page; one without blocks is left out."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)


# ----------------------------------------------------------------------------- numbers


def number(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """Write a number with a true minus; nothing becomes a dash.

    Examples
    --------
    >>> number(-0.04), number(2.25, sign=True)
    ('0.0', '+2.2')
    """
    if value is None:
        return NOTHING
    # Adding 0.0 after rounding turns a negative zero into a positive one.
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)


def spell(
    triple: Triple | None,
    *,
    scale: float = 1.0,
    digits: int = 1,
    sign: bool = False,
    unit: str = "",
) -> str:
    """Write a number with its interval: ``79.6 [74.0, 83.6]``.

    A line may break before the interval and nowhere else.
    """
    if triple is None:
        return NOTHING
    scaled = {k: None if v is None else scale * v for k, v in triple.items()}
    text = number(scaled["mean"], digits, sign=sign) + unit
    if scaled["low"] is None or scaled["high"] is None:
        return text
    low, high = (number(scaled[k], digits, sign=sign) for k in ("low", "high"))
    return f"{text} [{low},{SPACE}{high}]"


def spell_metric(value: Any, name: str, *, sign: bool = False, unit: str = "") -> str:
    """Write a metric, in percent where it is a share."""
    metric = metric_of(name) or METRICS["js"]
    triple = as_triple(value)
    return spell(triple, scale=metric.scale, digits=metric.digits, sign=sign, unit=unit)


def metric_cell(value: Any, name: str, *, sign: bool = False) -> Cell:
    """Make the cell of a metric, in percent where the metric is a share."""
    triple = as_triple(value)
    return Cell(spell_metric(value, name, sign=sign), triple and triple["mean"])


def number_cell(value: Any, *, scale: float = 1.0, digits: int = 1) -> Cell:
    """Make the cell of a number that may come with an interval."""
    triple = as_triple(value)
    return Cell(spell(triple, scale=scale, digits=digits), triple and triple["mean"])


def row(*cells: Any) -> list[Cell]:
    """Turn strings into cells and keep cells."""
    return [cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in cells]


def listing(
    caption: str, cells: Iterable[dict[str, Any]], style: str = "sortable"
) -> Iterator[Table]:
    """Yield a table whose rows have their headings as keys."""
    found = list(cells)
    if found:
        rows = [row(*entry.values()) for entry in found]
        yield Table(caption, list(found[0]), rows, style)


def shaded(title: str, header: Iterable[str], rows: Iterable[tuple]) -> Table:
    """Make a table of counts or shares whose cells are as dark as their row share."""
    made = []
    for label, values in rows:
        total = sum(values) or 1
        made.append(row(label, *(Cell(f"{v:g}", v, v / total) for v in values)))
    return Table(title, ["", *header], made, style="shades")


def rate_name(rate: str) -> str:
    """Spell a rate as readers write it."""
    if rate == str(NO_FRAMES):
        return "no frame codes"
    return rate if rate == CONTINUOUS else rate.replace("x", "×")
