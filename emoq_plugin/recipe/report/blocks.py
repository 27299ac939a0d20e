"""Parts that a page is made of: tables, figures, sounds, text; and how numbers look."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from emoq_plugin.recipe.report.content import Triple, as_triple, metric_of
from emoq_plugin.routing.systems import CONTINUOUS

NOTHING = "–"
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text : str
    value : float, optional
        Unrounded, for sorting.
    share : float, optional
        0 to 1: how much of the cell is filled, or how dark it is.
    mark : str
        Class of the style sheet.
    """

    text: str
    value: float | None = None
    share: float | None = None
    mark: str = ""

    @property
    def filled(self) -> str | None:
        """The share as CSS takes it."""
        return None if self.share is None else f"{min(max(self.share, 0), 1):.3f}"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    caption : str
    header : sequence of str
    rows : sequence of sequence of Cell
    style : {"plain", "words", "sortable", "shades", "bars"}, default="plain"
        "words" leaves room for long texts; "shades" and "bars" show shares.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    style: str = "plain"

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Heading of each column, and whether it holds numbers."""
        cells = list(zip(*self.rows)) or [()] * len(self.header)
        return [
            (h, any(c.mark == "number" for c in cs))
            for h, cs in zip(self.header, cells)
        ]


@dataclass(frozen=True)
class Panel:
    """One drawing with its numbers; `svg` was made here and is not escaped again."""

    title: str
    svg: str
    table: Table


@dataclass(frozen=True)
class Figure:
    """Panels side by side, with a caption."""

    kind: ClassVar[str] = "figure"
    caption: str
    panels: Sequence[Panel]
    lead: bool = False


@dataclass(frozen=True)
class Tables:
    """Small tables side by side."""

    kind: ClassVar[str] = "tables"
    caption: str
    tables: Sequence[Table]


@dataclass(frozen=True)
class Text:
    """One paragraph, a list, or code."""

    kind: ClassVar[str] = "text"
    lines: Sequence[str]
    form: str = "paragraphs"  # or "list" or "code"


@dataclass(frozen=True)
class Sound:
    """One recording; `source` is a data URI."""

    label: str
    source: str


@dataclass(frozen=True)
class Sounds:
    """Versions of one clip."""

    kind: ClassVar[str] = "sounds"
    title: str
    sounds: Sequence[Sound]


@dataclass(frozen=True)
class Heading:
    """Heading of a part of a section, such as one experiment."""

    kind: ClassVar[str] = "heading"
    title: str


Block = Table | Figure | Tables | Text | Sounds | Heading


@dataclass
class Section:
    """A part of the page; without blocks it says why it is empty."""

    name: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)
    missing: str = ""


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
    parts = [
        None if triple.get(k) is None else scale * triple[k]
        for k in ("mean", "low", "high")
    ]
    text = number(parts[0], digits, sign=sign) + unit
    if parts[1] is None or parts[2] is None:
        return text
    low, high = (number(p, digits, sign=sign) for p in parts[1:])
    return f"{text} [{low},{SPACE}{high}]"


def interval_cell(
    value: Any, *, scale: float = 1.0, digits: int = 1, sign: bool = False
) -> Cell:
    """Make the cell of a number that may come with an interval."""
    triple = as_triple(value)
    text = spell(triple, scale=scale, digits=digits, sign=sign)
    return Cell(text, None if triple is None else triple["mean"], mark="number")


def metric_cell(value: Any, name: str, *, sign: bool = False) -> Cell:
    """Make the cell of a metric, in percent where the metric is a share."""
    scale, digits = (100, 1) if metric_of(name).percent else (1, 3)
    return interval_cell(value, scale=scale, digits=digits, sign=sign)


def metric_title(name: str) -> str:
    """Name a metric for a column."""
    metric = metric_of(name)
    return metric.label + (" %" if metric.percent else "")


def plain_row(cells: Iterable[Any]) -> list[Cell]:
    """Turn strings into cells and keep cells."""
    return [cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in cells]


def rate_name(rate: str) -> str:
    """Spell a rate as readers write it."""
    return rate if rate == CONTINUOUS else rate.replace("x", "×")
