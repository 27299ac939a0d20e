"""What follows the answers: one function a section, none where there is no data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.recipe.report.blocks import (
    Block,
    Cell,
    Figure,
    Fold,
    Section,
    Tables,
    listing,
    metric_cell,
    number_cell,
    rate_name,
    shaded,
)
from emoq_plugin.recipe.report.chart import Axes, Plot, Series, figure, rate_ticks
from emoq_plugin.recipe.report.content import (
    METRICS,
    Content,
    Experiment,
    Group,
    as_triple,
    metric_of,
)
from emoq_plugin.recipe.report.two_scale import figures, unseen
from emoq_plugin.recipe.report.verdicts import answer_questions
from emoq_plugin.routing.systems import CONTINUOUS, display_name, is_control

# ---------------------------------------------------------------------------- drawings


def _lines(e: Experiment, names: Mapping[str, str], value: Callable) -> list[Series]:
    """Make a line of `value(rate, name)` for each name, under its label."""
    return [
        Series(label, {r: t for r in e.rates if (t := as_triple(value(r, name)))}, look)
        for look, (name, label) in enumerate(names.items())
    ]


def _both(
    content: Content, e: Experiment, names: Mapping[str, str], value: Callable
) -> list[Plot]:
    """Draw `value(rate, system, name)` of balanced RVQ and Emo-Q."""
    return [
        Plot(
            display_name(system),
            _lines(e, names, lambda rate, name, s=system: value(rate, s, name)),
        )
        for system in (BALANCED, content.emoq)
    ]


def _short(system: str) -> str:
    """Name a system without its router."""
    return display_name(system).partition(",")[0]


def _axes(e: Experiment, metric: str) -> Axes:
    kind = METRICS[metric]
    title = kind.title if kind.higher_is_better else f"{kind.name} (lower is better)"
    return Axes(rate_ticks(e.rates), title, scale=kind.scale, digits=kind.digits)


def _beside_balanced(
    e: Experiment, systems: Iterable[str], caption: str
) -> Figure | None:
    plots = []
    for system in systems:
        names = {BALANCED: display_name(BALANCED), system: "this system"}
        plots.append(Plot(display_name(system), _lines(e, names, e.value), e.bound()))
    return figure(caption, plots, _axes(e, "macro_f1"))


CHOICE = (
    "Of several systems of one kind, each test fold takes the one that is best on the "
    "other test folds."
)


def lead_figure(e: Experiment) -> Figure | None:
    """Draw rate against score: what a reader sees first."""
    caption = (
        "Macro-F1 of heads retrained at each rate; bars and band: 95 % intervals over "
        f"speakers. {CHOICE}"
    )
    lines = _lines(e, e.roles, lambda rate, role: e.role(rate, role).get("macro_f1"))
    plot = Plot("Emotion recognition at each rate", lines, e.bound())
    return figure(caption, [plot], _axes(e, "macro_f1"), size=(440, 300))


# ---------------------------------------------------------------------------- sections

Blocks = Iterator[Block | None]


def rates(content: Content, e: Experiment, _: Group) -> Blocks:
    """Put the best systems of every rate beside each other."""
    compared = {x["role"] for x in e.best if BALANCED in x["differences"]}
    rows = []
    for rate in e.rates if e.best else ():
        best = {title: e.role(rate, role) for role, title in e.roles.items()}
        gains = {
            f"{e.roles[role]} − balanced": metric_cell(
                (e.role(rate, role).get("differences") or {}).get(BALANCED),
                "macro_f1",
                sign=True,
            )
            for role in e.roles
            if role in compared
        }
        means = {
            title: metric_cell((x.get("macro_f1") or {}).get("mean"), "macro_f1")
            for title, x in best.items()
        }
        bits = {"bit/s": Cell(f"{e.rates[rate]:g}", e.rates[rate])}
        rows.append({"rate": rate_name(rate)} | gains | means | bits)
    yield from listing(
        f"Macro-F1, %. Continuous features: {metric_cell(e.bound(), 'macro_f1').text}. "
        f"Differences are paired. {CHOICE} Bit/s are nominal, of one stream without "
        "the route.",
        rows,
        style="plain",
    )


def systems(content: Content, e: Experiment, _: Group) -> Blocks:
    """Draw every result beside balanced RVQ, and the soft labels."""
    results = [s for s in e.systems if not is_control(s) and s != BALANCED]
    yield _beside_balanced(e, results, "Every system beside balanced RVQ.")
    caption = (
        "Jensen-Shannon divergence to the votes, or to the labels where nobody voted."
    )
    names = {system: _short(system) for system in content.leading(e)}
    lines = _lines(e, names, partial(e.value, metric="js"))
    plot = Plot("Distance to soft labels", lines, e.bound("js"))
    yield figure(caption, [plot], _axes(e, "js"))


def emotions(content: Content, e: Experiment, _: Group) -> Blocks:
    """Draw the recall that each emotion loses."""
    caption = (
        "Recall lost against continuous features; below zero is a gain. Paired "
        "intervals over speakers."
    )
    plots = _both(content, e, {x: x for x in content.emotions}, e.recall_loss)
    axes = Axes(rate_ticks(e.rates), "recall lost, points", scale=100, zero=True)
    yield figure(caption, plots, axes)


def probes(content: Content, e: Experiment, _: Group) -> Blocks:
    """Draw the relative loss of emotion, phones and speaker."""
    caption = (
        "Share of what continuous features have above chance that is lost: 100 is "
        "everything, below 0 is a gain."
    )
    names = {f"{what}_loss": what for what in ("emotion", "phone", "speaker")}
    axes = Axes(rate_ticks(e.rates), "relative loss, %", scale=100, zero=True)
    yield figure(caption, _both(content, e, names, e.control), axes)


def confusions(content: Content, e: Experiment, group: Group) -> Blocks:
    """Show confusions of continuous features, balanced RVQ and Emo-Q at one rate."""
    shown = [(CONTINUOUS, CONTINUOUS), (group.rate, BALANCED)]
    shown += [(group.rate, content.emoq)]
    tables = [
        shaded(display_name(system), content.emotions, zip(content.emotions, counts))
        for rate, system in shown
        if rate and (counts := e.score(rate, system).get("confusion"))
    ]
    if tables:
        yield Tables(
            "Rows: true emotion; columns: predicted; clips, all seeds. Units at "
            f"{rate_name(group.rate or CONTINUOUS)}, heads retrained.",
            tables,
        )


def routes(content: Content, e: Experiment, group: Group) -> Blocks:
    """Show which expert Emo-Q sends clips of each emotion to."""
    shares = group.rate and e.measure(group.rate, content.emoq, "routes")
    if not shares:
        return

    def place(name: str) -> tuple:
        return [*content.emotions, name].index(name), name

    experts = sorted({x for each in shares.values() for x in each}, key=place)
    rows = []
    for emotion in sorted(shares, key=place):
        means = [as_triple(shares[emotion].get(x)) for x in experts]
        rows.append((emotion, [round(100 * t["mean"], 1) if t else 0 for t in means]))
    names = [x.rpartition("/")[2] for x in experts]
    yield Tables(
        f"Share of clips, %, at {rate_name(group.rate)}. Rows: emotion of the clip; "
        "columns: chosen expert.",
        [shaded(display_name(content.emoq), names, rows)],
    )


def units(content: Content, e: Experiment, _: Group) -> Blocks:
    """List the use of codewords at each level."""
    yield from listing(
        "Codewords of test clips.",
        (
            {
                "system": display_name(system),
                "rate": rate_name(rate),
                "level": Cell(str(n + 1), n + 1.0),
                "in use, %": number_cell(level.get("utilisation"), scale=100),
                "entropy / log2 K, %": number_cell(
                    level.get("entropy_share"), scale=100
                ),
                "perplexity": number_cell(level.get("perplexity")),
            }
            for system in (BALANCED, content.emoq)
            for rate in e.rates
            for n, level in enumerate(e.measure(rate, system, "levels") or [])
        ),
    )


def representation(content: Content, e: Experiment, _: Group) -> Blocks:
    """Draw what the reconstructions and the units themselves hold."""
    names = {system: _short(system) for system in content.leading(e)}
    likeness = {
        "cka": "Linear CKA with continuous features",
        "cosine_of_means/all": "Cosine of time means with continuous features",
        "vote_structure": "Distance correlation with soft labels",
    }
    plots = [
        Plot(title, _lines(e, names, lambda r, s, p=place: e.measure(r, s, p)))
        for place, title in likeness.items()
    ]
    caption = "Intervals over folds."
    yield figure(caption, plots, Axes(rate_ticks(e.rates), "", digits=3))
    for label, place, parts in (
        ("bits about each above chance, first level", "mutual_information/{}/excess",
         ("emotion", "phone", "speaker")),
        ("drift toward neutral, share of distance", "drift/{}", content.emotions),
    ):  # fmt: skip
        plots = _both(content, e, {place.format(x): x for x in parts}, e.measure)
        axes = Axes(rate_ticks(e.rates), label, digits=3, zero=True)
        yield figure(caption, plots, axes)


def controls(content: Content, e: Experiment, _: Group) -> Blocks:
    """Draw what is never a result."""
    yield _beside_balanced(
        e,
        filter(is_control, e.systems),
        "An oracle route knows the true label; the capacity control has as many "
        "codewords as Emo-Q, learned on a random partition; a wrong or random route "
        "shows what the route is worth.",
    )


def comparisons(content: Content, e: Experiment, _: Group) -> Blocks:
    """List all paired tests."""
    yield from listing(
        "Paired differences with 95 % intervals over speakers, points for shares. "
        "Holm's correction counts all comparisons of a family.",
        (
            {
                "system": display_name(c["system"]),
                "rate": rate_name(c["rate"]),
                "difference": metric_cell(c["difference"], c["metric"], sign=True),
                "p (Holm)": number_cell(c.get("p_holm"), digits=4),
                "minus": display_name(c["reference"]),
                "metric": metric.name,
                "p": number_cell(c.get("p"), digits=4),
            }
            for c in e.comparisons
            if (metric := metric_of(c["metric"]))
        ),
    )


def all_scores(content: Content, e: Experiment, _: Group) -> Blocks:
    """List every condition."""
    bits = {"nominal": "bit/s", "entropy": "entropy bit/s", "side_info": "route bit/s"}
    yield from listing(
        "All conditions, controls included. Divergences in nats; for these, "
        "cross-entropy and Brier lower is better.",
        (
            {"system": display_name(s["system"]), "rate": rate_name(s["rate"])}
            | {m.title: metric_cell(s["metrics"].get(k), k) for k, m in METRICS.items()}
            | {"head": s["head"]}
            | {
                title: number_cell((s.get("bitrate_bps") or {}).get(k), digits=2)
                for k, title in bits.items()
            }
            for s in e.scores
        ),
    )


SECTIONS: dict[str, tuple[str, Callable]] = {
    "figures": ("What the study was to reach", figures),
    "rates": ("Score at each rate", rates),
    "systems": ("Every system", systems),
    "emotions": ("Loss of each emotion", emotions),
    "probes": ("Emotion against phones and speaker", probes),
    "unseen": ("Classes that nothing was learned from", unseen),
    "confusions": ("Confusions", confusions),
    "routes": ("Routes", routes),
    "representation": ("What reconstructions and units hold", representation),
    "codebooks": ("Codebook use at each level", units),
    "controls": ("Controls, never results", controls),
    "comparisons": ("Paired comparisons", comparisons),
    "scores": ("All scores", all_scores),
}
FOLDED = tuple(SECTIONS)[8:]


def all_sections(content: Content) -> list[Section]:
    """Build what has data; long lists and further experiments are folded at the end."""
    found, folds = [], []
    experiments = [(e, g) for g in content.groups for e in (g.main, *g.others)]
    for n, (e, group) in enumerate(experiments):
        for name, (title, build) in SECTIONS.items():
            blocks = [block for block in build(content, e, group) if block]
            if blocks and (n or name in FOLDED):
                folds.append(Fold(f"{title}: {e.name}" if n else title, blocks))
            elif blocks:
                found.append(Section(name, title, blocks))
    details = [Section("details", "Details", folds)] if folds else []
    return found + details


# ------------------------------------------------------------- behind the answers


def behind(content: Content) -> list[Block]:
    """Show the settings that were chosen, and the verdicts on further experiments."""
    chosen = content.groups[0].selected.get("chosen") or {}
    settings = listing(
        "Test speakers took no part.",
        (
            {
                "fold / seed": name,
                "rate": rate_name(choice["rate"]),
                "system": display_name(choice["system"]),
                "quantizer": choice["quantizer"],
                "validation macro-F1, %": metric_cell(
                    choice.get("validation_macro_f1"), "macro_f1"
                ),
            }
            for name, choice in chosen.items()
        ),
    )
    verdicts = listing(
        "Tests as above.",
        (
            {"test": group.name}
            | {
                name: f"{answer.verdict}. {answer.finding}"
                for name, answer in answer_questions(content, group).items()
            }
            for group in content.groups[1:]
        ),
    )
    folds = {
        "Settings that validation speakers chose": list(settings),
        "The same tests on other corpora and features": list(verdicts),
    }
    return [Fold(title, blocks) for title, blocks in folds.items() if blocks]
