"""Scoring of an experiment: pooling of folds, systems beside each other, the page."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from emoq_plugin.bin.score import main
from emoq_plugin.evaluation.metrics import jensen_shannon, macro_f1
from emoq_plugin.evaluation.page import render_results
from emoq_plugin.evaluation.predictions import Prediction, write_predictions
from emoq_plugin.evaluation.scoring import score_experiment
from emoq_plugin.files import read_json
from emoq_plugin.routing.systems import display_name, is_control

EMOTIONS = ["angry", "happy", "sad"]
UTTERANCES = [f"s{speaker}-{n}" for speaker in range(4) for n in range(6)]
LABELS = dict(zip(UTTERANCES, [n % 3 for n in range(24)]))
SPEAKER = {u: u.split("-")[0] for u in UTTERANCES}
FOLDS = {"0": UTTERANCES[:12], "1": UTTERANCES[12:]}


class FakeData(SimpleNamespace):
    """What the scorer asks of a data directory."""

    def __init__(self, *, votes=None, labels=None):
        labels = LABELS if labels is None else labels
        super().__init__(
            path="data", speaker=SPEAKER, votes=votes or {}, by_name=labels
        )

    def labels(self, utterances, emotions):
        return np.array([self.by_name.get(u, -1) for u in utterances])

    def targets(self, utterances, emotions):
        one_hot = np.eye(len(emotions))
        rows = [self.votes.get(u, one_hot[self.by_name.get(u, 0)]) for u in utterances]
        return np.array([row / row.sum() for row in rows])


def posteriors(utterances, *, right, seed=0):
    """Return posteriors that are right for a share of the utterances."""
    generator = np.random.default_rng(seed)
    rows = generator.dirichlet(np.ones(3), len(utterances)) * 0.4
    for row, u in zip(rows, utterances):
        shift = 0 if generator.random() < right else 1
        row[(LABELS[u] + shift) % 3] += 0.6
    return rows


def condition(
    fold,
    *,
    rate="64x1",
    system="balanced",
    head="retrained",
    right=0.5,
    bits=300.0,
    seconds=None,
):
    bitrate = {"nominal": 300.0, "entropy": bits, "side_info": 0.5}
    return Prediction(
        fold=fold,
        rate=rate,
        system=system,
        head=head,
        bitrate_bps=None if rate == "continuous" else bitrate,
        emotions=EMOTIONS,
        utterances=FOLDS[fold],
        posteriors=posteriors(FOLDS[fold], right=right, seed=int(fold)),
        seconds=seconds,
    )


def study():
    conditions = []
    for fold in FOLDS:
        conditions += [
            condition(fold, rate="continuous", system="continuous", right=0.9),
            condition(fold, bits=200.0 + 10 * int(fold)),
            condition(fold, system="specific-distortion", right=1.0),
            condition(fold, system="specific-oracle", head="route", right=1.0),
            condition(fold, system="capacity-distortion"),
            condition(fold, rate="4x2", right=0.3),
            condition(fold, head="espnet", right=0.6),
            condition(fold, system="specific-distortion", head="espnet", right=0.8),
        ]
    return conditions


def score(tmp_path, conditions, data=None, **options):
    files = []
    for fold in FOLDS:
        files.append(tmp_path / f"fold{fold}" / "probe.jsonl")
        write_predictions(files[-1], [c for c in conditions if c.fold == fold])
    settings = {"emotions": EMOTIONS, "corpus": "toy", "tag": "fbank"}
    settings |= {"synthetic": True, "n_resamples": 200, **options}
    return score_experiment(files, data or FakeData(), **settings)


def test_all_folds_are_pooled_before_the_metric_is_computed(tmp_path):
    scores = score(tmp_path, study())
    system = scores["systems"]["64x1/balanced/retrained"]
    rows = np.concatenate([condition(f).posteriors for f in FOLDS])
    truth = [LABELS[u] for u in UTTERANCES]
    f1 = macro_f1(truth, rows.argmax(1), labels=[0, 1, 2])
    assert system["macro_f1"]["mean"] == pytest.approx(f1)
    js = jensen_shannon(np.eye(3)[truth], rows).mean()
    assert system["js"]["mean"] == pytest.approx(js, abs=1e-7)
    assert system["bitrate_bps"]["entropy"] == pytest.approx(205)
    assert scores["n_utterances"] == 24 and scores["n_speakers"] == 4
    assert scores["folds"] == ["0", "1"] and scores["soft_targets"] == "one-hot"
    assert set(scores["systems"]) >= {"continuous/retrained", "4x2/balanced/retrained"}
    assert json.loads(json.dumps(scores)) == scores


def test_every_metric_lies_in_its_interval(tmp_path):
    for system in score(tmp_path, study())["systems"].values():
        for name in ("macro_f1", "uar", "wa", "kl", "js", "cosine", "brier"):
            assert system[name]["low"] <= system[name]["mean"] <= system[name]["high"]
        assert set(system["recall"]) == set(EMOTIONS)


def test_differences_stand_where_balanced_has_the_same_rate_and_head(tmp_path):
    systems = score(tmp_path, study())["systems"]
    change = systems["64x1/specific-distortion/retrained"]["difference_to_balanced"]
    gain = systems["64x1/specific-distortion/retrained"]["macro_f1"]["mean"]
    gain -= systems["64x1/balanced/retrained"]["macro_f1"]["mean"]
    assert change["macro_f1"]["mean"] == pytest.approx(gain)
    assert change["macro_f1"]["low"] > 0 > change["js"]["high"]
    # Paired: the control predicts what balanced predicts, so there is no width.
    same = systems["64x1/capacity-distortion/retrained"]["difference_to_balanced"]
    assert same["macro_f1"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    without = ["continuous/retrained", "64x1/balanced/retrained"]
    without.append("64x1/specific-oracle/route")
    assert not any("difference_to_balanced" in systems[key] for key in without)


def test_bits_of_folds_are_weighted_by_seconds(tmp_path):
    conditions = [
        condition("0", bits=100.0, seconds=10.0),  # as many clips in both folds
        condition("1", bits=200.0, seconds=30.0),
    ]
    found = score(tmp_path, conditions)["systems"]["64x1/balanced/retrained"][
        "bitrate_bps"
    ]
    assert found["entropy"] == (10 * 100 + 30 * 200) / 40


def test_one_speaker_gives_scores_without_intervals_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SPEAKER", dict.fromkeys(UTTERANCES, "s0"))
    scores = score(tmp_path, study())
    system = scores["systems"]["64x1/specific-distortion/retrained"]
    for triple in (system["macro_f1"], system["difference_to_balanced"]["macro_f1"]):
        assert np.isfinite(triple["mean"])
        assert triple["low"] is None and triple["high"] is None
    assert "one test speaker" in scores["interval"]["absent"]
    page = render_results(json.loads(json.dumps(scores)))
    assert "Without intervals (one test speaker" in page
    assert "nan" not in page and "None" not in page
    assert f"{100 * system['macro_f1']['mean']:.1f} |" in page


def test_the_order_of_utterances_and_the_seed_decide_nothing_else(tmp_path):
    conditions = study()
    turned = [
        Prediction(
            **{
                **vars(c),
                "utterances": c.utterances[::-1],
                "posteriors": c.posteriors[::-1],
            }
        )
        for c in conditions
    ]
    first = score(tmp_path / "a", conditions, seed=1)
    assert score(tmp_path / "b", turned, seed=1) == first
    assert score(tmp_path / "c", conditions, seed=2)["systems"] != first["systems"]


def test_votes_are_the_soft_targets_and_split_by_ambiguity(tmp_path):
    clear, split = np.array([4.0, 1.0, 0.0]), np.array([2.0, 2.0, 1.0])
    votes = {u: clear if n % 4 else split for n, u in enumerate(UTTERANCES)}
    scores = score(tmp_path, study(), FakeData(votes=votes))
    system = scores["systems"]["64x1/balanced/retrained"]
    assert scores["soft_targets"] == "votes"
    low, high = system["ambiguity"]["low"], system["ambiguity"]["high"]
    assert (low["n_utterances"], high["n_utterances"]) == (18, 6)
    pooled = (18 * low["js"]["mean"] + 6 * high["js"]["mean"]) / 24
    assert system["js"]["mean"] == pytest.approx(pooled)
    assert "clear (18 utterances) and ambiguous (6 utterances)" in render_results(
        scores
    )


def test_utterances_without_a_majority_count_only_in_soft_metrics(tmp_path):
    votes = {u: np.array([1.0, 1.0, 0.0]) for u in UTTERANCES[:3]}
    labels = {u: n for u, n in LABELS.items() if u not in votes}
    scores = score(tmp_path, study(), FakeData(votes=votes, labels=labels))
    assert (scores["n_utterances"], scores["n_labelled"]) == (24, 21)
    truth = [LABELS[u] for u in UTTERANCES[3:]]
    rows = np.concatenate([condition(f).posteriors for f in FOLDS])[3:]
    f1 = macro_f1(truth, rows.argmax(1), labels=[0, 1, 2])
    found = scores["systems"]["64x1/balanced/retrained"]["macro_f1"]["mean"]
    assert found == pytest.approx(f1)


def test_a_class_that_the_corpus_lacks_is_not_averaged_over(tmp_path):
    labels = {u: 0 if n == 2 else n for u, n in LABELS.items()}
    scores = score(tmp_path, study(), FakeData(labels=labels))
    assert scores["scored_emotions"] == ["angry", "happy"]
    assert set(scores["systems"]["continuous/retrained"]["recall"]) == {
        "angry",
        "happy",
    }
    assert "No utterance is labelled sad" in render_results(scores)


def without(fold, **which):
    return [
        c
        for c in study()
        if c.fold != fold or any(getattr(c, k) != v for k, v in which.items())
    ]


def test_a_condition_that_misses_a_fold_is_refused(tmp_path):
    conditions = without("1", system="specific-oracle")
    with pytest.raises(ValueError, match=r"64x1/specific-oracle/route misses .*'1'"):
        score(tmp_path, conditions)


def test_a_condition_predicted_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="balanced/retrained is predicted twice"):
        score(tmp_path, [*study(), condition("0")])


def test_an_utterance_in_two_folds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(FOLDS, "1", UTTERANCES[11:])
    with pytest.raises(ValueError, match="s1-5 is predicted in fold 0 and in fold 1"):
        score(tmp_path, [condition("0"), condition("1")])


def test_conditions_with_other_utterances_are_refused(tmp_path, monkeypatch):
    conditions = [condition("0"), condition("1")]
    monkeypatch.setitem(FOLDS, "1", UTTERANCES[12:23])
    with pytest.raises(ValueError, match=r"fold 1: utterances \['s3-5'\]"):
        score(
            tmp_path,
            [*conditions, condition("0", rate="4x1"), condition("1", rate="4x1")],
        )


def test_other_classes_and_unknown_utterances_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected .*'sad', 'happy'"):
        score(tmp_path, study(), emotions=["angry", "sad", "happy"])
    data = FakeData()
    data.speaker = {}
    with pytest.raises(ValueError, match="not in utt2spk"):
        score(tmp_path, study(), data)


def test_facts_are_kept_and_may_not_replace_a_number(tmp_path):
    facts = {"feature": {"encoder": "fbank"}, "command": "./run.sh"}
    assert score(tmp_path, study(), facts=facts)["feature"] == {"encoder": "fbank"}
    for name in ("systems", "n_utterances"):
        with pytest.raises(ValueError, match=rf"facts name \['{name}'\]"):
            score(tmp_path, study(), facts={name: {}})


@pytest.mark.parametrize(
    ("system", "name", "control"),
    [
        ("balanced", "balanced RVQ", False),
        ("specific-gain", "Emo-Q, gain router", False),
        ("specific-soft", "Emo-Q, soft mixture", False),
        ("specific-random", "specific, random route (control)", True),
        ("biased95-distortion", "biased 95 %, distortion router", False),
        ("biased99-wrong", "biased 99 %, wrong route (control)", True),
        ("capacity-distortion", "capacity control, distortion router", True),
    ],
)
def test_systems_are_named_for_readers_and_controls_are_marked(system, name, control):
    assert (display_name(system), is_control(system)) == (name, control)


def test_the_page_shows_the_bound_first_and_keeps_the_heads_apart(tmp_path):
    facts = {
        "command": "./run.sh --stage 1 --stop_stage 6",
        "environment": {"python": "3.12", "espnet": "202611"},
        "feature": {"encoder": "huggingface", "settings": {"model": "emotion2vec"}},
        "quantizer": {"norm": "corpus"},
    }
    page = render_results(score(tmp_path, study(), facts=facts))
    assert page.startswith("# toy, SYNTHETIC speech: fbank\n")
    assert "./run.sh --stage 1 --stop_stage 6" in page and "espnet 202611" in page
    assert "may not be out of its domain" in page
    marks = ["## Continuous upper bound", "## Probe heads", "### 4x2", "### 64x1"]
    marks += ["## ESPnet head", "### 64x1"]
    places, start = [], 0
    for mark in marks:
        start = page.index(mark, start) + 1
        places.append(start)
    assert places == sorted(places)
    probe = page[page.index("## Probe heads") : page.index("## ESPnet head")]
    assert "| espnet |" not in probe
    assert probe.index("balanced RVQ | ret") < probe.index("Emo-Q, distortion router")
    assert probe.index("Emo-Q, distortion") < probe.index("oracle route (control)")
    row = next(x for x in probe.splitlines() if x.startswith("| Emo-Q, distortion"))
    assert "| 300.0 | 300.0 | 0.50 | 100.0 [100.0, 100.0] |" in row
    for line in page.splitlines():
        if line.startswith("|"):
            assert "nan" not in line and "None" not in line


def test_a_page_of_real_speech_does_not_say_synthetic(tmp_path):
    scores = score(tmp_path, study(), synthetic=False)
    assert "SYNTHETIC" not in render_results(scores)


@pytest.fixture
def call(tmp_path):
    """Return the arguments of a call of the command on a small experiment."""
    data = tmp_path / "data" / "all"
    data.mkdir(parents=True)
    names = {u: EMOTIONS[n] for u, n in LABELS.items()}
    for table, entries in {
        "wav.scp": {u: f"{u}.wav" for u in UTTERANCES},
        "utt2spk": SPEAKER,
        "utt2emo": names,
    }.items():
        lines = (f"{u} {entries[u]}\n" for u in UTTERANCES)
        (data / table).write_text("".join(lines))
    speakers = {s: [u for u in UTTERANCES if SPEAKER[u] == s] for s in SPEAKER.values()}
    (data / "spk2utt").write_text(
        "".join(f"{s} {' '.join(us)}\n" for s, us in speakers.items())
    )
    (tmp_path / "emotions").write_text("\n".join(EMOTIONS) + "\n")
    (tmp_path / "corpus.yaml").write_text("norm: corpus\n")
    probe = tmp_path / "probe.jsonl"
    write_predictions(probe, study())
    return (
        f"--predictions {probe} --data_dir {data} --emotions {tmp_path / 'emotions'} "
        f"--corpus toy --tag t --synthetic true --output_dir {tmp_path / 'exp'} "
        f"--quantizer_config {tmp_path / 'corpus.yaml'} --n_resamples 50"
    ).split()


def test_the_page_says_that_the_band_of_recordings_differs(tmp_path, call):
    main(call)
    page = tmp_path / "exp" / "RESULTS.md"
    assert "Audio:" not in page.read_text("utf-8")
    data = tmp_path / "data" / "all"
    first, *rest = UTTERANCES
    for table, low, high in (("utt2rate", 8000, 16000), ("utt2band", 4000, 8000)):
        lines = [f"{first} {low}\n", *(f"{u} {high}\n" for u in rest)]
        (data / table).write_text("".join(lines))
    main(call)
    counts = {"4000": 1, "8000": len(rest)}
    assert read_json(tmp_path / "exp" / "scores.json")["audio"]["bands_hz"] == counts
    text = page.read_text("utf-8")
    assert f"several sampling rates: 8000 Hz 1, 16000 Hz {len(rest)}" in text
    assert f"4000 Hz 1, 8000 Hz {len(rest)}: the same speech" in text


def test_the_command_writes_both_files_once(tmp_path, call):
    main(call)
    scores = read_json(tmp_path / "exp" / "scores.json")
    page = (tmp_path / "exp" / "RESULTS.md").read_text()
    assert scores["quantizer"] == {"norm": "corpus"}
    assert "numpy" in scores["environment"]
    assert render_results(scores) == page
    (tmp_path / "exp" / "RESULTS.md").write_text("kept")
    main(call)
    assert (tmp_path / "exp" / "RESULTS.md").read_text() == "kept"
    main([*call, "--seed", "5"])
    assert (tmp_path / "exp" / "RESULTS.md").read_text() != "kept"


def test_a_missing_prediction_file_ends_with_status_1(tmp_path, call, caplog):
    (tmp_path / "probe.jsonl").unlink()
    with pytest.raises(SystemExit) as stop:
        main(call)
    assert stop.value.code == 1
    assert "probe.jsonl is missing" in caplog.text
