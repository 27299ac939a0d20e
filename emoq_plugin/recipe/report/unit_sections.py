"""Sections about the units: controls, codebook use, routes, what they hold."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.recipe.report.blocks import (
    Block,
    Cell,
    Figure,
    Section,
    Table,
    Tables,
    interval_cell,
    number,
    plain_row,
    rate_name,
)
from emoq_plugin.recipe.report.content import (
    Content,
    Experiment,
    as_triple,
    system_order,
)
from emoq_plugin.recipe.report.figures import (
    Axis,
    RateAxis,
    Series,
    line_panel,
)
from emoq_plugin.recipe.report.plots import (
    LOOK,
    by_rate,
    each,
    ends,
    look,
    recoloured,
)
from emoq_plugin.routing.systems import CONTINUOUS, display_name, is_control
from emoq_plugin.units.rates import Rate, deepest

# ----------------------------------------------------------------------------- controls


def controls(content: Content) -> Section:
    """Draw the relative loss of emotion, phones and speaker."""

    def build(experiment: Experiment) -> Iterator[Block]:
        cells = {(c["rate"], c["system"]): c for c in experiment.controls}
        systems = sorted({system for _, system in cells}, key=system_order)
        axis = RateAxis(experiment.rates).axis
        panels = []
        for system in systems:
            series = []
            for n, what in enumerate(("emotion", "phone", "speaker")):
                points = by_rate(
                    experiment,
                    lambda rate: as_triple(
                        cells.get((rate, system), {}).get(f"{what}_loss")  # noqa: B023
                    ),
                )
                if points:
                    series.append(recoloured(Series(what, points), n))
            if series:
                panels.append(
                    line_panel(
                        display_name(system),
                        series,
                        axis=axis,
                        label="relative loss, %",
                        scale=100,
                        zero=True,
                        height=3.3,
                    )
                )
        if panels:
            yield Figure(
                "Share of what is above chance in continuous features that is lost: 0 "
                "is nothing, 100 is everything, below 0 is a gain.",
                panels,
            )
        rows = [
            plain_row(
                [rate_name(rate), display_name(system)]
                + [
                    interval_cell(cells[rate, system].get(name), scale=100, sign=True)
                    for name in ("emotion_minus_phone", "emotion_minus_speaker")
                ]
            )
            for rate in experiment.rates
            for system in systems
            if (rate, system) in cells
        ]
        if rows:
            header = ["rate", "system", "emotion − phone", "emotion − speaker"]
            yield Table(
                "Relative loss of emotion minus that of the control, points; above "
                "zero, emotion loses more.",
                header,
                rows,
                style="sortable",
            )

    return Section(
        "controls",
        "Emotion against phones and speaker",
        blocks=each(content, build),
        missing="Phone and speaker probes were not run: this needs a study (stage 7).",
    )


# ------------------------------------------------------------------------- codebook use


def codebooks(content: Content) -> Section:
    """Draw and list the use of codewords at each level."""
    kinds = {
        "utilisation": "codewords in use, %",
        "entropy_share": "entropy / log2 K, %",
    }

    def build(experiment: Experiment) -> Iterator[Block]:
        systems = [BALANCED, content.headline_system]
        panels, most = [], 1
        found = {
            (m["rate"], m["system"]): (m.get("values") or {}).get("levels") or []
            for m in experiment.measures
            if m["rate"] != CONTINUOUS
        }
        most = max(map(len, found.values()), default=0)
        if not most:
            return
        axis = Axis("level", {float(n + 1): str(n + 1) for n in range(most)})
        for kind, label in kinds.items():
            for system in systems:
                series = [
                    recoloured(Series(rate_name(rate), points), n)
                    for n, rate in enumerate(_deepest(experiment.rates))
                    if (points := _by_level(found.get((rate, system), []), kind))
                ]
                if series:
                    panels.append(
                        line_panel(
                            f"{display_name(system)}: {label}",
                            series,
                            axis=axis,
                            label=label,
                            scale=100,
                            height=3.0,
                        )
                    )
        if panels:
            yield Figure("Use of the codebook at each level, test clips.", panels)
        yield _levels_table(experiment, found)

    return Section(
        "codebooks",
        "Codebook use at each level",
        blocks=each(content, build),
        missing="Neither the summary nor units beside the scores tell codebook use.",
    )


def _deepest(rates: Iterable[str]) -> list[str]:
    """Return the rates with most levels: the first levels of others are the same."""
    return [str(rate) for rate in deepest(map(Rate.parse, rates))]


def _by_level(levels: Sequence[dict], kind: str) -> dict[float, Any]:
    found = {float(n + 1): as_triple(level.get(kind)) for n, level in enumerate(levels)}
    return {place: triple for place, triple in found.items() if triple}


def _levels_table(experiment: Experiment, found: dict[tuple, list]) -> Table:
    kinds = ("utilisation", "entropy_share", "perplexity", "distortion")
    scales = (100, 100, 1, 1)
    rows = []
    for (rate, system), levels in found.items():
        for n, level in enumerate(levels):
            rows.append(
                plain_row(
                    [rate_name(rate), display_name(system), Cell(str(n + 1), n + 1.0)]
                    + [
                        interval_cell(level.get(k), scale=s, digits=1 if s > 1 else 2)
                        for k, s in zip(kinds, scales)
                    ]
                )
            )
    header = ["rate", "system", "level", "in use %", "entropy %", "perplexity"]
    header.append("distortion so far")
    return Table("Codebook use of every system.", header, rows, style="sortable")


# ------------------------------------------------------------------------------- routes


def routes(content: Content) -> Section:
    """Show which expert clips of each emotion were sent to."""

    def build(experiment: Experiment) -> Iterator[Block]:
        for rate in ends(experiment):
            tables = []
            for m in sorted(
                experiment.measures, key=lambda m: system_order(m["system"])
            ):
                shares = (m.get("values") or {}).get("routes")
                if m["rate"] == rate and shares and not is_control(m["system"]):
                    tables.append(_route_table(content, m["system"], shares))
            if tables:
                yield Tables(
                    f"Share of clips, %, at {rate_name(rate)}. Rows: emotion of the "
                    "clip; columns: chosen expert.",
                    tables,
                )

    return Section(
        "routes",
        "Routes of each emotion",
        blocks=each(content, build),
        missing="Neither the summary nor units beside the scores tell routes.",
    )


def _route_table(content: Content, system: str, shares: dict[str, dict]) -> Table:
    known = {e for row in shares.values() for e in row}
    experts = sorted(known, key=lambda e: ([*content.emotions, e].index(e), e))
    rows = []
    for emotion in sorted(shares, key=lambda e: ([*content.emotions, e].index(e), e)):
        cells = []
        for expert in experts:
            share = (as_triple(shares[emotion].get(expert, 0.0)) or {}).get("mean")
            text = number(None if share is None else 100 * share)
            cells.append(Cell(text, share, share=share, mark="number"))
        rows.append(plain_row([emotion, *cells]))
    names = [e.rpartition("/")[2] for e in experts]
    return Table(display_name(system), ["", *names], rows, style="shades")


# ----------------------------------------------------------------- representation level


def representation(content: Content) -> Section:
    """Draw what the reconstructions and the units themselves hold."""
    plots = (
        ("Linear CKA with continuous features", "cka", "CKA"),
        ("Cosine of time means", "cosine_of_means/all", "cosine"),
        ("Distance correlation with soft labels", "vote_structure", "correlation"),
    )

    def build(experiment: Experiment) -> Iterator[Block]:
        systems = [a for a in LOOK if a in experiment.systems()]
        systems = list(dict.fromkeys([*systems, content.headline_system]))
        axis = RateAxis(experiment.rates).axis
        panels = []

        def add(title: str, label: str, lines: list[Series], **options: Any) -> None:
            if lines := [line for line in lines if line.points]:
                panels.append(
                    line_panel(
                        title,
                        lines,
                        axis=axis,
                        label=label,
                        digits=3,
                        height=3.3,
                        **options,
                    )
                )

        def read(system: str, place: str) -> dict:
            return by_rate(
                experiment,
                lambda rate: as_triple(experiment.measure(rate, system, place)),
            )

        for title, place, label in plots:
            lines = [
                Series(display_name(system), read(system, place), **look(system, n))
                for n, system in enumerate(systems)
            ]
            add(title, label, lines)
        inside = (
            ("Mutual information with units", "bits above chance",
             "mutual_information/{}/excess", ("emotion", "phone", "speaker")),
            ("Drift toward neutral", "share of the distance", "drift/{}",
             content.emotions),
        )  # fmt: skip
        for title, label, place, names in inside:
            for system in (BALANCED, content.headline_system):
                lines = [
                    recoloured(Series(name, read(system, place.format(name))), n)
                    for n, name in enumerate(names)
                ]
                add(f"{title}, {display_name(system)}", label, lines, zero=True)
        if panels:
            yield Figure(
                "CKA and cosine compare reconstructions with continuous features (1: "
                "the same). Mutual information is that of the first level (expert and "
                "code), above labels permuted over clips. Drift is how far the mean of "
                "an emotion has moved toward neutral. Intervals are over folds.",
                panels,
            )

    return Section(
        "representation",
        "What reconstructions and units hold",
        blocks=each(content, build),
        missing="The representation level was not measured: this needs a study "
        "(stage 7).",
    )
