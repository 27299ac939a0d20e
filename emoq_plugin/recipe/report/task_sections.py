"""Sections about recognition: scores, confusions, soft labels, tests, targets."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.recipe.report.answers import has_paired_recalls, recall_loss
from emoq_plugin.recipe.report.blocks import (
    Block,
    Cell,
    Figure,
    Panel,
    Section,
    Table,
    Tables,
    Text,
    interval_cell,
    metric_cell,
    metric_title,
    number,
    plain_row,
    rate_name,
    spell,
)
from emoq_plugin.recipe.report.content import (
    MAIN_HEAD,
    METRICS,
    Content,
    Experiment,
    as_triple,
    is_recall,
    metric_of,
    system_order,
)
from emoq_plugin.recipe.report.figures import (
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
    shaded,
)
from emoq_plugin.routing.systems import (
    CAPACITY_CONTROL,
    CONTINUOUS,
    display_name,
    is_control,
)

_CHANGED = {"first": ("-", False), "second": ("--", True)}
_RECALL_INTERVALS = {
    True: "Intervals are of paired differences, over speakers.",
    False: "Intervals treat both recalls as independent: rather too wide.",
}
_KEPT_BY_HEAD = {
    "frozen": "Frozen head: trained on continuous features, applied to reconstructions",
    "route": "Route as label: the chosen expert's emotion is the answer",
    "espnet": "ESPnet head, trained on units",
}


# -------------------------------------------------------------------------- at a glance


def glance(content: Content) -> Section:
    """Put the main numbers of every rate beside each other."""
    system = content.headline_system

    def build(experiment: Experiment) -> Iterator[Block]:
        columns = (BALANCED, system, CAPACITY_CONTROL)
        columns = [a for a in columns if a in experiment.systems()]
        if not columns:
            return
        value = partial(experiment.value, name="macro_f1")
        rows = []
        for rate, bits in experiment.rates.items():
            difference = experiment.difference(rate, system, "macro_f1") or {}
            rows.append(
                plain_row(
                    [rate_name(rate), Cell(f"{bits:g}", bits, mark="number")]
                    + [metric_cell(value(rate, a), "macro_f1") for a in columns]
                    + [metric_cell(difference.get("difference"), "macro_f1", sign=True)]
                )
            )
        header = ["rate", "bit/s", *map(display_name, columns), "Emo-Q − balanced"]
        caption = (
            f"{_facts(experiment)}. Macro-F1 %, heads retrained at every rate, 95 % "
            "intervals over speakers; Emo-Q is here the "
            f"{display_name(system).removeprefix('Emo-Q, ')}. Bit/s are nominal; the "
            f"route adds {_side_info(experiment, system)}. Continuous features: "
            f"{spell(experiment.bound(), scale=100)}."
        )
        yield Table(caption, header, rows)

    section = Section("glance", "At a glance", blocks=each(content, build))
    section.missing = "There is no score of a retrained head."
    return section


def _facts(experiment: Experiment) -> str:
    facts = experiment.facts
    folds, seeds = facts.get("folds") or [], facts.get("seeds") or []
    parts = [
        f"{facts[k]} {word}"
        for k, word in (("n_utterances", "utterances"), ("n_speakers", "speakers"))
        if facts.get(k) is not None
    ]
    parts += [f"{len(folds)} test fold{'s' * (len(folds) > 1)}"] if folds else []
    parts += [f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"] if seeds else []
    parts += [facts["no_interval"]] if facts.get("no_interval") else []
    name = " / ".join(
        str(facts[k]) for k in ("corpus", "feature", "quantizer") if facts.get(k)
    )
    return (
        f"{name or experiment.name}: {', '.join(parts)}" if parts else experiment.name
    )


def _side_info(experiment: Experiment, system: str) -> str:
    sides = [
        (as_triple((s.get("bitrate_bps") or {}).get("side_info")) or {}).get("mean")
        for s in experiment.scores
        if s["system"] == system
    ]
    known = [side for side in sides if side is not None]
    return f"{number(max(known))} bit/s or less" if known else "little"


# ------------------------------------------------------------------------------- curves


def curves(content: Content, other: Content | None = None) -> Section:
    """Draw macro-F1 against bitrate for every system and head."""

    def build(experiment: Experiment) -> Iterator[Block]:
        beside = partner(experiment, content, other) if other else None
        systems = experiment.systems()
        if not systems or not experiment.rates:
            return
        draw = partial(_curve_panel, experiment, beside=beside)
        main = [a for a in (*LOOK, content.headline_system) if a in systems]
        main = list(dict.fromkeys(main))
        yield Figure(
            "Bars are 95 % bootstrap intervals over speakers, the dotted line and its "
            "band are the continuous features, and lines join rates of one codebook "
            "size. JS is the Jensen-Shannon divergence to the soft labels: lower is "
            "better.",
            [
                draw("Emotion recognition, macro-F1", main, height=4.2),
                draw("Soft labels, JS", main, metric="js", height=4.2),
            ],
            lead=True,
        )
        for group, told in (
            (
                [a for a in systems if not is_control(a)],
                "Every system beside balanced RVQ.",
            ),
            (
                [a for a in systems if is_control(a)],
                "Controls beside balanced RVQ: an oracle route knows the true label, "
                "and the capacity control has as many codewords as Emo-Q, learned on "
                "a random partition. None of them is a result.",
            ),
        ):
            limits = _limits(experiment, [*group, BALANCED])
            panels = [
                draw(
                    display_name(a),
                    [BALANCED, a] if BALANCED in systems else [a],
                    limits=limits,
                )
                for a in group
                if a != BALANCED
            ]
            if panels:
                yield Figure(told, panels)
        panels = []
        for head, title in _KEPT_BY_HEAD.items():
            there = experiment.systems(head)
            for group in (
                [a for a in there if not is_control(a)],
                [a for a in there if is_control(a)],
            ):
                if group:
                    kind = "controls" if is_control(group[0]) else "systems"
                    panels.append(
                        draw(f"{title}; {kind}", group, head=head, height=4.4)
                    )
        if panels:
            yield Figure("The same with other heads.", panels)

    return Section(
        "curves",
        "Rate against emotion",
        blocks=each(content, build),
        missing="There is no score at any rate.",
    )


def _curve_panel(
    experiment: Experiment,
    title: str,
    systems: Sequence[str],
    *,
    beside: Experiment | None = None,
    head: str = MAIN_HEAD,
    metric: str = "macro_f1",
    **options: Any,
) -> Panel:
    rates = experiment.rates | (beside.rates if beside else {})
    rates = dict(sorted(rates.items(), key=lambda item: (item[1], item[0])))
    scale = RateAxis(rates)
    series = []
    for which, one in (("first", experiment), ("second", beside)):
        line, hollow = _CHANGED[which]
        for number_, system in enumerate(systems if one else ()):
            points, moved = _points(one, scale, system, head, metric)
            if points:
                label = display_name(system) + (" (second)" if hollow else "")
                series.append(
                    Series(
                        label,
                        points,
                        line=line,
                        hollow=hollow,
                        moved=moved,
                        **look(system, number_),
                    )
                )
    return line_panel(
        title,
        series,
        axis=scale.axis,
        label=metric_title(metric),
        scale=100 if metric_of(metric).percent else 1,
        digits=1 if metric_of(metric).percent else 3,
        bound=("continuous features", experiment.bound(metric)),
        **options,
    )


def _limits(experiment: Experiment, systems: Sequence[str]) -> tuple[float, float]:
    """Return one vertical range for panels that are to be compared."""
    found = [experiment.bound()] + [
        experiment.value(rate, system, "macro_f1")
        for rate in experiment.rates
        for system in systems
    ]
    ends = [
        value
        for triple in found
        for value in (triple or {}).values()
        if value is not None
    ]
    margin = 0.03 * (max(ends) - min(ends)) + 1e-3
    return min(ends) - margin, max(ends) + margin


def _points(
    experiment: Experiment, scale: RateAxis, system: str, head: str, metric: str
) -> tuple[dict, dict]:
    points, moved = {}, {}
    for rate in experiment.rates:
        score = experiment.score(rate, system, head)
        value = experiment.value(rate, system, metric, head=head)
        if value is not None:
            place = scale.places[rate]
            points[place] = value
            nominal = as_triple((score["bitrate_bps"] or {}).get("nominal"))
            moved[place] = scale.place(rate, nominal and nominal["mean"])
    return points, moved


def partner(
    experiment: Experiment, content: Content, other: Content
) -> Experiment | None:
    """Find what an experiment is compared with: the same name, or the only one."""
    for candidate in other.experiments:
        if candidate.name == experiment.name:
            return candidate
    if len(content.experiments) == len(other.experiments) == 1:
        return other.experiments[0]
    return None


# -------------------------------------------------------------------------- per emotion


def emotions(content: Content) -> Section:
    """Draw the loss of recall and the distortion of each emotion."""

    def build(experiment: Experiment) -> Iterator[Block]:
        scale = RateAxis(experiment.rates)
        systems = [
            a for a in (BALANCED, content.headline_system) if a in experiment.systems()
        ]

        def panel(system: str, value: Callable, **options: Any) -> Any:
            series = [
                Series(emotion, points, **look(emotion, n))
                for n, emotion in enumerate(content.emotions)
                if (points := by_rate(experiment, partial(value, system, emotion)))
            ]
            series = [recoloured(s, n) for n, s in enumerate(series)]
            if not series:
                return None
            return line_panel(display_name(system), series, axis=scale.axis, **options)

        losses = [
            panel(
                system,
                lambda system, emotion, rate: recall_loss(
                    experiment, rate, system, emotion
                ),
                label="recall lost, points",
                scale=100,
                zero=True,
                height=3.4,
            )
            for system in systems
        ]
        if any(losses):
            yield Figure(
                "Recall lost against continuous features, by emotion; below zero is a "
                f"gain. {_RECALL_INTERVALS[has_paired_recalls(experiment)]}",
                [one for one in losses if one],
            )
        kept = [
            panel(
                system,
                lambda system, emotion, rate: as_triple(
                    experiment.measure(rate, system, f"distortion/{emotion}")
                ),
                label="distortion / variance",
                digits=3,
                height=3.4,
            )
            for system in systems
        ]
        if any(kept):
            yield Figure(
                "Frame distortion by emotion, relative to the variance of the "
                "features (1: nothing kept).",
                [one for one in kept if one],
            )

    return Section(
        "emotions",
        "Loss of each emotion",
        blocks=each(content, build),
        missing="Recalls of continuous features and of units are both needed.",
    )


# --------------------------------------------------------------------------- confusions


def confusions(content: Content) -> Section:
    """Show confusions of continuous features, balanced RVQ and Emo-Q."""

    def build(experiment: Experiment) -> Iterator[Block]:
        shown = [(CONTINUOUS, CONTINUOUS)]
        for rate in ends(experiment):
            shown += [(rate, BALANCED), (rate, content.headline_system)]
        tables = []
        for rate, system in shown:
            counts = (experiment.score(rate, system) or {}).get("confusion")
            if counts:
                tables.append(
                    shaded(_cell_name(rate, system), content.emotions, counts)
                )
        if tables:
            yield Tables(
                "Rows: true emotion; columns: predicted. Counts over all test clips "
                "and seeds, shaded by their share of the row; heads retrained.",
                tables,
            )

    return Section(
        "confusions",
        "Confusions with and without routing",
        blocks=each(content, build),
        missing="Neither the summary nor predictions beside the scores tell them.",
    )


def _cell_name(rate: str, system: str) -> str:
    name = display_name(system)
    return name if rate == CONTINUOUS else f"{name}, {rate_name(rate)}"


# -------------------------------------------------------------------------- soft labels


def soft_labels(content: Content) -> Section:
    """Show votes beside predictions for a few clips, and scores by ambiguity."""
    tables = []
    for example in content.summary.get("examples") or []:
        columns = {"votes": example["targets"], **example["posteriors"]}
        systems = sorted(example["posteriors"], key=system_order)
        rows = [
            plain_row(
                [emotion]
                + [
                    Cell(
                        number(100 * (columns[name].get(emotion) or 0.0), 0),
                        columns[name].get(emotion),
                        share=columns[name].get(emotion) or 0.0,
                        mark="number",
                    )
                    for name in ("votes", *systems)
                ]
            )
            for emotion in content.emotions
        ]
        title = f"{example['utterance']} ({example['emotion']})"
        # Four columns have to fit a telephone; the caption spells Emo-Q's router.
        names = [
            "Emo-Q" if system == content.headline_system else system
            for system in systems
        ]
        tables.append(Table(title, ["", "target", *names], rows, style="bars"))
    blocks: list[Block] = []
    if tables:
        rates = {e.get("rate") for e in content.summary["examples"]} - {None}
        at = f" at {', '.join(map(rate_name, sorted(rates)))}" if rates else ""
        caption = (
            "Targets (vote shares, or the label where nobody voted) and predicted "
            f"probabilities of retrained heads{at}, %. Emo-Q here: "
            f"{display_name(content.headline_system)}."
        )
        blocks.append(Tables(caption, tables))
    blocks += each(content, partial(_ambiguity, content))
    return Section(
        "votes",
        "Soft labels: votes against predictions",
        blocks=blocks,
        missing="No examples with votes: the corpus has none, or predictions are gone.",
    )


def _ambiguity(content: Content, experiment: Experiment) -> Iterator[Block]:
    parts = {"low": "clear", "high": "ambiguous"}
    rows, sizes = [], {}
    for score in experiment.scores:
        split = score.get("ambiguity")
        if score["head"] != MAIN_HEAD or not split:
            continue
        cells = []
        for part, name in parts.items():
            entry = split.get(part) or {}
            sizes[name] = entry.get("n", entry.get("n_utterances"))
            cells += [metric_cell(entry.get(k), k) for k in ("js", "top2_set")]
        rows.append(
            plain_row([rate_name(score["rate"]), display_name(score["system"]), *cells])
        )
    if rows:
        told = ", ".join(f"{name}: {n} clips" for name, n in sizes.items() if n)
        header = ["rate", "system"]
        header += [
            f"{metric_title(k)}, {n}"
            for n in parts.values()
            for k in ("js", "top2_set")
        ]
        yield Table(
            f"By agreement of the raters ({told}).", header, rows, style="sortable"
        )


# -------------------------------------------------------------------- targets and tests


def targets(content: Content) -> Section:
    """List the figures to reach, and whether they were."""
    groups = [content.summary, *(content.summary.get("further") or [])]
    blocks: list[Block] = []
    for group in groups:
        rows = []
        for goal in group.get("targets") or []:
            triple = as_triple({k.replace("value", "mean"): goal.get(k) for k in
                                ("value", "low", "high")})  # fmt: skip
            reached = goal.get("reached")
            text, mark = ("reached", "good") if reached else ("missed", "bad")
            if triple is None:
                text, mark = "not measured", "open"
            elif goal.get("why_open"):
                text, mark = goal["why_open"], "open"
            elif not reached and content.summary.get("missing"):
                text, mark = "jobs are missing", "open"
            elif goal.get("aim_reached"):
                text = "aim reached"
            digits = 3 if abs(triple["mean"] if triple else 0) < 2 else 1
            rows.append(
                plain_row(
                    [goal["what"], goal["must"], goal["aim"]]
                    + [interval_cell(triple, digits=digits), Cell(text, mark=mark)]
                )
            )
        if rows:
            name = [str(group[k]) for k in ("corpus", "feature") if group.get(k)]
            where = f" ({', '.join(name)})" if groups[1:] and name else ""
            header = ["what", "must", "aim", "found", ""]
            caption = f"Figures to reach{where}; scores are shares (0.05: 5 points)."
            blocks.append(Table(caption, header, rows, style="words"))
        blocks += _chosen(group.get("selected") or {})
    return Section(
        "targets",
        "Figures to reach",
        blocks=blocks,
        missing="Targets are set and checked by a study (stage 7).",
    )


def _chosen(selected: dict[str, Any]) -> Iterator[Block]:
    """Return which setting the validation speakers of each fold chose."""
    rows = [
        plain_row(
            [name, choice["quantizer"], rate_name(choice["rate"])]
            + [display_name(choice["system"])]
            + [metric_cell(choice.get("validation_macro_f1"), "macro_f1")]
        )
        for name, choice in (selected.get("chosen") or {}).items()
    ]
    if rows:
        header = ["fold / seed", "quantizer", "rate", "system", "validation macro-F1 %"]
        yield Table(
            f"Settings chosen by {selected['by']}; the test speakers took no part.",
            header,
            rows,
        )


def comparisons(content: Content) -> Section:
    """List all paired tests."""

    def build(experiment: Experiment) -> Iterator[Block]:
        rows = [
            plain_row(
                [
                    rate_name(c["rate"]),
                    display_name(c["system"]),
                    display_name(c["reference"]),
                    c["head"],
                    metric_of(c["metric"]).label,
                    metric_cell(c["difference"], c["metric"], sign=True),
                    interval_cell(c.get("p"), digits=4),
                    interval_cell(c.get("p_holm"), digits=4),
                ]
            )
            for c in experiment.comparisons
            if c["metric"] in METRICS or is_recall(c["metric"])
        ]
        if rows:
            header = [
                "rate",
                "system",
                "minus",
                "head",
                "metric",
                "difference",
                "p",
                "p Holm",
            ]
            alone = experiment.facts.get("no_interval")
            yield Table(
                (
                    "Paired differences; points for shares. No interval, no test: "
                    f"{alone}."
                    if alone
                    else "Paired differences, 95 % intervals over speakers; points for "
                    "shares. p after Holm's correction counts all comparisons of its "
                    "family."
                ),
                header,
                rows,
                style="sortable",
            )

    return Section(
        "comparisons",
        "Paired comparisons",
        blocks=each(content, build),
        missing="No system was compared with another.",
    )


# --------------------------------------------------------------------------- all scores


def all_scores(content: Content) -> Section:
    """Return one table with every cell."""
    rows = []
    several = len(content.experiments) > 1
    for experiment in content.experiments:
        for score in experiment.scores:
            rates = score.get("bitrate_bps") or {}
            bits = [
                interval_cell(rates.get(name), digits=digits)
                for name, digits in (("nominal", 1), ("entropy", 1), ("side_info", 2))
            ]
            values = score.get("metrics") or {}
            rows.append(
                plain_row(
                    ([experiment.name] if several else [])
                    + [rate_name(score["rate"]), display_name(score["system"])]
                    + [score["head"], *bits]
                    + [metric_cell(values.get(name), name) for name in METRICS]
                )
            )
    header = (["experiment"] if several else []) + ["rate", "system", "head"]
    header += ["nominal bit/s", "entropy bit/s", "route bit/s"]
    header += [metric_title(name) for name in METRICS]
    caption = (
        "All cells. JS and KL in nats; for JS, KL, cross-entropy and Brier lower is "
        "better."
    )
    table = Table(caption, header, rows, style="sortable")
    return Section(
        "scores",
        "All scores",
        blocks=[table] if rows else [],
        missing="There are no scores.",
    )


# --------------------------------------------------------------------------- comparison


def compared(content: Content, other: Content) -> Section:
    """List the differences between two directories in every cell that both have."""
    rows = []
    for experiment in content.experiments:
        beside = partner(experiment, content, other)
        for score in experiment.scores if beside else ():
            key = (score["rate"], score["system"])
            match = beside.score(*key, score["head"])
            if match is None:
                continue
            cells = []
            for name in ("macro_f1", "js"):
                one = experiment.value(*key, name, head=score["head"])
                two = beside.value(*key, name, head=score["head"])
                change = None if not one or not two else two["mean"] - one["mean"]
                cells += [metric_cell(v, name) for v in (one, two)]
                cells.append(metric_cell(change, name, sign=True))
            rows.append(
                plain_row(
                    [rate_name(key[0]), display_name(key[1]), score["head"], *cells]
                )
            )
    header = ["rate", "system", "head"]
    for name in ("macro_f1", "js"):
        title = metric_title(name)
        header += [f"{title}, first", f"{title}, second", f"{title}, difference"]
    caption = (
        f"First: {content.title}. Second: {other.title}. Difference: second minus "
        "first. Intervals are each one's own; the difference has none, as the two may "
        "not share their clips."
    )
    table = Table(caption, header, rows, style="sortable")
    alone = sorted(
        {e.name for e in content.experiments if not partner(e, content, other)}
    )
    blocks: list[Block] = [table] if rows else []
    if rows and alone:
        blocks.append(Text([f"Without a partner in the second: {', '.join(alone)}."]))
    return Section(
        "compared",
        f"{content.title} and {other.title}",
        blocks=blocks,
        missing="The two have no cell (rate, system, head) in common.",
    )
