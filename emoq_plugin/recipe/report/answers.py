"""The four questions of arXiv 2603.21224, answered in words from the numbers."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.evaluation.significance import above_zero
from emoq_plugin.recipe.report.blocks import number, rate_name, spell
from emoq_plugin.recipe.report.content import (
    MAIN_HEAD,
    METRICS,
    Content,
    Experiment,
    Triple,
    as_triple,
    is_recall,
)
from emoq_plugin.routing.systems import (
    BIASED,
    CONTINUOUS,
    SPECIFIC,
    display_name,
    is_control,
)

HOLDS = "holds"
PARTLY = "holds in part"
FAILS = "does not hold"
OPEN = "not shown"
UNKNOWN = "not measured"


@dataclass
class Answer:
    """A claim, whether it holds, and why."""

    claim: str
    verdict: str = UNKNOWN
    sentences: list[str] = field(default_factory=list)


def answer_questions(content: Content) -> list[Answer]:
    """Answer the questions by every experiment of the content."""
    questions: list[tuple[str, Callable]] = [
        (
            "Quantization at a low rate takes emotion away disproportionately: more "
            "than phones, more than the speaker.",
            _disproportionate,
        ),
        ("The loss is uneven across emotions.", _uneven),
        (
            "Codebooks learned on (or biased to) one emotion keep more of it than a "
            "balanced codebook, in hard and in soft labels.",
            _specialised,
        ),
        (
            "Emo-Q, one emotion-specialised codebook chosen for each utterance, "
            "recognises emotion better at a lower bitrate.",
            _routed,
        ),
    ]
    answers = []
    for claim, ask in questions:
        answer = Answer(claim)
        verdicts = []
        for experiment in content.experiments:
            verdict, sentences = ask(content, experiment)
            if why := experiment.facts.get("no_interval"):
                verdict = OPEN
                sentences = [f"The numbers decide nothing ({why}).", *sentences]
            if len(content.experiments) > 1:
                sentences = [f"{experiment.name}: {s}" for s in sentences]
            answer.sentences += sentences
            verdicts += [verdict] if verdict != UNKNOWN else []
        if ask is _routed and (chosen := content.summary.get("selected")):
            verdict, sentences = _selected(chosen)
            answer.sentences = sentences + answer.sentences
            alone = any(e.facts.get("no_interval") for e in content.experiments)
            verdicts = [OPEN if alone else verdict, *verdicts]
        answer.verdict = _together(verdicts)
        answers.append(answer)
    return answers


def _together(verdicts: Sequence[str]) -> str:
    kinds = set(verdicts)
    if len(kinds) < 2:
        return verdicts[0] if verdicts else UNKNOWN
    return PARTLY if kinds & {HOLDS, PARTLY} else OPEN


def _where(difference: Triple) -> str:
    if difference["low"] is None or difference["high"] is None:
        return "is not known"
    if above_zero(difference):
        return "lies above zero"
    return (
        "lies below zero" if above_zero(difference, better=False) else "includes zero"
    )


def _points(triple: Triple | None) -> str:
    return spell(triple, scale=100, sign=True, unit=" points")


def _percent(triple: Triple | None) -> str:
    return spell(triple, scale=100, unit=" %")


def _at(experiment: Experiment, rate: str) -> str:
    return f"{rate_name(rate)} ({experiment.rates[rate]:g} bit/s)"


# ---------------------------------------------- 1. emotion against phones and speaker


def _disproportionate(
    content: Content, experiment: Experiment
) -> tuple[str, list[str]]:
    by_rate = {c["rate"]: c for c in experiment.controls if c["system"] == BALANCED}
    rates = [rate for rate in experiment.rates if rate in by_rate]
    if not rates:
        return UNKNOWN, ["Phone and speaker probes were not run."]
    lowest = by_rate[rates[0]]
    sentences, held = [], []
    for control in ("phone", "speaker"):
        name = f"emotion_minus_{control}"
        difference = as_triple(lowest.get(name))
        if difference is None:
            sentences.append(f"There is no {control} probe to compare with.")
            continue
        held.append(above_zero(difference))
        above = [r for r in rates if above_zero(as_triple(by_rate[r].get(name)))]
        below = [
            r
            for r in rates
            if above_zero(as_triple(by_rate[r].get(name)), better=False)
        ]
        sentences.append(
            f"At {_at(experiment, rates[0])} balanced RVQ loses "
            f"{_percent(as_triple(lowest.get('emotion_loss')))} of what emotion "
            f"recognition has above chance, and "
            f"{_percent(as_triple(lowest.get(f'{control}_loss')))} of {control} "
            f"recognition: emotion minus {control} {_points(difference)}, an interval "
            f"that {_where(difference)}. Emotion loses more at {len(above)} of "
            f"{len(rates)} rates, less at {len(below)} (where the interval excludes "
            "zero)."
        )
    if not held:
        return UNKNOWN, sentences
    return (HOLDS if all(held) else PARTLY if any(held) else FAILS), sentences


# ------------------------------------------------------------- 2. uneven over emotions


def recall_loss(
    experiment: Experiment, rate: str, system: str, emotion: str
) -> Triple | None:
    """Return the recall that is lost against continuous features.

    Where no paired comparison was made, the interval adds both variances as if the two
    were independent. They share their speakers: it is rather too wide than too narrow.
    """
    name = f"recall/{emotion}"
    if paired := experiment.difference(rate, system, name, reference=CONTINUOUS):
        return _turned(as_triple(paired["difference"]))
    whole = experiment.bound(f"recall/{emotion}")
    part = experiment.value(rate, system, f"recall/{emotion}")
    return None if whole is None or part is None else independent(whole, part)


def has_paired_recalls(experiment: Experiment) -> bool:
    """Return whether recalls were compared with continuous features in pairs."""
    return any(
        c["reference"] == CONTINUOUS and is_recall(c["metric"])
        for c in experiment.comparisons
    )


def independent(first: Triple, second: Triple) -> Triple:
    """Return the difference of two numbers with intervals, taken as independent.

    Examples
    --------
    >>> one = {"mean": 1.0, "low": 0.7, "high": 1.3}
    >>> two = {"mean": 0.5, "low": 0.1, "high": 0.9}
    >>> {k: round(v, 6) for k, v in independent(one, two).items()}
    {'mean': 0.5, 'low': 0.0, 'high': 1.0}
    """
    mean = first["mean"] - second["mean"]
    sides = [first["low"], first["high"], second["low"], second["high"]]
    if None in sides:
        return {"mean": mean, "low": None, "high": None}
    below = math.hypot(first["mean"] - first["low"], second["high"] - second["mean"])
    above = math.hypot(first["high"] - first["mean"], second["mean"] - second["low"])
    return {"mean": mean, "low": mean - below, "high": mean + above}


def _uneven(content: Content, experiment: Experiment) -> tuple[str, list[str]]:
    rates = [r for r in experiment.rates if experiment.score(r, BALANCED)]
    losses = {
        emotion: loss
        for emotion in content.emotions
        if rates and (loss := recall_loss(experiment, rates[0], BALANCED, emotion))
    }
    if len(losses) < 2:
        return UNKNOWN, [
            "Recalls of balanced RVQ and of continuous features are missing."
        ]
    order = sorted(losses, key=lambda emotion: losses[emotion]["mean"])
    least, most = order[0], order[-1]
    spread = independent(losses[most], losses[least])
    told = "; ".join(f"{e} {_points(_turned(losses[e]))}" for e in reversed(order))
    held = above_zero(spread)
    kept, sentences = _uneven_frames(content, experiment, rates[0])
    # Losses share their speakers: the interval is too wide to deny a difference.
    verdict = HOLDS if held else OPEN
    return _together([verdict, *kept]), sentences + [
        f"Change of recall at {_at(experiment, rates[0])}, balanced RVQ against "
        f"continuous features: {told}. The loss of {most} minus the loss of {least} is "
        f"{_points(spread)}: the interval {'excludes' if held else 'includes'} zero. "
        "(It treats the two losses as independent, and they were picked after looking.)"
    ]


def _uneven_frames(
    content: Content, experiment: Experiment, rate: str
) -> tuple[list[str], list[str]]:
    """Compare how well the frames of each emotion are kept."""
    found = {
        emotion: triple
        for emotion in content.emotions
        if (
            triple := as_triple(
                experiment.measure(rate, BALANCED, f"distortion/{emotion}")
            )
        )
    }
    if len(found) < 2:
        return [], []
    order = sorted(found, key=lambda emotion: found[emotion]["mean"])
    spread = independent(found[order[-1]], found[order[0]])
    told = "; ".join(f"{e} {spell(found[e], digits=2)}" for e in reversed(order))
    held = above_zero(spread)
    return [HOLDS if held else FAILS], [
        f"Frame distortion at {_at(experiment, rate)}, balanced RVQ (1: nothing kept): "
        f"{told}. {order[-1].capitalize()} minus {order[0]} is "
        f"{spell(spread, digits=2, sign=True)}: the interval over folds "
        f"{'excludes' if held else 'includes'} zero."
    ]


def _turned(triple: Triple) -> Triple:
    """Turn the sign of a number and its interval."""
    low, high = triple["low"], triple["high"]
    return {
        "mean": -triple["mean"],
        "low": None if high is None else -high,
        "high": None if low is None else -low,
    }


# --------------------------------------------------------- 3. specialised codebooks


def _specialised(content: Content, experiment: Experiment) -> tuple[str, list[str]]:
    verdicts, sentences = [], []
    for group, name in ((SPECIFIC, "Emotion-specific"), (BIASED, "Emotion-biased")):
        for metric, kind in (("macro_f1", "hard labels"), ("js", "soft labels")):
            cells = [
                c
                for c in experiment.comparisons
                if c["system"].startswith(group)
                and not is_control(c["system"])
                and c["head"] == MAIN_HEAD
                and c["reference"] == BALANCED
                and c["metric"] == metric
            ]
            if cells:
                verdict, sentence = _count(experiment, cells, f"{name}, {kind}")
                verdicts.append(verdict)
                sentences.append(sentence)
    if not verdicts:
        return UNKNOWN, ["No specialised system was compared with balanced RVQ."]
    if experiment.facts.get("soft_targets") == "one-hot":
        sentences.append(
            "This corpus has no votes: soft labels are its hard labels as certainty."
        )
    return _together(verdicts), sentences


def _count(experiment: Experiment, cells: Sequence[dict], name: str) -> tuple[str, str]:
    metric = cells[0]["metric"]
    upward = METRICS[metric].higher_is_better
    better = [c for c in cells if _significant(c, upward)]
    worse = [c for c in cells if _significant(c, not upward)]
    extreme = max if upward else min
    best = extreme(cells, key=lambda c: c["difference"]["mean"])
    corrected = any(c.get("p_holm") is not None for c in cells)
    difference = as_triple(best["difference"])
    told = (
        _points(difference)
        if METRICS[metric].percent
        else spell(difference, digits=3, sign=True)
    )
    sentence = (
        f"{name} ({METRICS[metric].label}): better than balanced RVQ in {len(better)} "
        f"of {len(cells)} cells (rate and router), worse in {len(worse)}, counted "
        "where the paired interval excludes zero"
        f"{' and p after Holm is below 0.05' if corrected else ''}. Largest: "
        f"{display_name(best['system'])} at {_at(experiment, best['rate'])}, {told}."
    )
    if not better:
        return FAILS, sentence
    whole = len(better) > len(cells) / 2 and not worse
    return (HOLDS if whole else PARTLY), sentence


def _significant(comparison: dict, upward: bool) -> bool:
    difference = as_triple(comparison["difference"])
    p = comparison.get("p_holm")
    return above_zero(difference, better=upward) and (p is None or p < 0.05)


# ------------------------------------------------------------------------- 4. Emo-Q


def _routed(content: Content, experiment: Experiment) -> tuple[str, list[str]]:
    system = content.headline_system
    rates = [r for r in experiment.rates if experiment.value(r, system, "macro_f1")]
    rates = [r for r in rates if experiment.value(r, BALANCED, "macro_f1")]
    if not rates:
        return UNKNOWN, [f"{display_name(system)} and balanced RVQ share no rate."]
    best = max(rates, key=lambda r: experiment.value(r, BALANCED, "macro_f1")["mean"])
    goal = experiment.value(best, BALANCED, "macro_f1")
    enough = [
        r
        for r in rates
        if experiment.value(r, system, "macro_f1")["mean"] >= goal["mean"]
    ]
    sentences = [
        f"Balanced RVQ is best at {_at(experiment, best)} with macro-F1 "
        f"{_percent(goal)}" + _bound(experiment) + "."
    ]
    if not enough:
        sentences.append(f"{display_name(system)} does not reach it at any rate.")
        return FAILS, sentences + _checks(experiment, system, rates)
    first = min(enough, key=lambda r: experiment.bitrate(experiment.score(r, system)))
    bits = experiment.bitrate(experiment.score(first, system))
    ratio = bits / experiment.bitrate(experiment.score(best, BALANCED))
    sentences.append(
        f"{display_name(system)} reaches it at {rate_name(first)} ({number(bits)} "
        "bit/s, route included) with "
        f"{_percent(experiment.value(first, system, 'macro_f1'))}: "
        f"{number(ratio, 2)} of the bitrate."
    )
    difference = experiment.difference(first, system, "macro_f1")
    ahead = above_zero(as_triple(difference and difference["difference"]))
    held = [ratio < 1, ahead]
    sentences += _checks(experiment, system, rates)
    verdict = HOLDS if all(held) else PARTLY if any(held) else FAILS
    return verdict, sentences


def _selected(chosen: Mapping) -> tuple[str, list[str]]:
    """Tell what one setting does that was chosen without the test speakers."""
    told, held = [], []
    for name, reference in (
        ("difference_to_balanced", "balanced RVQ at the same rate"),
        ("difference_to_best_balanced", "balanced RVQ at its own chosen rate"),
        ("difference_to_capacity", "the capacity control"),
        ("difference_to_continuous", "continuous features"),
    ):
        difference = as_triple((chosen.get(name) or {}).get("macro_f1"))
        if difference is not None:
            told.append(f"minus {reference} {_points(difference)}")
            if name in ("difference_to_balanced", "difference_to_capacity"):
                held.append(above_zero(difference))
    if not told:
        return UNKNOWN, []
    sentence = (
        "One setting for each fold, chosen by its validation speakers and not by the "
        f"test: {'; '.join(told)} (macro-F1, paired intervals over speakers)."
    )
    return (HOLDS if all(held) else PARTLY if any(held) else FAILS), [sentence]


def _bound(experiment: Experiment) -> str:
    bound = experiment.bound()
    return "" if bound is None else f" (continuous features: {_percent(bound)})"


def _checks(experiment: Experiment, system: str, rates: Iterable[str]) -> list[str]:
    """Compare at equal rate with balanced RVQ and with the controls."""
    sentences = []
    references = [BALANCED, *_controls(experiment)]
    for reference in references:
        told, above = [], 0
        for rate in rates:
            found = experiment.difference(rate, system, "macro_f1", reference=reference)
            if found is None:
                continue
            difference = as_triple(found["difference"])
            above += above_zero(difference)
            told.append(f"{rate_name(rate)} {_points(difference)}")
        if told:
            sentences.append(
                f"At equal codebook size and levels, minus {display_name(reference)}: "
                f"{'; '.join(told)}. The interval lies above zero at {above} of "
                f"{len(told)} rates."
            )
    return sentences


def _controls(experiment: Experiment) -> list[str]:
    """Return the controls that systems were compared with."""
    found = {c["reference"] for c in experiment.comparisons}
    return sorted(reference for reference in found if is_control(reference))
