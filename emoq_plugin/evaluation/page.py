"""The page of an experiment, `RESULTS.md`: the answer first, all tables folded."""

import json
from collections.abc import Sequence
from typing import Any

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.data.ratings import DIMENSIONS
from emoq_plugin.evaluation.answers import RULE
from emoq_plugin.evaluation.predictions import HEADS
from emoq_plugin.evaluation.reference import CLEAR_SHARE
from emoq_plugin.evaluation.results import Best, Results, Score, rates_by_bits
from emoq_plugin.evaluation.significance import above_zero
from emoq_plugin.evaluation.spelling import (
    ABSENT,
    folded,
    number,
    percent,
    signed_percent,
    spelled,
    table,
)
from emoq_plugin.routing.systems import (
    CONTINUOUS,
    EMOQ_ROLE,
    ROLES,
    TWO_SCALE,
    System,
    display_name,
)

PICTURE = "rate_score.svg"


def render_results(results: Results) -> str:
    """Write the page of an experiment.

    Parameters
    ----------
    results : Results
        From `score_experiment`, or `scores.json` read back.

    Returns
    -------
    str
        Markdown, which shows `PICTURE` beside it.
    """
    lines = [*_title(results), answer_sentence(results), ""]
    if results.best:
        lines += [f"![Score by rate]({PICTURE})", "", *_answer(results)]
    lines += [*_glossary(results), *_data(results), *_controls(results)]
    lines += folded("Ratings: arousal, valence, dominance", _ratings(results))
    units = [score for score in results.scores if score.rate != CONTINUOUS]
    upper = [score for score in results.scores if score.rate == CONTINUOUS]
    lines += folded("Continuous features: all metrics", _tables(results, upper))
    for title, espnet in (("Probe heads", False), ("ESPnet head", True)):
        chosen = [score for score in units if (score.head == "espnet") == espnet]
        lines += folded(f"{title}: all systems and metrics", _tables(results, chosen))
    lines += folded("Command and environment", _setting(results))
    return "\n".join(lines).rstrip() + "\n"


# ----------------------------------------------------------------------- the answer


def by_rate(results: Results) -> dict[str, dict[str, Best]]:
    """Return the best systems of the first experiment: rate -> role -> best."""
    found: dict[str, dict[str, Best]] = {}
    for best in results.best:
        if best.experiment == results.experiments[0].name:
            found.setdefault(best.rate, {})[best.role] = best
    return found


def answer_sentence(results: Results) -> str:
    """Say at how many rates Emo-Q and balanced RVQ differ, and by how much.

    All rates count, so that none is picked after looking.
    """
    pairs = {
        rate: best[EMOQ_ROLE]
        for rate, best in by_rate(results).items()
        if BALANCED in best and EMOQ_ROLE in best
    }
    if not pairs:
        return "No rate has both balanced RVQ and Emo-Q: nothing to compare."
    changes = [best.differences[BALANCED] for best in pairs.values()]
    means = [round(100 * change["mean"], 1) + 0.0 for change in changes]
    span = f"{means[0]:+.1f}"
    if min(means) < max(means):
        span = f"{min(means):+.1f} to {max(means):+.1f}"
    rates = f"{len(pairs)} rate{'s' * (len(pairs) > 1)}"
    found = f"Emo-Q minus balanced RVQ is {span} points of macro-F1 at {rates}"
    if why := results.experiments[0].no_interval:
        return f"**{found}; it decides nothing ({why}).**"
    better = sum(above_zero(change) for change in changes)
    worse = sum(above_zero(change, better=False) for change in changes)
    level = f"{results.interval['level']:.0%}"
    return (
        f"**{found}: better at {better}, worse at {worse}, undecided at "
        f"{len(pairs) - better - worse} of them (by the {level} interval over "
        "speakers).**"
    )


def answer_table(results: Results) -> list[list[str]]:
    """Return the header and a row for each rate: roles beside each other."""
    rates = by_rate(results)
    roles = [role for role in ROLES if any(role in best for best in rates.values())]
    versus = [role for role in (EMOQ_ROLE, TWO_SCALE) if role in roles]
    titles = ROLES | {TWO_SCALE: f"{ROLES[TWO_SCALE]} (bit/s)"}
    header = ["rate", "bit/s", *(titles[role] for role in roles)]
    names = {EMOQ_ROLE: "Emo-Q", TWO_SCALE: "two-scale"}
    header += [f"{names[role]} - balanced" for role in versus if BALANCED in roles]
    rows = []
    for rate, best in rates.items():
        bits = next(iter(best.values())).bitrate_bps
        row = [rate, ABSENT if bits is None else f"{bits:.0f}"]
        row += [_cell(best.get(role)) for role in roles]
        for role in versus if BALANCED in roles else ():
            change = best[role].differences.get(BALANCED) if role in best else None
            row.append(signed_percent(change))
        rows.append(row)
    return [header, *rows]


def _cell(best: Best | None) -> str:
    """Write a score; of two-scale with its bit/s, to which clip codes add."""
    score = percent(best.macro_f1 if best else None)
    if best is None or best.role != TWO_SCALE or best.bitrate_bps is None:
        return score
    return f"{score} ({best.bitrate_bps:.0f})"


def answer_lines(results: Results) -> list[str]:
    """Return the answer for a terminal: continuous features and a line a rate."""
    cells = answer_table(results)
    widths = [max(map(len, column)) for column in zip(*cells)]
    bound = results.score(CONTINUOUS, CONTINUOUS, _main_head(results))
    lines = ["macro-F1 in %, intervals over speakers"]
    if bound:
        said = percent(bound.metrics["macro_f1"], interval=True)
        lines.append(f"continuous features: {said}")
    return lines + [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in cells
    ]


def _main_head(results: Results) -> str:
    found = {best.head for best in results.best} or {s.head for s in results.scores}
    return min(found, key=HEADS.index)


def _answer(results: Results) -> list[str]:
    bound = results.score(CONTINUOUS, CONTINUOUS, _main_head(results))
    lines = []
    if bound:
        said = percent(bound.metrics["macro_f1"], interval=True)
        lines = [f"Continuous features: {said} % macro-F1.", ""]
    lines += ["Macro-F1 in %, differences in points [low, high]:", ""]
    header, *rows = answer_table(results)
    lines += table(header, rows)
    chosen = []
    for rate, best in by_rate(results).items():
        for role, entry in best.items():
            counts: dict[str, int] = {}
            n_folds = len(entry.systems)
            for system in entry.systems.values():
                counts[system] = counts.get(system, 0) + 1
            if role != BALANCED:
                names = (
                    f"`{system}`"
                    + (f" in {n} of {n_folds} folds" if n < n_folds else "")
                    for system, n in counts.items()
                )
                chosen.append(f"- {rate}, {ROLES[role]}: {', '.join(names)}")
    return lines + folded("Which systems the columns took", [*chosen, ""])


def _controls(results: Results) -> list[str]:
    """Return systems that are no results, with the main head."""
    head = _main_head(results)
    found = [s for s in results.scores if s.is_control and s.head == head]
    rows = [
        [
            rate,
            display_name(score.system),
            percent(score.metrics["macro_f1"], interval=True),
        ]
        for rate in rates_by_bits((s.rate, s.bitrate_bps) for s in found)
        for score in sorted(found, key=_order)
        if score.rate == rate
    ]
    if not rows:
        return []
    lines = [
        "They help to read the results and are none: an oracle knows the label.",
        "",
    ]
    return folded("Controls", lines + table(["rate", "control", "macro-F1 %"], rows))


def _glossary(results: Results) -> list[str]:
    level = f"{results.interval['level']:.0%}"
    two_scale = [
        "- **two-scale**: frame codes of what a clip code leaves, which is sent beside "
        "them; at the rate `none` it is sent alone."
    ]
    return [
        "- **balanced RVQ**: one residual codebook for all emotions; **Emo-Q**: "
        "codebooks for each emotion, of which a router takes one a clip.",
        "- **capacity control**: as many codebooks as Emo-Q, of clips drawn at random; "
        "what Emo-Q has above it is due to emotion.",
        *two_scale * any(best.role == TWO_SCALE for best in results.best),
        "- **rate** `<K>x<L>`: K codewords, L levels; **bit/s**: nominal, with the "
        "route.",
        "- **macro-F1**: F1 averaged over classes, all test folds pooled, heads "
        f"trained on the units; **[low, high]**: {level} bootstrap interval over "
        "speakers.",
        f"- **best**: {RULE}.",
        "",
    ]


# ------------------------------------------------------------------------- all tables


_COLUMNS = (
    ["system", "head", "nominal bit/s", "entropy bit/s", "side info bit/s"]
    + ["macro-F1 % [low, high]", "Δ to balanced [low, high]", "UAR %", "WA %"]
    + ["JS", "KL", "cosine", "top-2 %"]
)


def _order(score: Score) -> tuple:
    return (*System.parse(score.system, known=False).order, HEADS.index(score.head))


def _tables(results: Results, scores: Sequence[Score]) -> list[str]:
    """Return a table a rate, then recalls and ambiguity of heads that were trained."""
    if not scores:
        return []
    lines = []
    rates = rates_by_bits((s.rate, s.bitrate_bps) for s in scores) or [CONTINUOUS]
    for rate in rates:
        rows = sorted((s for s in scores if s.rate == rate), key=_order)
        lines += [f"### {rate}", ""] if rate != CONTINUOUS else []
        lines += table(_COLUMNS, (_main_row(results, score) for score in rows))
    trained = sorted(
        (score for score in scores if score.head in ("retrained", "espnet")),
        key=lambda score: (rates.index(score.rate), *_order(score)),
    )
    if trained:
        classes = results.experiments[0].scored_emotions
        lines += _recall_table(classes, trained) + _ambiguity_table(trained)
    return lines


def _main_row(results: Results, score: Score) -> list[str]:
    rates, metrics = score.bitrate_bps or {}, score.metrics
    bits = [
        f"{rates[name]:.{digits}f}" if name in rates else ABSENT
        for name, digits in (("nominal", 1), ("entropy", 1), ("side_info", 2))
    ]
    return [
        display_name(score.system),
        score.head,
        *bits,
        percent(metrics["macro_f1"], interval=True),
        signed_percent(results.difference(score, BALANCED, "macro_f1")),
        percent(metrics["uar"]),
        percent(metrics["wa"]),
        number(metrics["js"]),
        number(metrics["kl"]),
        number(metrics["cosine"]),
        percent(metrics["top2_set"]),
    ]


def _recall_table(classes: Sequence[str], scores: Sequence[Score]) -> list[str]:
    return ["Recall of each class, % [low, high]:", ""] + table(
        ["rate", "system", "head", *classes],
        (
            [score.rate, display_name(score.system), score.head]
            + [percent(score.metrics["recall"][c], interval=True) for c in classes]
            for score in scores
        ),
    )


def _ambiguity_table(scores: Sequence[Score]) -> list[str]:
    first = scores[0].ambiguity or {}
    parts = {
        p: name for p, name in (("low", "clear"), ("high", "ambiguous")) if p in first
    }
    if not parts:
        return []
    header, title = ["rate", "system", "head"], []
    for part, name in parts.items():
        title.append(f"{name} ({first[part]['n_utterances']} utterances)")
        header += [f"JS {name}", f"top-2 % {name}"]
    rows = []
    for score in scores:
        row = [score.rate, display_name(score.system), score.head]
        for part in parts:
            found = score.ambiguity[part]
            row += [number(found["js"]), percent(found["top2_set"])]
        rows.append(row)
    lead = f"By agreement of the raters: {' and '.join(title)}, split at a primary "
    return [f"{lead}share of {CLEAR_SHARE:.0%}.", "", *table(header, rows)]


def _ratings(results: Results) -> list[str]:
    """Return the CCC of every condition that ratings were predicted for."""
    found = sorted((s for s in results.scores if s.ratings), key=_order)
    dimensions = [d for d in DIMENSIONS if any(d in s.ratings for s in found)]
    rows = []
    for rate in [CONTINUOUS, *rates_by_bits((s.rate, s.bitrate_bps) for s in found)]:
        for score in (s for s in found if s.rate == rate):
            row = [rate, display_name(score.system)]
            for name in dimensions:
                triple = score.ratings.get(name)
                change = results.difference(score, BALANCED, f"ccc/{name}")
                row += [spelled(triple), spelled(change, sign="+")]
            rows.append(row)
    if not rows:
        return []
    header = ["rate", "system"]
    for name in dimensions:
        header += [f"{name} [low, high]", "Δ to balanced [low, high]"]
    return [
        "Concordance correlation (CCC) of ratings predicted by a ridge regression on "
        "what the retrained heads see:",
        "",
        *table(header, rows),
    ]


# ------------------------------------------------------------------------ the setting


def _title(results: Results) -> list[str]:
    made = ", SYNTHETIC speech" if results.synthetic else ""
    lines = [f"# {results.corpus}{made}: {results.name}", ""]
    if results.synthetic:
        lines += [
            "**SYNTHETIC:** no human spoke this corpus. The numbers show that the "
            "recipe works; they say nothing about human speech.",
            "",
        ]
    return lines


def _data(results: Results) -> list[str]:
    experiment = results.experiments[0]
    classes = experiment.scored_emotions
    lines = [
        f"{experiment.n_utterances} utterances ({experiment.n_labelled} with a label) "
        f"of {experiment.n_speakers} speakers, {len(experiment.folds)} test fold(s) "
        f"pooled; classes {', '.join(classes)}."
    ]
    if absent := [name for name in results.emotions if name not in classes]:
        lines.append(
            f"No utterance is labelled {', '.join(absent)}: hard metrics average over "
            "the other classes, and predicting it is an error."
        )
    if why := experiment.no_interval:
        lines.append(f"Without intervals ({why}).")
    if note := results.audio.get("note"):
        lines.append(f"Audio: {note}.")
    lines += [f"Encoder: {note}." for note in experiment.leakage]
    return [*lines, ""]


def _setting(results: Results) -> list[str]:
    targets = {
        "votes": "vote shares of the raters (one-hot where nobody voted)",
        "one-hot": "one-hot labels, as this corpus has no votes",
    }[results.experiments[0].soft_targets]
    lines = [
        f"Soft metrics (JS, KL in nats, cosine, top-2 set) against {targets}; "
        f"{results.interval['n_resamples']} resamples of the speakers, paired for "
        "differences.",
        "",
    ]
    if results.command:
        lines += ["```sh", results.command, "```", ""]
    for name, entry in {"environment": results.environment, **results.config}.items():
        items = (f"{k} {_short(v)}" for k, v in entry.items() if v is not None)
        if said := ", ".join(items):
            lines.append(f"- {name}: {said}")
    return [*lines, ""]


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
