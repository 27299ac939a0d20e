"""Score by rate as a small SVG, without a plotting package."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from emoq_plugin.evaluation.page import by_rate
from emoq_plugin.evaluation.results import Results, Triple
from emoq_plugin.routing.systems import CONTINUOUS, ROLES

WIDTH, HEIGHT = 640, 360  # px
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 52, 44  # px around the plot
STEPS = (5, 10, 20)  # % between lines, of which there are at most MOST
MOST = 6
GAP = 10  # px between systems of one rate
# Distinguished by shape as well as by colour; ColorBrewer's Dark2.
STYLES = dict(
    zip(ROLES, [("#666666", "circle"), ("#1b9e77", "square"), ("#7570b3", "diamond"),
                ("#d95f02", "triangle")])  # fmt: skip
)
SHAPES = {
    "circle": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "square": "M-4,-4h8v8h-8z",
    "diamond": "M0,-5L5,0L0,5L-5,0z",
    "triangle": "M0,-5L5,4H-5z",
}


def draw_rates(results: Results) -> str:
    """Draw macro-F1 with intervals, rates side by side, continuous features as a line.

    Parameters
    ----------
    results : Results
        With at least one entry in `best`.

    Returns
    -------
    str
        SVG on white ground.
    """
    rates = by_rate(results)
    head = next(iter(results.best)).head
    bound = results.score(CONTINUOUS, CONTINUOUS, head)
    triples = [best.macro_f1 for roles in rates.values() for best in roles.values()]
    triples += [bound.metrics["macro_f1"]] if bound else []
    scale = _Scale(triples)
    roles = [role for role in ROLES if any(role in best for best in rates.values())]
    parts = [*_frame(results, scale)]
    if bound:
        y = scale.y(bound.metrics["macro_f1"]["mean"])
        parts.append(_dashes(LEFT, y, WIDTH - RIGHT))
    step = (WIDTH - LEFT - RIGHT) / len(rates)
    for n, (rate, best) in enumerate(rates.items()):
        middle = LEFT + (n + 0.5) * step
        bits = next(iter(best.values())).bitrate_bps
        parts.append(text(middle, HEIGHT - BOTTOM + 18, rate, "middle"))
        if bits is not None:
            parts.append(text(middle, HEIGHT - 10, f"{bits:.0f} bit/s", "middle"))
        for m, role in enumerate(roles):
            if role in best:
                x = middle + (m - (len(roles) - 1) / 2) * GAP
                parts += _mark(x, best[role].macro_f1, scale, *STYLES[role])
    for m, role in enumerate(roles):
        x, (colour, shape) = LEFT + m * (WIDTH - LEFT) / 4, STYLES[role]
        parts.append(_shape(x + 6, 34, colour, shape))
        parts.append(text(x + 16, 38, ROLES[role]))
    if bound:  # on the line of the title, which is short
        parts.append(_dashes(WIDTH - RIGHT - 160, 14, WIDTH - RIGHT - 134))
        parts.append(text(WIDTH - RIGHT, 18, "continuous features", "end"))
    return svg(parts, _title(results), (WIDTH, HEIGHT))


def svg(parts: Sequence[str], title: str, size: tuple[int, int]) -> str:
    """Return a picture of `size` px on white ground."""
    width, height = size
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-family="sans-serif" '
        f'font-size="12">\n<title>{escape(title)}</title>\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


class _Scale:
    """Vertical axis over values and intervals, from and to whole steps."""

    def __init__(self, triples: list[Triple]):
        ends = [t[k] for t in triples for k in ("mean", "low", "high")]
        known = [100 * end for end in ends if end is not None]
        for step in STEPS:
            self.low = step * int(min(known) // step)
            self.high = max(step * -int(-max(known) // step), self.low + step)
            self.lines = range(self.low, self.high + 1, step)
            if len(self.lines) <= MOST:
                break

    def y(self, value: float) -> float:
        share = (100 * value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _title(results: Results) -> str:
    title = f"{results.corpus}: macro-F1 in % by rate"
    return f"{title} (SYNTHETIC speech)" if results.synthetic else title


def _frame(results: Results, scale: _Scale) -> list[str]:
    parts = [text(LEFT, 18, _title(results))]
    for value in scale.lines:
        y = scale.y(value / 100)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "#dddddd"))
        parts.append(text(LEFT - 8, y + 4, str(value), "end"))
    return parts


def _dashes(x: float, y: float, end: float) -> str:
    return _line(x, y, end, y, "#222222", 'stroke-dasharray="6 4"')


def _mark(x: float, t: Triple, scale: _Scale, colour: str, shape: str) -> list[str]:
    parts = []
    if t["low"] is not None:
        ends = scale.y(t["low"]), scale.y(t["high"])
        parts.append(_line(x, ends[0], x, ends[1], colour, 'stroke-width="2"'))
    return [*parts, _shape(x, scale.y(t["mean"]), colour, shape)]


def _shape(x: float, y: float, colour: str, shape: str) -> str:
    at = f"translate({x:.1f},{y:.1f})"
    return f'<path d="{SHAPES[shape]}" transform="{at}" fill="{colour}"/>'


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, more: str = ""
) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" {more}/>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Return words at a place, px."""
    at = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {at} fill="#222222">{escape(words)}</text>'
