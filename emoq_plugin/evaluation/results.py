"""Scores of an experiment (`scores.json`) and their page (`RESULTS.md`).

All folds are pooled: every utterance is predicted in exactly one test fold, and each
metric is computed once on all of them, with an interval over speakers.
"""

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoq_plugin.evaluation.intervals import (
    SpeakerSums,
    draw_speakers,
    percentile_interval,
    speaker_confusions,
    speaker_sums,
    why_no_interval,
    with_everyone,
)
from emoq_plugin.evaluation.metrics import SOFT_METRICS
from emoq_plugin.evaluation.predictions import (
    HEADS,
    Prediction,
    read_predictions,
)
from emoq_plugin.routing.systems import CONTINUOUS, System, display_name, is_control

if TYPE_CHECKING:
    from emoq_plugin.data.directory import DataDirectory

LEVEL = 0.95
# An utterance is clear when more than half of its raters agree (METHOD: 50 %).
CLEAR_SHARE = 0.5

# ---------------------------------------------------------------- pooling of the folds


@dataclass
class Condition:
    """One rate, system and head over all folds; rows follow the common utterances."""

    rate: str
    system: str
    head: str
    bitrate_bps: dict[str, float] | None
    posteriors: np.ndarray  # (N, C)
    folds: dict[str, Prediction] = field(default_factory=dict)


def read_conditions(
    files: Iterable[str | Path], emotions: Sequence[str]
) -> dict[str, dict[str, Prediction]]:
    """Sort all predictions into condition -> fold -> prediction.

    Raises
    ------
    ValueError
        For another class order, or a condition that is predicted twice in a fold.
    """
    conditions: dict[str, dict[str, Prediction]] = {}
    for path in files:
        for prediction in read_predictions(path):
            if prediction.emotions != list(emotions):
                raise ValueError(
                    f"{path}: condition {prediction.key} has classes "
                    f"{prediction.emotions}, "
                    f"expected {list(emotions)} in this order"
                )
            folds = conditions.setdefault(prediction.key, {})
            if prediction.fold in folds:
                raise ValueError(
                    f"{path}: condition {prediction.key} is predicted twice in fold "
                    f"{prediction.fold}: give each prediction file once"
                )
            folds[prediction.fold] = prediction
    if not conditions:
        raise ValueError("no prediction files given")
    return conditions


def check_same_folds(
    conditions: dict[str, dict[str, Prediction]],
) -> dict[str, set[str]]:
    """Refuse conditions that miss folds or differ in the utterances of a fold.

    Returns
    -------
    tested : dict of str to set of str
        Utterances by fold.

    Raises
    ------
    ValueError
        Naming the condition, or the utterance that two folds test.
    """
    tested: dict[str, set[str]] = {}
    for folds in conditions.values():
        for fold, prediction in folds.items():
            tested.setdefault(fold, set(prediction.utterances))
    for key, folds in conditions.items():
        if missing := sorted(set(tested) - set(folds)):
            raise ValueError(
                f"condition {key} misses folds {missing} that other conditions have"
            )
        for fold, prediction in folds.items():
            if odd := sorted(tested[fold] ^ set(prediction.utterances)):
                raise ValueError(
                    f"condition {key}, fold {fold}: utterances {odd[:5]} are predicted "
                    "in some conditions and not in others"
                )
    seen: dict[str, str] = {}
    for fold in sorted(tested):
        for utterance in sorted(tested[fold]):
            if utterance in seen:
                raise ValueError(
                    f"utterance {utterance} is predicted in fold {seen[utterance]} and "
                    f"in fold {fold}, expected exactly one test fold"
                )
            seen[utterance] = fold
    return tested


def mean_bitrate(folds: Iterable[Prediction]) -> dict[str, float] | None:
    """Return the bits of all folds together by their seconds."""
    folds = list(folds)
    if any(prediction.bitrate_bps is None for prediction in folds):
        return None
    weights = [prediction.seconds for prediction in folds]
    if None in weights:
        weights = [len(prediction.utterances) for prediction in folds]
        if any(p.bitrate_bps != folds[0].bitrate_bps for p in folds):
            logging.warning(
                "%s: its predictions are without 'seconds', so the bit/s of folds are "
                "weighted by their clips: run stages 5 and 6 again",
                folds[0].key,
            )
    names = [n for n in folds[0].bitrate_bps if all(n in p.bitrate_bps for p in folds)]
    return {
        name: float(np.average([p.bitrate_bps[name] for p in folds], weights=weights))
        for name in names
    }


def pool_folds(folds: Mapping[str, Prediction], utterances: Sequence[str]) -> Condition:
    """Join the folds of a condition, rows in the order of `utterances`."""
    row = {u: n for n, u in enumerate(u for p in folds.values() for u in p.utterances)}
    stacked = np.concatenate([p.posteriors for p in folds.values()])
    first = next(iter(folds.values()))
    return Condition(
        rate=first.rate,
        system=CONTINUOUS if first.rate == CONTINUOUS else first.system,
        head=first.head,
        bitrate_bps=mean_bitrate(folds.values()),
        posteriors=stacked[[row[u] for u in utterances]],
        folds=dict(folds),
    )


# ---------------------------------------------------------------------------- scoring


@dataclass
class Reference:
    """What every condition is compared with, and the common draws of speakers."""

    emotions: list[str]
    labels: np.ndarray  # (N,) class or -1
    classes: list[int]  # classes that occur: the label set of the hard metrics
    targets: np.ndarray  # (N, C)
    speakers: np.ndarray  # (N,) index
    draws: np.ndarray  # (R, S); R is 0 where there is one speaker
    weights: np.ndarray  # (1 + R, S), `with_everyone`
    parts: dict[str, np.ndarray]  # ambiguity -> (N,) bool, empty without votes


def make_reference(
    data: "DataDirectory",
    utterances: list[str],
    emotions: list[str],
    *,
    n_resamples: int,
    seed: int,
) -> Reference:
    """Return labels, vote shares and speakers of the pooled utterances.

    Raises
    ------
    ValueError
        If an utterance is unknown, or none has a label.
    """
    if unknown := [u for u in utterances if u not in data.speaker]:
        raise ValueError(
            f"{data.path}: utterances {unknown[:5]} are predicted but not in utt2spk: "
            "score with the data directory that was predicted"
        )
    labels = data.labels(utterances, emotions)
    if not (labels >= 0).any():
        raise ValueError(
            f"{data.path}: none of the {len(utterances)} predicted utterances has a "
            "label in utt2emo"
        )
    spoken_by = [data.speaker[u] for u in utterances]
    number = {name: n for n, name in enumerate(sorted(set(spoken_by)))}
    targets = data.targets(utterances, emotions)
    voted = np.array([u in data.votes for u in utterances])
    clear = targets.max(1) > CLEAR_SHARE
    parts = {"low": voted & clear, "high": voted & ~clear} if voted.any() else {}
    if why_no_interval(len(number)):
        draws = np.ones((0, len(number)))
    else:
        draws = draw_speakers(len(number), n_resamples, seed=seed)
    return Reference(
        emotions=emotions,
        labels=labels,
        classes=sorted(set(labels[labels >= 0].tolist())),
        targets=targets,
        speakers=np.array([number[name] for name in spoken_by]),
        draws=draws,
        weights=with_everyone(draws),
        parts={name: rows for name, rows in parts.items() if rows.any()},
    )


def sum_by_speaker(
    posteriors: np.ndarray, reference: Reference, rows: np.ndarray | None = None
) -> SpeakerSums:
    """Compare posteriors with the reference and sum over each speaker's utterances.

    Parameters
    ----------
    posteriors : (N, C) array
    reference : Reference
    rows : (N,) bool array, optional
        Utterances that count; all by default. Only those with a label count in the
        hard metrics.
    """
    n_speakers = reference.draws.shape[1]
    rows = np.ones(len(posteriors), dtype=bool) if rows is None else rows
    hard = rows & (reference.labels >= 0)
    soft = [
        metric(reference.targets[rows], posteriors[rows])
        for metric in SOFT_METRICS.values()
    ]
    return SpeakerSums(
        confusions=speaker_confusions(
            reference.labels[hard],
            posteriors[hard].argmax(1),
            labels=reference.classes,
            speakers=reference.speakers[hard],
            n_speakers=n_speakers,
        ),
        soft=speaker_sums(
            np.stack(soft, axis=1), reference.speakers[rows], n_speakers=n_speakers
        ),
        sizes=np.bincount(reference.speakers[rows], minlength=n_speakers) * 1.0,
        classes=tuple(reference.emotions[label] for label in reference.classes),
    )


def intervals(samples: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Turn `SpeakerSums.metrics` of `with_everyone` into triples.

    `recall/<class>` goes into a table of its own. A metric that is undefined on all
    utterances together is left out.
    """
    result: dict[str, Any] = {}
    for name, (value, *resampled) in samples.items():
        if not np.isfinite(value):
            continue
        triple = percentile_interval(value, np.array(resampled), level=LEVEL)
        table, _, emotion = name.partition("/")
        if emotion:
            result.setdefault(table, {})[emotion] = triple
        else:
            result[name] = triple
    return result


def _score_condition(
    condition: Condition, samples: Mapping[str, np.ndarray], reference: Reference
) -> dict:
    score = {
        "rate": condition.rate,
        "system": condition.system,
        "name": display_name(condition.system),
        "control": is_control(condition.system),
        "head": condition.head,
        "bitrate_bps": condition.bitrate_bps,
        "n_resamples": len(reference.draws),
        **intervals(samples),
    }
    if reference.parts:
        score["ambiguity"] = {
            part: {
                "n_utterances": int(rows.sum()),
                **intervals(
                    sum_by_speaker(condition.posteriors, reference, rows).metrics(
                        reference.weights
                    )
                ),
            }
            for part, rows in reference.parts.items()
        }
    return score


def score_experiment(
    prediction_files: Iterable[str | Path],
    data: "DataDirectory",
    *,
    emotions: Sequence[str],
    corpus: str,
    tag: str,
    synthetic: bool,
    facts: Mapping[str, Any] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score every condition of an experiment on all folds pooled.

    Hard metrics use the utterances that have a label and the classes that occur among
    them (`scored_emotions`). Soft metrics use all utterances: vote shares where raters
    voted, one-hot labels elsewhere.

    Parameters
    ----------
    prediction_files : iterable of str or Path
        Files of `write_predictions`, all conditions and folds together.
    data : DataDirectory
        Speakers, labels and votes of the predicted utterances.
    emotions : sequence of C str
        Class order.
    corpus, tag : str
        Names shown with every number.
    synthetic : bool
        True for speech that no human spoke.
    facts : mapping, optional
        More entries: `feature`, `quantizer`, `command`, `environment`.
    n_resamples, seed : int
        Of the bootstrap over speakers, common to all conditions.

    Returns
    -------
    dict
        Content of `scores.json`. Each metric is `{"mean", "low", "high"}`: the value on
        all utterances and its 95 % interval; with one test speaker the ends are None,
        and `interval` says why.

    Raises
    ------
    ValueError
        If a condition misses a fold, an utterance is predicted twice or unknown, class
        orders differ, or `facts` would replace a computed entry.
    """
    emotions = list(emotions)
    by_condition = read_conditions(prediction_files, emotions)
    folds = check_same_folds(by_condition)
    utterances = sorted(set().union(*folds.values()))
    reference = make_reference(
        data, utterances, emotions, n_resamples=n_resamples, seed=seed
    )
    systems: dict[str, dict] = {}
    samples: dict[str, dict[str, np.ndarray]] = {}
    for key in sorted(by_condition):
        condition = pool_folds(by_condition[key], utterances)
        sums = sum_by_speaker(condition.posteriors, reference)
        samples[key] = sums.metrics(reference.weights)
        systems[key] = _score_condition(condition, samples[key], reference)
    for key, system in systems.items():
        balanced = f"{system['rate']}/balanced/{system['head']}"
        if balanced in systems and balanced != key:
            change = {n: samples[key][n] - samples[balanced][n] for n in samples[key]}
            system["difference_to_balanced"] = intervals(change)
    scores = {
        "corpus": corpus,
        "synthetic": synthetic,
        "tag": tag,
        "folds": sorted(folds),
        "feature": None,
        "quantizer": None,
        "emotions": emotions,
        "scored_emotions": [emotions[label] for label in reference.classes],
        "n_utterances": len(utterances),
        "n_labelled": int((reference.labels >= 0).sum()),
        "n_speakers": reference.draws.shape[1],
        "soft_targets": "votes" if reference.parts else "one-hot",
        "interval": {
            "level": LEVEL,
            "unit": "speaker",
            "n_resamples": len(reference.draws),
            "seed": seed,
            "absent": why_no_interval(reference.draws.shape[1]),
        },
    }
    facts = dict(facts or {})
    if clash := sorted(n for n in facts if scores.get(n) is not None or n == "systems"):
        raise ValueError(f"facts name {clash}, which the scorer itself computes")
    return {**scores, **facts, "systems": systems}


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
