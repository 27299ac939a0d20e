"""The questions of arXiv 2603.21224, each with one test that was fixed beforehand.

No test picks a rate, a router or an emotion by its result: a setting is the one that
validation speakers chose or, without such a choice, Emo-Q at the lowest rate: for each
test fold the system that is best on the other test folds (`evaluation.answers`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.significance import above_zero
from emoq_plugin.recipe.report.blocks import SPACE, number, rate_name, spell_metric
from emoq_plugin.recipe.report.content import (
    METRICS,
    Content,
    Experiment,
    Group,
    Triple,
    as_triple,
)
from emoq_plugin.routing.systems import (
    CAPACITY_CONTROL,
    CONTINUOUS,
    EMOQ_ROLE,
    TWO_SCALE,
    System,
    display_name,
)

YES = "yes"
NO = "no"
NOT_SHOWN = "not shown"
NOT_MEASURED = "not measured"
HEADLINE = "equal rate"  # the question of the first sentence
P_LEVEL = 0.05
MIN_EMOTIONS = 3  # Friedman's test compares at least three


# Short name: question, what Emo-Q is compared with, metric.
COMPARED = {
    HEADLINE: (
        "Do codebooks learned for emotions (Emo-Q) keep more emotion than one balanced "
        "codebook at equal rate?",
        BALANCED,
        "macro_f1",
    ),
    "votes": (
        "Do they come closer to the raters' votes (soft labels)?",
        BALANCED,
        "js",
    ),
    "beyond capacity": (
        "Is it the emotions, and not only that there are more codewords?",
        CAPACITY_CONTROL,
        "macro_f1",
    ),
}


@dataclass(frozen=True)
class Answer:
    """A question, its test, what was found, and the verdict of this test alone."""

    question: str
    test: str
    verdict: str = NOT_MEASURED
    finding: str = "There is no such comparison."


def answer_questions(content: Content, group: Group) -> dict[str, Answer]:
    """Answer every question for one corpus and feature, by its short name."""
    found = {"emotion first": _disproportionate(group)}
    found["uneven"] = _uneven(content, group)
    found |= {name: _compared(content, group, *COMPARED[name]) for name in COMPARED}
    found["lower rate"] = _lower_rate(group)
    why = group.main.metadata.get("no_interval")
    for name, answer in found.items():
        if why and answer.verdict != NOT_MEASURED:
            finding = f"{answer.finding} No interval: {why}."
            found[name] = replace(answer, verdict=NOT_SHOWN, finding=finding)
    return found


def verdict_of(differences: Iterable[Triple], *, higher_is_better: bool = True) -> str:
    """Return yes if all intervals lie on the good side, no if one lies on the bad.

    Examples
    --------
    >>> verdict_of([{"mean": 0.2, "low": 0.1, "high": 0.3}])
    'yes'
    >>> verdict_of([{"mean": 0.2, "low": -0.1, "high": 0.5}])
    'not shown'
    """
    given = list(differences)
    if any(above_zero(d, better=not higher_is_better) for d in given):
        return NO
    good = [above_zero(d, better=higher_is_better) for d in given]
    return YES if good and all(good) else NOT_SHOWN


def headline(content: Content, group: Group, verdict: str) -> str:
    """Say what Emo-Q and two-scale units do; the verdict is that of `HEADLINE`."""
    e, chosen, rate = group.main, group.selected, _lowest(group)
    gain = _difference(content, group, BALANCED, "macro_f1")
    if gain is None:
        return f"{display_name(content.emoq)} was not compared with balanced RVQ."
    if chosen:
        bits = number(_chosen_bits(group, "chosen"), 0)
        where = f"the rate that validation speakers chose ({bits} bit/s)"
        emoq = as_triple(chosen["scores"]["macro_f1"])
    else:
        where = f"the lowest rate, {rate_name(rate)} ({e.rates[rate]:g} bit/s)"
        emoq = e.role(rate, EMOQ_ROLE)["macro_f1"]
    capacity = _difference(content, group, CAPACITY_CONTROL, "macro_f1")
    beside = [f"continuous features {_percent(e.bound()['mean'])}"] * bool(e.bound())
    if capacity:
        level = emoq["mean"] - capacity["mean"]
        beside.append(f"capacity control {_percent(level)}")
    meaning = {
        YES: "Emo-Q keeps more emotion",
        NO: "Emo-Q keeps less emotion",
        NOT_SHOWN: "a difference is not shown",
    }[verdict]
    return (
        f"At {where}, Emo-Q scores {_percent(emoq['mean'])} macro-F1 and balanced RVQ "
        f"{_percent(emoq['mean'] - gain['mean'])}"
        f"{f' ({', '.join(beside)})' if beside else ''}: a difference of "
        f"{_points(gain)}, so {meaning}.{_two_scale(e)}"
    )


def _two_scale(e: Experiment) -> str:
    """Say what two-scale units have above balanced RVQ at their lowest rate, if any."""
    for rate in e.rates:
        best = e.role(rate, TWO_SCALE)
        if gain := best.get("differences", {}).get(BALANCED):
            return (
                f" Two-scale units ({rate_name(rate)} and a clip code) score "
                f"{_percent(best['macro_f1']['mean'])}, {_points(gain)} to balanced "
                f"RVQ {rate_name(rate)}."
            )
    return ""


def _percent(mean: float) -> str:
    return f"{number(100 * mean)}{SPACE}%"


def _points(triple: Triple) -> str:
    return spell_metric(triple, "macro_f1", sign=True, unit=" points")


def _lowest(group: Group) -> str | None:
    """Return the lowest rate at which Emo-Q was scored."""
    there = {entry["rate"] for entry in group.main.best if entry["role"] == EMOQ_ROLE}
    return next((rate for rate in group.main.rates if rate in there), None)


def _difference(
    content: Content, group: Group, reference: str, metric: str
) -> Triple | None:
    """Return Emo-Q minus a reference at the setting that all tests share."""
    e, rate, kind = group.main, _lowest(group), System.parse(reference).expert_set
    if group.selected:
        return as_triple(
            (group.selected.get(f"difference_to_{kind}") or {}).get(metric)
        )
    if rate is None:
        return None
    if metric == "macro_f1":
        return as_triple(e.role(rate, EMOQ_ROLE)["differences"].get(kind))
    return e.difference(rate, content.emoq, metric, reference)


# -------------------------------------------------------------------------- questions


def _disproportionate(group: Group) -> Answer:
    e, kinds = group.main, {"phone": "phones", "speaker": "the speaker"}
    by_rate = {
        rate: {
            name: d
            for k, name in kinds.items()
            if (d := e.control(rate, BALANCED, f"emotion_minus_{k}"))
        }
        for rate in e.rates
    }
    rate = next((r for r in e.rates if by_rate[r]), None)
    names = list(by_rate[rate]) if rate else list(kinds.values())
    question = (
        f"Does quantization at a low rate cost more emotion than {' and '.join(names)}?"
    )
    test = (
        "Balanced RVQ at the lowest rate, share lost of what is above chance: emotion "
        f"minus {' and emotion minus '.join(names)}; yes if every interval lies above "
        "zero, no if one lies below."
    )
    if rate is None:
        why = "Phone and speaker probes were not run."
        return Answer(question, test, finding=why)
    lost = _percent(e.control(rate, BALANCED, "emotion_loss")["mean"])
    minus = [f"minus {name} {_points(d)}" for name, d in by_rate[rate].items()]
    finding = f"At {rate_name(rate)}: emotion loses {lost}; {'; '.join(minus)}."
    return Answer(question, test, verdict_of(by_rate[rate].values()), finding)


def _uneven(content: Content, group: Group) -> Answer:
    e = group.main
    question = "Is the loss uneven across emotions?"
    test = (
        "Balanced RVQ at the lowest rate, recall lost by each emotion against "
        "continuous features in each test fold: Friedman's test over folds; yes if "
        f"p < {P_LEVEL}."
    )
    rate = next((r for r in e.rates if e.score(r, BALANCED)), None)
    before = content.fold_recalls(e, CONTINUOUS, CONTINUOUS)
    after = content.fold_recalls(e, rate, BALANCED) if rate else {}
    folds = [fold for fold in before if fold in after]
    if not folds or len(content.emotions) < MIN_EMOTIONS:
        why = "Recalls of single folds are not at hand."
        return Answer(question, test, finding=why)
    lost = np.array([np.subtract(before[f], after[f]) for f in folds])
    p, means = friedman(lost), 100 * lost.mean(axis=0)
    spelt = [
        f"{content.emotions[n]} {number(means[n], sign=True)}"
        for n in np.argsort(-means, kind="stable")
    ]
    finding = (
        f"At {rate_name(rate)}, {len(folds)} folds: p = {number(p, 3)}. Points lost, "
        f"mean over folds: {', '.join(spelt)}."
    )
    return Answer(question, test, YES if p < P_LEVEL else NOT_SHOWN, finding)


def friedman(losses: np.ndarray) -> float:
    """Return p of Friedman's test on (folds, emotions): emotions are ranked alike.

    1 where there are fewer than two folds, or nothing to rank.
    """
    from scipy.stats import friedmanchisquare

    if len(losses) < 2 or np.ptp(losses, axis=1).max() == 0:
        return 1.0
    return float(friedmanchisquare(*losses.T).pvalue)


def _compared(
    content: Content, group: Group, question: str, reference: str, metric: str
) -> Answer:
    kind = METRICS[metric]
    setting = f"{display_name(content.emoq)}, at the lowest rate"
    if group.selected:
        setting = (
            "Emo-Q with the quantizer, rate and router that each fold's validation "
            "speakers chose"
        )
    elif metric == "macro_f1":
        setting = (
            "Emo-Q at the lowest rate, for each test fold with the system that is best "
            "on the other test folds"
        )
    test = (
        f"{setting}, minus {display_name(reference)} at the same rate: {kind.name}, "
        "paired interval over speakers; yes if it lies "
        f"{'above' if kind.higher_is_better else 'below'} zero."
    )
    if metric == "js" and group.main.metadata.get("soft_targets") == "one-hot":
        return Answer(question, test, finding="This corpus has no votes of raters.")
    difference = _difference(content, group, reference, metric)
    if difference is None:
        return Answer(question, test)
    verdict = verdict_of([difference], higher_is_better=kind.higher_is_better)
    unit = " points" if kind.unit else ""
    spelt = spell_metric(difference, metric, sign=True, unit=unit)
    return Answer(question, test, verdict, f"{kind.name}: {spelt}.")


def _lower_rate(group: Group) -> Answer:
    question = "Does Emo-Q recognise emotion better at a lower bitrate?"
    test = (
        "Emo-Q and balanced RVQ, each at the setting that validation speakers chose: "
        "macro-F1, paired interval over speakers; yes if it lies above zero and Emo-Q "
        "has the lower bitrate, route included."
    )
    found = group.selected.get("difference_to_best_balanced") or {}
    difference = as_triple(found.get("macro_f1"))
    if difference is None:
        why = "No setting was chosen by validation speakers."
        return Answer(question, test, finding=why)
    emoq, balanced = (_chosen_bits(group, k) for k in ("chosen", "chosen_balanced"))
    verdict = verdict_of([difference])
    if verdict == YES and emoq >= balanced:
        verdict = NOT_SHOWN
    finding = (
        f"Emo-Q at {number(emoq)} bit/s minus balanced RVQ at {number(balanced)} bit/s "
        f"(means over folds): {_points(difference)}."
    )
    return Answer(question, test, verdict, finding)


def _chosen_bits(group: Group, name: str) -> float:
    """Return nominal bit/s, route included, of the settings that were chosen."""
    experiments = {e.metadata["quantizer"]: e for e in (group.main, *group.others)}
    bits = []
    for choice in group.selected[name].values():
        e = experiments[choice["quantizer"]]
        rates = e.score(choice["rate"], choice["system"])["bitrate_bps"]
        bits.append(rates["nominal"] + rates["side_info"])
    return float(np.mean(bits))
