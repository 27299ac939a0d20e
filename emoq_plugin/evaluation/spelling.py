"""How pages spell numbers with their intervals, tables and folded parts."""

from collections.abc import Iterable, Sequence

from emoq_plugin.evaluation.results import Triple

ABSENT = "-"


def spelled(
    triple: Triple | None,
    *,
    factor: float = 1.0,
    digits: int = 3,
    sign: str = "",
    interval: bool = True,
) -> str:
    """Spell a value and, where there is one, its interval.

    Examples
    --------
    >>> spelled({"mean": 0.0512, "low": -0.0001, "high": 0.1}, sign="+")
    '+0.051 [+0.000, +0.100]'
    """
    if triple is None:
        return ABSENT
    names = ("mean", "low", "high") if interval else ("mean",)
    # Adding 0.0 after rounding turns a negative zero into a positive one.
    mean, *ends = (
        f"{round(factor * triple[name], digits) + 0.0:{sign}.{digits}f}"
        for name in names
        if triple[name] is not None
    )
    return f"{mean} [{', '.join(ends)}]" if ends else mean


def percent(triple: Triple | None, *, interval: bool = False) -> str:
    """Spell a share in percent."""
    return spelled(triple, factor=100, digits=1, interval=interval)


def signed_percent(triple: Triple | None) -> str:
    """Spell a difference in points with its interval.

    Examples
    --------
    >>> signed_percent({"mean": 0.0512, "low": -0.0001, "high": 0.1})
    '+5.1 [+0.0, +10.0]'
    """
    return spelled(triple, factor=100, digits=1, sign="+")


def number(triple: Triple) -> str:
    """Spell a value alone."""
    return spelled(triple, interval=False)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Return lines that a reader unfolds; none where there are none."""
    if not any(lines):
        return []
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "</details>", ""]
