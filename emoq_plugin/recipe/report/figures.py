"""Line plots with intervals as SVG whose colours follow the page's light or dark."""

import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import numpy as np
from markupsafe import escape

from emoq_plugin.recipe.report.blocks import (
    Panel,
    Table,
    interval_cell,
    plain_row,
    spell,
)
from emoq_plugin.recipe.report.content import Triple

# Colours are names of the style sheet; in the drawing a colour stands for each, which
# `_themed` replaces. Markers differ too, so that no line rests on its colour alone.
COLOURS = ("s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "ink", "grid")
MARKERS = "osD^vPX*"
_STANDS_FOR = {name: f"#a7{n:02x}5c" for n, name in enumerate(COLOURS)}
# About the width of a telephone, so that letters keep their size there.
WIDTH_INCHES = 4.8
LEGEND_LETTERS = 26  # in a line of one of its two columns
SMALLEST_GAP = 0.16  # between ticks, of the width of the axis
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
}
_numbers = itertools.count()


@dataclass(frozen=True)
class Series:
    """One line: its value by tick, with intervals.

    Attributes
    ----------
    label : str
    points : mapping of float to Triple
        Value by place on the axis, see `Axis`.
    colour : str
        One of `COLOURS`.
    marker, line : str
        As matplotlib names them.
    hollow : bool
        Unfilled markers: the second experiment of two.
    moved : mapping of float to float
        Where points stand that are drawn beside their tick.
    """

    label: str
    points: Mapping[float, Triple]
    colour: str = "s1"
    marker: str = "o"
    line: str = "-"
    hollow: bool = False
    moved: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Axis:
    """Horizontal axis: a label and the name of each tick by its place.

    Lines join ticks of one group; without `groups` they join all.
    """

    label: str
    ticks: Mapping[float, str]
    groups: Mapping[float, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RateAxis:
    """Bits per second on a logarithmic scale; rates too close are moved apart.

    Parameters
    ----------
    bits : mapping of str to float
        Nominal bit/s by rate, from the lowest.
    """

    bits: Mapping[str, float]

    @property
    def places(self) -> dict[str, float]:
        """Place of each rate, 0 to 1."""
        if len(self.bits) < 2:
            return dict.fromkeys(self.bits, 0.5)
        logs = np.log2(list(self.bits.values()))
        places = (logs - logs[0]) / max(logs[-1] - logs[0], 1e-9)
        gap = min(SMALLEST_GAP, 1 / (len(places) - 1))
        for n in range(1, len(places)):
            places[n] = max(places[n], places[n - 1] + gap)
        return dict(zip(self.bits, (places / places[-1]).tolist()))

    def place(self, rate: str, bits: float | None) -> float:
        """Return the place of a cell, which stands elsewhere if its streams are two."""
        base, places = self.bits[rate], self.places
        if bits is None or abs(bits - base) < 0.05 * base or len(self.bits) < 2:
            return places[rate]
        logs, at = np.log2(list(self.bits.values())), np.array(list(places.values()))
        if np.log2(bits) > logs[-1]:  # the scale goes on beyond the last tick
            slope = (at[-1] - at[0]) / max(logs[-1] - logs[0], 1e-9)
            return float(at[-1] + slope * (np.log2(bits) - logs[-1]))
        return float(np.interp(np.log2(bits), logs, at))

    @property
    def axis(self) -> Axis:
        """Ticks: the rate and its bit/s."""
        places = self.places
        names = {
            places[rate]: f"{rate.replace('x', '×')}\n{bits:g}"
            for rate, bits in self.bits.items()
        }
        sizes = {places[rate]: rate.partition("x")[0] for rate in self.bits}
        return Axis("codebook size × levels, bit/s (log scale)", names, sizes)


def line_panel(
    title: str,
    series: Sequence[Series],
    *,
    axis: Axis,
    label: str,
    scale: float = 1.0,
    digits: int = 1,
    bound: tuple[str, Triple | None] = ("", None),
    zero: bool = False,
    limits: tuple[float, float] | None = None,
    height: float = 3.0,
) -> Panel:
    """Draw lines with intervals.

    Parameters
    ----------
    title : str
    series : sequence of Series
    axis : Axis
    label : str
        Of the vertical axis.
    scale, digits
        Numbers are shown times `scale`, with `digits` decimals.
    bound : (str, Triple or None)
        A horizontal line with its interval, such as the continuous features.
    zero : bool, default=False
        Mark zero.
    limits : (float, float), optional
        Of the vertical axis, before scaling.
    height : float, default=3.0
        Inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    name = f"emoq{next(_numbers)}"
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        drawing = Drawing(figsize=(WIDTH_INCHES, height), layout="constrained")
        FigureCanvasSVG(drawing)
        axes = drawing.add_subplot()
        if zero:
            axes.axhline(0, color=_STANDS_FOR["ink"], linewidth=0.8)
        if bound[1] is not None:
            _draw_bound(axes, *bound, scale=scale)
        for n, one in enumerate(series):
            shift = 0.009 * (n - (len(series) - 1) / 2) * _span(axis)
            _draw_series(axes, one, axis, scale=scale, shift=shift)
        if limits:
            axes.set_ylim(scale * limits[0], scale * limits[1])
        _dress(drawing, axes, axis, label)
        stream = StringIO()
        drawing.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    table = _numbers_of(title, series, axis=axis, scale=scale, digits=digits)
    told = _describe(title, series, label, bound, scale=scale, digits=digits)
    return Panel(title, _themed(stream.getvalue(), told), table)


def _span(axis: Axis) -> float:
    return max(axis.ticks) - min(axis.ticks) or 1.0


def _draw_bound(axes: Any, label: str, bound: Triple, *, scale: float) -> None:
    colour = _STANDS_FOR["s0"]
    if bound["low"] is not None and bound["high"] is not None:
        axes.axhspan(
            scale * bound["low"],
            scale * bound["high"],
            color=colour,
            alpha=0.1,
            linewidth=0,
        )
    axes.axhline(
        scale * bound["mean"], color=colour, linewidth=1.2, linestyle=":", label=label
    )


def _draw_series(
    axes: Any, one: Series, axis: Axis, *, scale: float, shift: float
) -> None:
    colour = _STANDS_FOR[one.colour]
    groups: dict[str, list[tuple[float, Triple]]] = {}
    for place, triple in sorted(one.points.items(), key=lambda point: point[0]):
        at = one.moved.get(place, place) + shift
        groups.setdefault(axis.groups.get(place, ""), []).append((at, triple))
    for n, points in enumerate(groups.values()):
        for at, t in points:
            if t["low"] is not None and t["high"] is not None:
                ends = [scale * t["low"], scale * t["high"]]
                axes.plot([at, at], ends, color=colour, linewidth=1.1, alpha=0.6)
        axes.plot(
            [at for at, _ in points],
            [scale * triple["mean"] for _, triple in points],
            color=colour,
            linestyle=one.line,
            linewidth=1.6,
            marker=one.marker,
            markersize=5,
            markerfacecolor="none" if one.hollow else colour,
            label=None if n else textwrap.fill(one.label, LEGEND_LETTERS),
        )


def _dress(drawing: Any, axes: Any, axis: Axis, label: str) -> None:
    ink, grid = _STANDS_FOR["ink"], _STANDS_FOR["grid"]
    many = len(axis.ticks) > 1 / SMALLEST_GAP
    axes.set_xticks(
        list(axis.ticks), list(axis.ticks.values()), rotation=90 if many else 0
    )
    axes.set_xlabel(axis.label, color=ink)
    axes.set_ylabel(label, color=ink)
    axes.grid(axis="y", color=grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=ink, length=3)
    for spine in axes.spines.values():
        spine.set_color(grid)
    if axes.get_legend_handles_labels()[0]:
        drawing.legend(
            loc="outside lower center",
            ncols=2,
            frameon=False,
            labelcolor=ink,
            columnspacing=1.2,
            handlelength=2.2,
            fontsize=10,
        )


def _themed(svg: str, told: str) -> str:
    """Make a drawing part of the page: its colours, its width, its description."""
    svg = svg[svg.index("<svg") :]
    # A style sheet inside a drawing would hold for the whole page.
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    # Strokes and text of these colours follow the style sheet.
    for name, colour in _STANDS_FOR.items():
        svg = svg.replace(colour, f"var(--{name})")
    box = re.search(r'viewBox="[^"]*"', svg)[0]
    opening = f'<svg {box} role="img" aria-label="{escape(told)}">'
    svg = opening + svg[svg.index(">") + 1 :]
    svg = svg.replace("xlink:href", "href")
    referred = set(re.findall(r"#([\w-]+)", svg))
    named = re.compile(r' id="([\w.-]+)"')
    svg = named.sub(lambda m: m[0] if m[1] in referred else "", svg)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL))


def _numbers_of(
    title: str,
    series: Sequence[Series],
    *,
    axis: Axis,
    scale: float,
    digits: int,
) -> Table:
    """Return the numbers of a drawing for those who do not see it."""
    names = [name.replace("\n", ", ") for name in axis.ticks.values()]
    rows = [
        plain_row(
            [one.label]
            + [
                interval_cell(one.points.get(place), scale=scale, digits=digits)
                for place in axis.ticks
            ]
        )
        for one in series
    ]
    return Table(f"Numbers of the figure: {title}", ["", *names], rows)


def _describe(
    title: str,
    series: Sequence[Series],
    label: str,
    bound: tuple[str, Triple | None],
    *,
    scale: float,
    digits: int,
) -> str:
    told = [f"Line plot, {title}: {label}."]
    for one in series:
        values = [
            spell(t, scale=scale, digits=digits) for _, t in sorted(one.points.items())
        ]
        told.append(f"{one.label}: {'; '.join(values)}.")
    if bound[1] is not None:
        told.append(f"{bound[0]}: {spell(bound[1], scale=scale, digits=digits)}.")
    return " ".join(told)
