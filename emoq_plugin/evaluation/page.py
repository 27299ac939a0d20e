"""The page of an experiment, `RESULTS.md`, from its scores."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emoq_plugin.evaluation.pooling import CLEAR_SHARE
from emoq_plugin.evaluation.predictions import HEADS
from emoq_plugin.routing.systems import CONTINUOUS, System


def _system_order(score: Mapping[str, Any]) -> tuple:
    return (*System.parse(score["system"]).order, HEADS.index(score["head"]))


def _rate_order(rate: str) -> tuple:
    """Sort rates by bits a frame, names of another form last."""
    try:
        size, levels = (int(part) for part in rate.split("x"))
        return (levels * math.log2(size), levels, rate)
    except ValueError:
        return (math.inf, 0, rate)


# ---------------------------------------------------------------------------- the page


def _percent(triple: Mapping[str, float], *, interval: bool = False) -> str:
    if not interval or triple["low"] is None:
        return f"{100 * triple['mean']:.1f}"
    low, high = 100 * triple["low"], 100 * triple["high"]
    return f"{100 * triple['mean']:.1f} [{low:.1f}, {high:.1f}]"


def _signed_percent(triple: Mapping[str, float] | None) -> str:
    if triple is None:
        return "-"
    # Adding 0.0 after rounding turns a negative zero into a positive one.
    mean, *ends = (
        f"{round(100 * triple[k], 1) + 0.0:+.1f}"
        for k in ("mean", "low", "high")
        if triple[k] is not None
    )
    return f"{mean} [{', '.join(ends)}]" if ends else mean


def _number(triple: Mapping[str, float]) -> str:
    return f"{triple['mean']:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


_COLUMNS = (
    ["system", "head", "nominal bit/s", "entropy bit/s", "side info bit/s"]
    + ["macro-F1 % [low, high]", "Δ to balanced [low, high]", "UAR %", "WA %"]
    + ["JS", "KL", "cosine", "top-2 %"]
)


def _main_row(score: Mapping[str, Any]) -> list[str]:
    rates = score["bitrate_bps"] or {}
    bits = [
        f"{rates[name]:.{digits}f}" if name in rates else "-"
        for name, digits in (("nominal", 1), ("entropy", 1), ("side_info", 2))
    ]
    change = score.get("difference_to_balanced", {}).get("macro_f1")
    return [
        score["name"],
        score["head"],
        *bits,
        _percent(score["macro_f1"], interval=True),
        _signed_percent(change),
        _percent(score["uar"]),
        _percent(score["wa"]),
        _number(score["js"]),
        _number(score["kl"]),
        _number(score["cosine"]),
        _percent(score["top2_set"]),
    ]


def _recall_table(scores: Mapping[str, Any], systems: Sequence[Mapping]) -> list[str]:
    emotions = scores["scored_emotions"]
    return ["Recall of each class, % [low, high]:", ""] + _table(
        ["rate", "system", "head", *emotions],
        (
            [system["rate"], system["name"], system["head"]]
            + [_percent(system["recall"][name], interval=True) for name in emotions]
            for system in systems
        ),
    )


def _ambiguity_table(systems: Sequence[Mapping]) -> list[str]:
    parts = {"low": "clear", "high": "ambiguous"}
    found = [part for part in parts if part in systems[0].get("ambiguity", {})]
    if not found:
        return []
    header, title = ["rate", "system", "head"], []
    for part in found:
        size = systems[0]["ambiguity"][part]["n_utterances"]
        title.append(f"{parts[part]} ({size} utterances)")
        header += [f"JS {parts[part]}", f"top-2 % {parts[part]}"]
    rows = []
    for system in systems:
        row = [system["rate"], system["name"], system["head"]]
        for part in found:
            split = system["ambiguity"][part]
            row += [_number(split["js"]), _percent(split["top2_set"])]
        rows.append(row)
    lead = f"By agreement of the raters: {' and '.join(title)}, split at a primary "
    return [f"{lead}share of {CLEAR_SHARE:.0%}.", "", *_table(header, rows)]


def _section(
    title: str, scores: Mapping[str, Any], systems: list[Mapping]
) -> list[str]:
    """Return one kind of head: a table a rate, then recalls of the trained heads."""
    if not systems:
        return []
    lines = [f"## {title}", ""]
    for rate in sorted({system["rate"] for system in systems}, key=_rate_order):
        rows = sorted(
            (system for system in systems if system["rate"] == rate), key=_system_order
        )
        lines += [f"### {rate}", "", *_table(_COLUMNS, map(_main_row, rows))]
    trained = sorted(
        (system for system in systems if system["head"] in ("retrained", "espnet")),
        key=lambda system: (_rate_order(system["rate"]), _system_order(system)),
    )
    if trained:
        lines += _recall_table(scores, trained) + _ambiguity_table(trained)
    return lines


def _heading(scores: Mapping[str, Any]) -> list[str]:
    made = ", SYNTHETIC speech" if scores["synthetic"] else ""
    interval = scores["interval"]
    targets = {
        "votes": "vote shares of the raters (one-hot where nobody voted)",
        "one-hot": "one-hot labels, as this corpus has no votes",
    }[scores["soft_targets"]]
    lines = [f"# {scores['corpus']}{made}: {scores['tag']}", ""]
    if scores["synthetic"]:
        lines += [
            "**SYNTHETIC:** no human spoke this corpus. The numbers show that the "
            "recipe works; they say nothing about human speech.",
            "",
        ]
    lines += [
        f"{scores['n_utterances']} utterances ({scores['n_labelled']} with a label) of "
        f"{scores['n_speakers']} speakers, {len(scores['folds'])} test fold(s) pooled; "
        f"classes {', '.join(scores['scored_emotions'])}.",
        (
            f"Without intervals ({absent})."
            if (absent := interval.get("absent"))
            else f"Brackets are {interval['level']:.0%} bootstrap intervals over "
            f"speakers ({interval['n_resamples']} resamples, paired for differences to "
            "balanced RVQ at the same rate and head)."
        ),
        f"Soft metrics (JS, KL in nats, cosine, top-2 set) against {targets}.",
        "Systems marked as control are no results: an oracle route knows the label.",
    ]
    absent = [e for e in scores["emotions"] if e not in scores["scored_emotions"]]
    if absent:
        lines.append(
            f"No utterance is labelled {', '.join(absent)}: hard metrics average over "
            "the other classes, and predicting it is an error."
        )
    if note := scores.get("audio", {}).get("note"):
        lines.append(f"Audio: {note}.")
    if "emotion2vec" in json.dumps(scores.get("feature")).lower():
        lines.append(
            "The encoder emotion2vec was tuned on many emotion corpora: this test set "
            "may not be out of its domain."
        )
    return [*lines, ""]


def _setting(scores: Mapping[str, Any]) -> list[str]:
    lines = ["## Command and environment", ""]
    if command := scores.get("command"):
        lines += ["```sh", str(command), "```", ""]
    for name in ("environment", "feature", "quantizer"):
        entry = scores.get(name)
        if isinstance(entry, Mapping):
            items = (f"{k} {_short(v)}" for k, v in entry.items() if v is not None)
            lines.append(f"- {name}: {', '.join(items)}")
        elif entry is not None:
            lines.append(f"- {name}: {_short(entry)}")
    return [*lines, ""] if len(lines) > 2 else []


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def render_results(scores: Mapping[str, Any]) -> str:
    """Write the page of an experiment from its scores.

    Parameters
    ----------
    scores : mapping
        From `score_experiment`, or `scores.json` read back.

    Returns
    -------
    str
        Markdown: setting, continuous upper bound, then each kind of head by rate.
    """
    systems = list(scores["systems"].values())
    upper = [system for system in systems if system["rate"] == CONTINUOUS]
    units = [system for system in systems if system["rate"] != CONTINUOUS]
    lines = _heading(scores) + _setting(scores)
    if upper:
        lines += ["## Continuous upper bound", ""]
        lines += _table(_COLUMNS, map(_main_row, sorted(upper, key=_system_order)))
        lines += _recall_table(scores, upper) + _ambiguity_table(upper)
    probe = [system for system in units if system["head"] != "espnet"]
    espnet = [system for system in units if system["head"] == "espnet"]
    lines += _section("Probe heads on discrete units", scores, probe)
    lines += _section("ESPnet head on discrete units", scores, espnet)
    return "\n".join(lines).rstrip() + "\n"
