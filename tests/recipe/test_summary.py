"""The summary of a small study against the predictions and measures on disk."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from emoq_plugin.bin import report
from emoq_plugin.data.folds import speaker_folds, write_folds
from emoq_plugin.evaluation.metrics import macro_f1
from emoq_plugin.evaluation.predictions import (
    Prediction,
    key_of,
    read_predictions,
    write_predictions,
)
from emoq_plugin.evaluation.results import Results
from emoq_plugin.files import read_json, read_table
from emoq_plugin.recipe.study.experiments import load_experiments
from emoq_plugin.recipe.study.headline import describe_selection, rate_saving
from emoq_plugin.recipe.study.retained import chance_of, over_folds, relative_losses
from emoq_plugin.recipe.study.selection import Setting, choose, select
from tests.recipe.small_study import EMOTIONS, STUDY

SYSTEM = "specific-distortion"


@pytest.fixture(scope="module")
def summary(finished):
    return read_json(finished.output / "summary.json")


@pytest.fixture(scope="module")
def experiment(finished):
    experiments, missing = load_experiments(finished.study())
    assert len(experiments) == 1 and not missing
    return experiments[0]


def test_a_score_is_the_mean_over_seeds_of_the_pooled_folds(finished, summary):
    by_seed = []
    for seed in (0, 1):
        truth, guess = [], []
        for fold in (1, 2):
            path = finished.output / f"toy-fbank-tiny-s{seed}/fold{fold}/ser"
            conditions = {p.key: p for p in read_predictions(path / "posteriors.jsonl")}
            condition = conditions[key_of("4x1", SYSTEM)]
            truth += [u.split("-")[1][:-1] for u in condition.utterances]
            guess += [EMOTIONS[c] for c in condition.posteriors.argmax(axis=1)]
        by_seed.append(macro_f1(truth, guess, labels=EMOTIONS))
    score = next(
        s
        for s in summary["scores"]
        if (s["rate"], s["system"], s["head"]) == ("4x1", SYSTEM, "retrained")
    )
    found = score["metrics"]["macro_f1"]
    assert found["by_seed"] == pytest.approx(by_seed)
    assert found["mean"] == pytest.approx(np.mean(by_seed))
    assert found["low"] <= found["mean"] <= found["high"]
    assert np.sum(score["confusion"]) == 2 * 48  # clips of two seeds


def test_the_summary_has_the_form_of_results(finished, summary):
    results = Results.read(finished.output / "summary.json")
    assert json.loads(json.dumps(results.to_json())) == summary
    assert results.name == "tiny" and results.experiments[0].seeds == [0, 1]
    emoq = [best for best in results.best if best.role == "emoq"]
    assert [best.rate for best in emoq] == ["4x1", "4x2"]
    for best in emoq:  # one candidate: chosen in both folds, of both seeds
        assert set(best.systems.values()) == {SYSTEM}
        found = results.score(best.rate, SYSTEM).metrics["macro_f1"]
        assert best.macro_f1 == found


def test_every_condition_has_a_line_with_measures_and_heads(finished, summary):
    text = (finished.output / "conditions.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in text]
    # Two seeds, two folds, two rates of five systems, and the continuous features.
    assert len(lines) == summary["conditions"] == 2 * 2 * (2 * 5 + 1)
    routed = next(x for x in lines if x["system"] == SYSTEM)
    assert set(routed["heads"]) == {"retrained", "frozen", "route"}
    assert routed["measures"]["distortion"]["all"] > 0
    beside = next(x for x in lines if x["system"] == f"balanced+{SYSTEM}")
    assert set(beside["heads"]) == {"retrained"} and beside["measures"] is None


def test_codes_with_a_route_beside_them_cost_both(summary):
    bits = {
        s["system"]: s["bitrate_bps"]
        for s in summary["scores"]
        if (s["rate"], s["head"]) == ("4x1", "retrained")
    }
    both = bits[f"balanced+{SYSTEM}"]
    assert both["entropy"] == bits["balanced"]["entropy"]
    assert both["side_info"] == bits[SYSTEM]["side_info"] > 0


def test_comparisons_are_adjusted_within_their_family(summary):
    found = [c for c in summary["comparisons"] if c["metric"] == "macro_f1"]
    assert {(c["system"], c["reference"]) for c in found} == {
        (SYSTEM, "balanced"),
        (SYSTEM, "capacity-distortion"),
        (SYSTEM, f"balanced+{SYSTEM}"),
        (SYSTEM, "continuous"),
        ("balanced", "continuous"),
    }
    for comparison in found:
        assert comparison["p"] <= comparison["p_holm"] <= 1
    pair = [
        c for c in found if c["reference"] == "continuous" and c["system"] == SYSTEM
    ]
    assert len({c["family"] for c in pair}) == 1 and len(pair) == 2
    smaller, larger = sorted(c["p"] for c in pair)
    assert min(c["p_holm"] for c in pair) == min(1, 2 * smaller)


def test_recalls_of_all_emotions_are_one_family(summary):
    found = [
        c
        for c in summary["comparisons"]
        if c["metric"].startswith("recall/")
        and (c["rate"], c["system"], c["reference"]) == ("4x1", SYSTEM, "balanced")
    ]
    assert {c["metric"] for c in found} == {f"recall/{e}" for e in summary["emotions"]}
    assert len({c["family"] for c in found}) == 1


def test_one_test_speaker_gives_a_summary_without_intervals_that_says_why(make_place):
    place = make_place(STUDY.replace("[0, 1]", "[0]"))
    folds = place.here / "data" / "folds"
    speaker = read_table(place.here / "dump" / "raw" / "all" / "utt2spk")
    shutil.rmtree(folds)
    write_folds(folds, speaker_folds(speaker, n_folds=4, n_valid_speakers=1))
    place.call("--job", 1)
    place.call("--aggregate")
    found = read_json(place.output / "summary.json")
    assert "one test speaker" in found["experiments"][0]["no_interval"]
    assert all(np.isfinite(c["difference"]["mean"]) for c in found["comparisons"])
    assert {c["p"] for c in found["comparisons"]} == {None}
    emoq = next(b for b in found["best"] if b["role"] == "emoq")
    assert emoq["differences"]["balanced"]["low"] is None
    report.main([str(place.output)])
    page = (place.output / "report.html").read_text()
    assert "No interval: one test speaker" in page and "nan" not in page


def test_numbers_of_lines_are_averaged_over_seeds_then_folds():
    lines = [
        {"fold": "1", "cka": 1.0, "levels": [{"x": 0.0}], "drift": {"sad": 1}},
        {"fold": "1", "cka": 3.0, "levels": [{"x": 0.0}], "drift": {"sad": None}},
        {"fold": "2", "cka": 6.0, "levels": [{"x": 1.0}], "drift": None},
    ]
    found = over_folds(lines)
    assert found["cka"]["mean"] == 4.0  # not 10 / 3
    assert (found["cka"]["low"], found["cka"]["high"]) == (2.0, 6.0)
    assert found["levels"][0]["x"]["mean"] == 0.5
    assert found["drift"]["sad"] == {"mean": 1.0, "low": None, "high": None}


def test_continuous_features_in_the_place_of_units_lose_nothing(experiment):
    bound = experiment.conditions["continuous/retrained"]
    lines = [m for m in experiment.measures if m["rate"] == "continuous"]
    same = replace(
        experiment,
        conditions=experiment.conditions | {key_of("4x1", SYSTEM): bound},
        measures=lines + [m | {"rate": "4x1", "system": SYSTEM} for m in lines],
    )
    loss = relative_losses(same)["4x1", SYSTEM]
    assert set(loss) == {"emotion", "speaker"}
    for samples in loss.values():
        np.testing.assert_allclose(samples, 0.0, atol=1e-12)


def test_the_chance_of_the_speaker_probe_is_one_of_all_speakers(experiment):
    assert chance_of(experiment, "speaker") == 1 / 4


def prediction(right, *, rate="4x1", system=SYSTEM):
    posteriors = np.full((6, 3), 0.1)
    guess = np.arange(6) % 3
    guess[right:] = (guess[right:] + 1) % 3
    posteriors[np.arange(6), guess] = 0.8
    names = [f"u{n}" for n in range(6)]
    bits = {"nominal": 100.0, "entropy": 90.0, "side_info": 1.0}
    return Prediction("1", rate, system, "retrained", bits, EMOTIONS, names, posteriors)


def test_the_best_condition_on_validation_clips_is_chosen(tmp_path):
    write_predictions(tmp_path / "a", [prediction(3), prediction(5, rate="4x2")])
    write_predictions(tmp_path / "b", [prediction(4), prediction(2, rate="4x2")])
    candidates = [Setting(q, rate, SYSTEM) for q in "ab" for rate in ("4x1", "4x2")]
    labels = {f"u{n}": n % 3 for n in range(6)}
    targets = {u: np.eye(3)[c] for u, c in labels.items()}
    files = {q: tmp_path / q for q in "ab"}
    best, score = choose(candidates, files, labels, targets, below=101)
    assert best == Setting("a", "4x2", SYSTEM)
    truth, guess = [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 0]
    assert score == pytest.approx(macro_f1(truth, guess, labels=[0, 1, 2]))
    missing = [*candidates, Setting("b", "8x1", SYSTEM)]
    with pytest.raises(
        ValueError, match="b lacks condition 8x1/specific-distortion/retr"
    ):
        choose(missing, files, labels, targets, below=101)


def test_streams_and_route_count_in_what_may_be_chosen(tmp_path):
    better, cheap = prediction(6), prediction(3, rate="4x2")
    bits = {"nominal": 200.0, "entropy": 90.0, "side_info": 1.0}  # two streams
    write_predictions(tmp_path / "a", [replace(better, bitrate_bps=bits), cheap])
    candidates = [Setting("a", rate, SYSTEM) for rate in ("4x1", "4x2")]
    labels = {f"u{n}": n % 3 for n in range(6)}
    targets = {u: np.eye(3)[c] for u, c in labels.items()}
    chosen = {
        below: choose(candidates, {"a": tmp_path / "a"}, labels, targets, below=below)
        for below in (201, 200, 101, 100)
    }
    rates = {below: found and found[0].rate for below, found in chosen.items()}
    assert rates == {201: "4x1", 200: "4x2", 101: "4x2", 100: None}


def test_bits_of_a_chosen_setting_are_counted_over_all_seconds(finished, experiment):
    found = select(finished.study(), [experiment], [SYSTEM])
    bits = seconds = 0.0
    for fold, (setting, _) in found.chosen.items():
        condition = experiment.conditions[setting.key][0].folds[fold]
        seconds += condition.seconds
        bits += condition.seconds * (
            condition.bitrate_bps["nominal"] + condition.bitrate_bps["side_info"]
        )
    assert seconds == pytest.approx(48 * 20 / 50)
    assert found.bitrate() == pytest.approx(bits / seconds)


def test_the_choice_does_not_read_test_predictions(finished, experiment):
    chosen = select(finished.study(), [experiment], [SYSTEM, "balanced"]).chosen
    spoiled = replace(experiment, conditions={})
    files = sorted(finished.output.rglob("posteriors.jsonl"))
    kept = [path.read_bytes() for path in files]
    try:
        for path in files:
            path.unlink()
        assert (
            select(finished.study(), [spoiled], [SYSTEM, "balanced"]).chosen == chosen
        )
    finally:
        for path, content in zip(files, kept):
            path.write_bytes(content)


def test_a_selection_of_balanced_is_balanced_itself(finished, experiment):
    plain = select(finished.study(), [experiment], ["balanced"])
    assert plain.bitrate() == plain.bitrate("balanced")
    for a, b in zip(plain.sums(), plain.sums("balanced")):
        np.testing.assert_array_equal(a.confusions, b.confusions)
    rows = [plain.main.rows_of(fold) for fold in plain.chosen]
    assert (np.sum(rows, axis=0) == 1).all()


def test_the_summary_holds_the_choice(summary):
    selected = summary["selected"]
    assert set(selected["chosen"]) == {"1/0", "1/1", "2/0", "2/1"}
    assert {s["system"] for s in selected["chosen"].values()} == {SYSTEM}
    change = selected["difference_to_balanced"]["macro_f1"]
    gain = (
        selected["scores"]["macro_f1"]["mean"]
        - selected["balanced"]["macro_f1"]["mean"]
    )
    assert change["mean"] == pytest.approx(gain)
    assert len(summary["examples"]) == 2 * len(EMOTIONS)


def test_a_quantizer_that_no_fold_chose_needs_no_control(finished, experiment):
    study = finished.study()
    emoq, plain = (select(study, [experiment], [s]) for s in (SYSTEM, "balanced"))
    study.config.quantizers["other"] = {"systems": ["balanced", SYSTEM]}
    emoq.experiments["other"] = experiment
    assert "difference_to_capacity" in describe_selection(study, emoq, plain)


def fake(scores):
    """Return an experiment whose systems reach these macro-F1 at these rates."""

    def condition(rate, system):
        return [SimpleNamespace(rate=rate, system=system, head="retrained")]

    class Perfect:
        def __init__(self, value):
            self.value = value

        def metrics(self, weights):
            return {"macro_f1": np.full(len(weights), self.value)}

    return SimpleNamespace(
        name="x",
        weights=np.ones((3, 2)),
        conditions={key_of(*pair): condition(*pair) for pair in scores},
        sums={key_of(*pair): [Perfect(value)] for pair, value in scores.items()},
        bitrate=lambda key: {"nominal": 100.0 * int(key[0]), "side_info": 0.0},
    )


def test_the_rate_saving_is_to_the_best_balanced_rate():
    balanced = {("1x1", "balanced"): 0.4, ("2x1", "balanced"): 0.7}
    balanced |= {("4x1", "balanced"): 0.6}
    routed = {("1x1", SYSTEM): 0.7, ("2x1", SYSTEM): 0.8}
    found = rate_saving(fake(balanced | routed), SYSTEM)
    assert (found["best_balanced"]["rate"], found["emoq"]["rate"]) == ("2x1", "1x1")
    assert found["ratio"] == 0.5
    never = rate_saving(fake(balanced | {("1x1", SYSTEM): 0.1}), SYSTEM)
    assert never["emoq"] is None and never["ratio"] is None
