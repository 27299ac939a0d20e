"""Scores at a few rates as SVG: rates are categories, intervals are bars.

Drawings of one figure share their axes. Colours are variables of the page's style
sheet, so that they follow light, dark and print.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from emoq_plugin.recipe.report.blocks import (
    Cell,
    Figure,
    Table,
    number,
    number_cell,
    rate_name,
    row,
    spell,
)
from emoq_plugin.recipe.report.content import Triple

N_COLOURS = 8  # --s0 to --s7 of the style sheet
LETTER = 7.0  # width of a letter in the units of a drawing
TOP, RIGHT, LEFT = 26, 6, 40
FLAT, STEEP = 50, 84  # room under the axis
N_STEPS = 7  # of the vertical axis, about


@dataclass(frozen=True)
class Series:
    """One line: values by category; `look` chooses colour and marker."""

    label: str
    points: Mapping[str, Triple]
    look: int


@dataclass(frozen=True)
class Plot:
    """One drawing: lines, and a level that all of them are compared with."""

    title: str
    series: Sequence[Series]
    bound: Triple | None = None


@dataclass(frozen=True)
class Axes:
    """What the drawings of a figure share."""

    ticks: Mapping[str, str]  # name of each category, in two lines
    label: str  # of the vertical axis
    below: str = "codebook size × levels, bit/s"
    scale: float = 1.0  # of shown numbers
    digits: int = 1
    zero: bool = False  # zero is part of the vertical axis


def rate_ticks(rates: Mapping[str, float]) -> dict[str, str]:
    """Name rates by codebook size, levels and bit/s, where they have frame codes."""
    return {
        rate: f"{rate_name(rate)}\n{bits:g}" if bits else rate_name(rate)
        for rate, bits in rates.items()
    }


def figure(
    caption: str,
    plots: Iterable[Plot],
    axes: Axes,
    *,
    size: tuple[int, int] = (340, 230),
) -> Figure | None:
    """Draw plots beside each other on equal axes; None where there is nothing to see.

    `size` is that of a drawing, in CSS pixels where the page does not scale it.
    """
    plots = [p for p in plots if any(s.points for s in p.series)]
    if not plots:
        return None
    limits = _limits(plots, axes)
    drawings = [(p.title, _draw(p, axes, limits, size)) for p in plots]
    looks = {s.label: s.look for p in plots for s in p.series if s.points}
    legend = [
        (label, _key("line", _mark(12, 7, look), _colour(look)))
        for label, look in looks.items()
    ]
    if any(p.bound for p in plots):
        legend.append(("continuous features", _key("bound")))
    return Figure(caption, drawings, legend, _numbers(caption, plots, axes))


def _limits(plots: Sequence[Plot], axes: Axes) -> tuple[float, float]:
    found = [0.0] if axes.zero else []
    for plot in plots:
        triples = [t for s in plot.series for t in s.points.values()]
        triples += [plot.bound] if plot.bound else []
        found += [axes.scale * v for t in triples for v in t.values() if v is not None]
    low, high = min(found), max(found)
    margin = 0.04 * (high - low) or 0.5 * 10**-axes.digits
    return low - margin, high + margin


def steps(low: float, high: float) -> list[float]:
    """Return round numbers between two limits.

    Examples
    --------
    >>> steps(41.5, 68.2)
    [45.0, 50.0, 55.0, 60.0, 65.0]
    """
    rough = (high - low) / N_STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(n * step, 10) + 0.0 for n in range(first, last + 1)]


def _draw(
    plot: Plot, axes: Axes, limits: tuple[float, float], size: tuple[int, int]
) -> str:
    width, height = size
    slot = (width - LEFT - RIGHT) / len(axes.ticks)
    longest = max(len(line) for t in axes.ticks.values() for line in t.split("\n"))
    steep = slot < LETTER * (longest + 0.5)
    bottom = height - (STEEP if steep else FLAT)

    def y(value: float) -> float:
        share = (value - limits[0]) / (limits[1] - limits[0])
        return round(bottom - share * (bottom - TOP), 1)

    parts = [f'<text x="0" y="12" class="soft">{escape(axes.label)}</text>']
    ticks = steps(*limits)
    digits = max(0, *(len(f"{t:g}".partition(".")[2]) for t in ticks))
    for tick in ticks:
        zero = " zero" if axes.zero and tick == 0 else ""
        parts.append(
            f'<path class="grid{zero}" d="M{LEFT} {y(tick)}H{width - RIGHT}"/>'
            f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">'
            f"{number(tick, digits)}</text>"
        )
    if plot.bound:
        parts.append(_bound(plot.bound, axes.scale, y, width))
    centres = {name: LEFT + slot * (n + 0.5) for n, name in enumerate(axes.ticks)}
    for name, text in axes.ticks.items():
        parts.append(_tick(centres[name], bottom, text, steep))
    parts.append(
        f'<text x="{(LEFT + width - RIGHT) / 2:.0f}" y="{height - 4}" class="soft" '
        f'text-anchor="middle">{escape(axes.below)}</text>'
    )
    apart = min(9.0, 0.6 * slot / max(len(plot.series), 1))
    for n, series in enumerate(plot.series):
        shift = apart * (n - (len(plot.series) - 1) / 2)
        places = {name: round(x + shift, 1) for name, x in centres.items()}
        parts.append(_line(series, places, axes.scale, y))
    name = escape(_describe(plot, axes))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}">'
        f"{''.join(parts)}</svg>"
    )


def _tick(x: float, bottom: float, text: str, steep: bool) -> str:
    if steep:
        flat = escape(text.replace("\n", " "))
        place = f"translate({x + 4:.1f} {bottom + 12:.1f}) rotate(-50)"
        return f'<text transform="{place}" text-anchor="end">{flat}</text>'
    return "".join(
        f'<text x="{x:.1f}" y="{bottom + 15 + 14 * n:.1f}" text-anchor="middle"'
        f"{' class="soft"' if n else ''}>{escape(line)}</text>"
        for n, line in enumerate(text.split("\n"))
    )


def _bound(bound: Triple, scale: float, y, width: int) -> str:
    band, right = "", width - RIGHT
    if bound["low"] is not None and bound["high"] is not None:
        top, end = y(scale * bound["high"]), y(scale * bound["low"])
        band = (
            f'<rect class="band" x="{LEFT}" y="{top}" width="{right - LEFT}" '
            f'height="{max(end - top, 0):.1f}"/>'
        )
    return f'{band}<path class="bound" d="M{LEFT} {y(scale * bound["mean"])}H{right}"/>'


def _line(series: Series, places: Mapping[str, float], scale: float, y) -> str:
    points = [(places[k], series.points[k]) for k in places if k in series.points]
    joined = " ".join(f"{x},{y(scale * t['mean'])}" for x, t in points)
    bars = "".join(
        f"M{x} {y(scale * t['low'])}V{y(scale * t['high'])}"
        for x, t in points
        if t["low"] is not None and t["high"] is not None
    )
    marks = "".join(_mark(x, y(scale * t["mean"]), series.look) for x, t in points)
    return (
        f'<g style="{_colour(series.look)}">'
        f'<polyline class="line" points="{joined}"/>'
        f'<path class="bar" d="{bars}"/>{marks}</g>'
    )


def _mark(x: float, y: float, look: int) -> str:
    """Draw a marker; its shape distinguishes lines where colours do not."""
    shapes = (
        "M-4-4h8v8h-8z",
        "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
        "M0-5.5L5.5 0 0 5.5-5.5 0z",
        "M0-5.2L5 4h-10z",
        "M0 5.2L5-4h-10z",
    )
    return (
        f'<path class="mark" transform="translate({x} {y})" '
        f'd="{shapes[look % len(shapes)]}"/>'
    )


def _colour(look: int) -> str:
    return f"color:var(--s{look % N_COLOURS})"


def _key(line: str, mark: str = "", style: str = "") -> str:
    return (
        f'<svg class="key" viewBox="0 0 24 14" aria-hidden="true" style="{style}">'
        f'<path class="{line}" d="M0 7H24"/>{mark}</svg>'
    )


def _numbers(caption: str, plots: Sequence[Plot], axes: Axes) -> Table:
    """Return the numbers of a figure for those who do not see it.

    A line that several plots have is in it once.
    """
    drawn = [(plot, series) for plot in plots for series in plot.series]
    lines = [(series.label, series.points) for _, series in drawn]
    rows: dict[str, list[Cell]] = {}
    for (plot, series), line in zip(drawn, lines):
        alone = len(plots) == 1 or lines.count(line) > 1
        name = series.label if alone else f"{plot.title}: {series.label}"
        if series.points and name not in rows:
            numbers = (
                number_cell(series.points.get(k), scale=axes.scale, digits=axes.digits)
                for k in axes.ticks
            )
            rows[name] = row(name, *numbers)
    names = [text.replace("\n", ", ") for text in axes.ticks.values()]
    return Table(f"{axes.label}. {caption}", ["", *names], [*rows.values()])


def _describe(plot: Plot, axes: Axes) -> str:
    """Spell a drawing for those who do not see it; all numbers are in the table."""
    names = [text.replace("\n", ", ") for text in axes.ticks.values()]
    lines = []
    for series in plot.series:
        spelt = [
            spell({"mean": t["mean"], "low": None, "high": None}, scale=axes.scale,
                  digits=axes.digits)
            for key in axes.ticks
            if (t := series.points.get(key))
        ]  # fmt: skip
        lines.append(f"{series.label}: {', '.join(spelt)}")
    return (
        f"{plot.title}. {axes.label} by {axes.below} ({'; '.join(names)}). "
        f"{'; '.join(lines)}."
    )
