"""Sections of studies with two-scale systems."""

from collections.abc import Iterator

from emoq_plugin.recipe.report.blocks import (
    NOTHING,
    Table,
    listing,
    metric_cell,
    number,
    number_cell,
    rate_name,
)
from emoq_plugin.recipe.report.content import Content, Experiment, Group
from emoq_plugin.routing.systems import display_name


def figures(content: Content, e: Experiment, _: Group) -> Iterator[Table]:
    """List what the study was to reach."""
    if e is not content.groups[0].main:
        return
    yield from listing(
        "Conditions and goals were named before the study ran; points of F1, with 95 % "
        "intervals over speakers.",
        (
            {
                "figure": entry["name"],
                "found": metric_cell(
                    entry["value"], "macro_f1", sign=entry["minus"] is not None
                ),
                "goal": _goal(entry),
                "reached": {True: "yes", False: "no", None: NOTHING}[entry["reached"]],
                "bit/s": " − ".join(
                    "continuous" if b is None else f"{b:.0f}"
                    for b in entry["bitrate_bps"]
                ),
            }
            for entry in content.summary.get("figures") or []
        ),
        style="plain",
    )


def _goal(entry: dict) -> str:
    goals = []
    if entry["least"] is not None:
        goals.append(f"at least {number(entry['least'])}")
    if entry["low"] is not None:
        goals.append(f"interval above {number(entry['low'])}")
    return ", ".join(goals)


UNSEEN = {"all": "all classes", "unseen": "left-out class", "seen": "other classes"}


def unseen(content: Content, e: Experiment, _: Group) -> Iterator[Table]:
    """List what is kept of classes that nothing was learned from."""
    for found in content.unseen(e):
        left_out = ", ".join(found["classes"])
        yield from listing(
            f"F1, %: each of {left_out} is left out in turn of codebooks, clip codes "
            "and routers, heads learn from all classes; means over the classes left "
            "out.",
            (
                {
                    "system": display_name(c["system"]),
                    "rate": rate_name(c["rate"]),
                    "bit/s": number_cell(c["bitrate_bps"]),
                }
                | {t: metric_cell(c[kind], "macro_f1") for kind, t in UNSEEN.items()}
                for c in found["conditions"]
            ),
        )
        yield from listing(
            "Paired differences with 95 % intervals over speakers, points.",
            (
                {
                    "system": f"{display_name(d['system'])}, {rate_name(d['rate'])}",
                    "bit/s": number_cell(d["bitrate_bps"]),
                    "minus": f"{display_name(d['reference'])}, "
                    f"{rate_name(d['reference_rate'])}",
                    "bit/s of it": number_cell(d["reference_bitrate_bps"]),
                }
                | {
                    title: metric_cell(d[kind], "macro_f1", sign=True)
                    for kind, title in UNSEEN.items()
                }
                for d in found["differences"]
            ),
        )
