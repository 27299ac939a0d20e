"""RESULTS.md, its picture, and the command that writes them."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from emoq_plugin.bin.score import main
from emoq_plugin.evaluation.page import PICTURE, answer_sentence, render_results
from emoq_plugin.evaluation.picture import draw_rates
from emoq_plugin.evaluation.predictions import write_predictions
from emoq_plugin.evaluation.results import Results
from emoq_plugin.files import read_json
from tests.evaluation.small_experiment import (
    EMOTIONS,
    FOLDS,
    LABELS,
    SPEAKER,
    UTTERANCES,
    FakeData,
    condition,
    score,
    study,
)

SYSTEM = "specific-distortion"


@pytest.fixture
def results(tmp_path):
    return score(tmp_path, study())


def opened(page):
    """Return what a reader sees before unfolding anything."""
    return re.sub(r"<details>.*?</details>", "", page, flags=re.S)


def test_the_answer_comes_first_and_everything_else_is_folded(results):
    page = render_results(results)
    seen = opened(page)
    assert len([line for line in seen.splitlines() if line]) < 25
    marks = ["# toy", "**Emo-Q minus balanced RVQ", PICTURE, "Continuous features:"]
    marks += ["| rate |", "| 4x2 |", "| 64x1 |", "- **best**"]
    places = [seen.index(mark) for mark in marks]
    assert places == sorted(places)
    bound = results.score("continuous", "continuous").metrics["macro_f1"]["mean"]
    assert f"Continuous features: {100 * bound:.1f} [" in seen
    row = next(line for line in seen.splitlines() if line.startswith("| 64x1"))
    cells = row.strip("| ").split(" | ")
    expected = ("balanced", SYSTEM, "capacity-distortion")
    scores = [results.score("64x1", system).metrics["macro_f1"] for system in expected]
    assert cells[2:5] == [f"{100 * triple['mean']:.1f}" for triple in scores]
    assert re.fullmatch(r"\+[\d.]+ \[\+[\d.]+, \+[\d.]+\]", cells[5])


def test_an_oracle_is_never_among_the_results(tmp_path):
    oracle = [condition(f, system="specific-oracle", right=1.0) for f in FOLDS]
    page = render_results(score(tmp_path, study() + oracle))
    assert "oracle route" not in opened(page)
    controls = page[page.index("<summary>Controls") :]
    controls = controls[: controls.index("</details>")]
    assert "oracle route (control) | 100.0" in controls


def test_columns_are_only_those_of_systems_at_hand(tmp_path, results):
    assert "two-scale" not in render_results(results)
    both = [condition(f, system="balanced+clip32", right=0.9) for f in FOLDS]
    seen = opened(render_results(score(tmp_path, study() + both)))
    assert "| best Emo-Q | two-scale (bit/s) | capacity control |" in seen
    assert "- **two-scale**: frame codes of what a clip code leaves" in seen
    assert "| two-scale - balanced |" in seen
    plain = [condition(f) for f in FOLDS]
    seen = opened(render_results(score(tmp_path, plain)))
    assert "nothing to compare" in seen and "| best Emo-Q |" not in seen


def test_the_sentence_counts_rates_and_picks_none(tmp_path):
    conditions = []
    for rate, right in (("4x1", 1.0), ("4x2", 0.5), ("4x3", 0.0)):
        for fold in FOLDS:
            conditions.append(condition(fold, rate=rate))
            conditions.append(condition(fold, rate=rate, system=SYSTEM, right=right))
    results = score(tmp_path, conditions)
    said = answer_sentence(results)
    assert "at 3 rates: better at 1, worse at 1, undecided at 1" in said
    changes = [
        results.difference(results.score(rate, SYSTEM), "balanced", "macro_f1")["mean"]
        for rate in ("4x3", "4x1")
    ]
    assert "is {:+.1f} to {:+.1f} points".format(*(100 * x for x in changes)) in said


def test_without_intervals_the_page_says_why_and_decides_nothing(tmp_path, monkeypatch):
    alone = dict.fromkeys(UTTERANCES, "s0")
    monkeypatch.setattr("tests.evaluation.small_experiment.SPEAKER", alone)
    results = score(tmp_path, study())
    page = render_results(results)
    assert "Without intervals (one test speaker" in page
    assert "it decides nothing (one test speaker" in page
    assert "nan" not in page and "None" not in page


def test_the_tables_keep_heads_apart_and_controls_last(results):
    page = render_results(results)
    marks = ["<summary>Continuous features", "<summary>Probe heads", "### 4x2"]
    marks += ["### 64x1", "<summary>ESPnet head", "### 64x1"]
    places, start = [], 0
    for mark in marks:
        start = page.index(mark, start) + 1
        places.append(start)
    assert places == sorted(places)
    probe = page[page.index("<summary>Probe") : page.index("<summary>ESPnet")]
    assert "| espnet |" not in probe
    assert probe.index("balanced RVQ | ret") < probe.index("Emo-Q, distortion router")
    assert probe.index("Emo-Q, distortion") < probe.index("oracle route (control)")
    row = next(x for x in probe.splitlines() if x.startswith("| Emo-Q, distortion"))
    assert "| 300.0 | 300.0 | 0.50 | 100.0 [100.0, 100.0] |" in row
    for line in page.splitlines():
        if line.startswith("|"):
            assert "nan" not in line and "None" not in line
    assert page.count("<details>") == page.count("</details>")


def test_the_page_says_how_it_was_made_and_what_the_encoder_heard(tmp_path):
    shown = {
        "command": "./run.sh --stage 1 --stop_stage 6",
        "environment": {"python": "3.12", "espnet": "202611"},
        "config": {"quantizer": {"norm": "corpus"}},
        "leakage": ["toy: emotion2vec was trained on it"],
    }
    page = render_results(score(tmp_path, study(), **shown))
    assert page.startswith("# toy, SYNTHETIC speech: fbank\n")
    assert "./run.sh --stage 1 --stop_stage 6" in page and "espnet 202611" in page
    assert "quantizer: norm corpus" in page
    assert "Encoder: toy: emotion2vec was trained on it." in opened(page)


def test_votes_and_absent_classes_are_said(tmp_path):
    clear, split = np.array([4.0, 1.0, 0.0]), np.array([2.0, 2.0, 1.0])
    votes = {u: clear if n % 4 else split for n, u in enumerate(UTTERANCES)}
    page = render_results(score(tmp_path, study(), FakeData(votes=votes)))
    assert "clear (18 utterances) and ambiguous (6 utterances)" in page
    labels = {u: 0 if n == 2 else n for u, n in LABELS.items()}
    page = render_results(score(tmp_path, study(), FakeData(labels=labels)))
    assert "No utterance is labelled sad" in page


def test_a_page_of_real_speech_does_not_say_synthetic(tmp_path):
    results = score(tmp_path, study(), synthetic=False)
    assert "SYNTHETIC" not in render_results(results) + draw_rates(results)


def test_the_picture_holds_every_number_of_the_table_at_its_height(results):
    svg = ElementTree.fromstring(draw_rates(results))
    space = "{http://www.w3.org/2000/svg}"
    lines = [
        (float(x.get("y1")), float(x.get("y2")))
        for x in svg.iter(f"{space}line")
        if x.get("x1") == x.get("x2")
    ]
    assert len(lines) == len(results.best)
    heights = [
        float(re.search(r",([\d.]+)\)", x.get("transform"))[1])
        for x in svg.iter(f"{space}path")
    ]
    marks = heights[: len(results.best)]
    values = [best.macro_f1["mean"] for best in results.best]
    slope, start = np.polyfit(values, marks, 1)
    assert slope < 0
    np.testing.assert_allclose(np.multiply(values, slope) + start, marks, atol=0.1)
    texts = " ".join(x.text for x in svg.iter(f"{space}text"))
    for name in ("4x2", "64x1", "balanced RVQ", "best Emo-Q", "continuous features"):
        assert name in texts


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


def test_the_command_writes_its_files_once(tmp_path, call):
    main(call)
    scores = Results.read(tmp_path / "exp" / "scores.json")
    page = (tmp_path / "exp" / "RESULTS.md").read_text()
    assert scores.config["quantizer"] == {"norm": "corpus"}
    assert "numpy" in scores.environment
    assert render_results(scores) == page
    assert draw_rates(scores) == (tmp_path / "exp" / PICTURE).read_text()
    (tmp_path / "exp" / "RESULTS.md").write_text("kept")
    main(call)
    assert (tmp_path / "exp" / "RESULTS.md").read_text() == "kept"
    main([*call, "--seed", "5"])
    assert (tmp_path / "exp" / "RESULTS.md").read_text() != "kept"


def test_the_command_ends_with_the_answer_and_an_absolute_path(
    tmp_path, call, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    call[call.index("--output_dir") + 1] = "exp"
    for _ in range(2):  # made, and up to date
        main(call)
        *lines, last = capsys.readouterr().out.splitlines()
        assert last == f"results: {tmp_path / 'exp' / 'RESULTS.md'}"
        assert lines[1].startswith("continuous features: ")
        header = "rate  bit/s  balanced RVQ  best Emo-Q  capacity control  Emo-Q - "
        assert lines[2].startswith(header)
        assert [line.split()[0] for line in lines[3:]] == ["4x2", "64x1"]
        assert len([*lines, last]) <= 6


def test_a_missing_prediction_file_ends_with_status_1(tmp_path, call, caplog):
    (tmp_path / "probe.jsonl").unlink()
    with pytest.raises(SystemExit) as stop:
        main(call)
    assert stop.value.code == 1
    assert "probe.jsonl is missing" in caplog.text
