"""What sections share: looks of systems, lines by rate, shaded tables."""

from collections.abc import Callable, Iterable, Sequence

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.recipe.report.blocks import (
    Block,
    Cell,
    Heading,
    Table,
    plain_row,
)
from emoq_plugin.recipe.report.content import (
    EMOQ,
    Content,
    Experiment,
)
from emoq_plugin.recipe.report.figures import (
    MARKERS,
    RateAxis,
    Series,
)
from emoq_plugin.routing.systems import CAPACITY_CONTROL, SPECIFIC

LOOK = {  # colour and marker of well-known systems; others are counted through
    BALANCED: ("s0", "s"),
    EMOQ: ("s1", "o"),
    f"{SPECIFIC}-cosine": ("s2", "^"),
    CAPACITY_CONTROL: ("s3", "D"),
}
_REST = ("s4", "s5", "s6", "s7")


def look(system: str, number: int = 0) -> dict[str, str]:
    """Return colour and marker of a system; unknown ones are counted through."""
    colour, marker = LOOK.get(system, (_REST[number % 4], MARKERS[number % 8]))
    return {"colour": colour, "marker": marker}


def each(
    content: Content, build: Callable[[Experiment], Iterable[Block]]
) -> list[Block]:
    """Build the blocks of every experiment, under its name where there are several."""
    blocks: list[Block] = []
    for experiment in content.experiments:
        found = list(build(experiment))
        if found and len(content.experiments) > 1:
            blocks.append(Heading(experiment.name))
        blocks += found
    return blocks


def recoloured(series: Series, n: int) -> Series:
    """Return the line the n-th colour and marker."""
    colour = ("s1", "s2", "s4", "s3", "s5", "s6", "s7", "s0")[n % 8]
    return Series(series.label, series.points, colour=colour, marker=MARKERS[n % 8])


def by_rate(experiment: Experiment, value: Callable) -> dict:
    """Return the points of a line: place of the rate, value."""
    places = RateAxis(experiment.rates).places
    found = {places[rate]: value(rate) for rate in experiment.rates}
    return {place: triple for place, triple in found.items() if triple is not None}


def ends(experiment: Experiment) -> list[str]:
    """Return the lowest and the highest rate that balanced RVQ was scored at."""
    there = [r for r in experiment.rates if experiment.score(r, BALANCED)]
    return list(dict.fromkeys([*there[:1], *there[-1:]]))


def shaded(title: str, labels: Sequence[str], counts: Sequence[Sequence]) -> Table:
    """Make a table of counts whose cells are as dark as their share of the row."""
    rows = []
    for label, row in zip(labels, counts):
        total = sum(row) or 1
        rows.append(
            plain_row(
                [label]
                + [Cell(f"{n:g}", n, share=n / total, mark="number") for n in row]
            )
        )
    return Table(title, ["", *labels], rows, style="shades")
