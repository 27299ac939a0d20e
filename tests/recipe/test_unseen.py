"""Classes that are left out: in nothing that is learned but the heads."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.evaluation.predictions import read_predictions
from emoq_plugin.files import read_json, read_table
from emoq_plugin.recipe.report.content import read_content
from emoq_plugin.recipe.report.page import render_page
from emoq_plugin.units.store import UnitStore
from tests.recipe.small_study import EMOTIONS, LEFT_OUT

JOBS = 2 + 2 * 2  # folds, and classes that are left out times folds


@pytest.fixture(scope="module")
def place(make_place):
    """Return a study with classes left out, all of its jobs done."""
    place = make_place(LEFT_OUT, n_speakers=12)
    assert len(place.study().jobs()) == JOBS
    for job in range(1, JOBS + 1):
        place.call("--job", job)
    place.call("--aggregate")
    return place


def fold_dir(place, left_out, fold=1):
    return place.output / f"toy-fbank-tiny-without_{left_out}-s0" / f"fold{fold}"


@pytest.mark.parametrize("left_out", ["angry", "sad"])
def test_nothing_is_learned_from_the_class_that_is_left_out(place, left_out):
    quantizer = fold_dir(place, left_out) / "quantizer"
    data = DataDirectory.read(place.here / "dump/raw/all", EMOTIONS)
    others = [e for e in EMOTIONS if e != left_out]
    train = read_table(place.here / "data/folds/1/train")
    known = [u for u in train if data.emotion[u] != left_out]
    banks = [p.parent for p in quantizer.rglob("model.safetensors")]
    assert {p.name for p in banks} >= {"4x1", "4x1+clip6"}
    for folder in banks:
        bank = CodebookBank.from_pretrained(folder)
        assert bank.emotions == others
        assert f"specific/{left_out}" not in bank.experts
        held_out = set(bank.card["held_out_speakers"])
        learned = [u for u in known if data.speaker[u] not in held_out]
        assert bank.card["training_utterances"] == len(learned)
    posteriors = read_table(quantizer / "held_out_posteriors/calibrated")
    assert set(posteriors) == set(known)


def test_its_clips_have_units_and_heads_know_it(place):
    folder = fold_dir(place, "angry")
    store = UnitStore(folder / "units/4x1/specific-calibrated")
    data = DataDirectory.read(place.here / "dump/raw/all", EMOTIONS)
    assert set(store) == set(data.utterances)
    assert {"specific/neutral", "specific/sad"} == {
        e for r in store.routes.values() for e in r
    }
    found = read_predictions(folder / "ser/posteriors.jsonl")
    assert all(p.emotions == EMOTIONS for p in found)
    assert not (folder / "measures").exists() and not (folder / "select").exists()


def test_scores_are_means_over_the_classes_that_were_left_out(place):
    [unseen] = read_json(place.output / "summary.json")["unseen"]
    assert unseen["classes"] == ["angry", "sad"]
    data = DataDirectory.read(place.here / "dump/raw/all", EMOTIONS)
    by_kind = {"all": [], "unseen": [], "seen": []}
    for left_out in unseen["classes"]:
        truth, guess = [], []
        for fold in (1, 2):
            path = fold_dir(place, left_out, fold) / "ser/posteriors.jsonl"
            (p,) = (
                p
                for p in read_predictions(path)
                if p.key == "4x1/balanced+clip6/retrained"
            )
            truth += [data.emotion[u] for u in p.utterances]
            guess += [EMOTIONS[n] for n in p.posteriors.argmax(axis=1)]
        f1 = dict(zip(EMOTIONS, f1_score(truth, guess, average=None, labels=EMOTIONS)))
        by_kind["all"].append(np.mean(list(f1.values())))
        by_kind["unseen"].append(f1.pop(left_out))
        by_kind["seen"].append(np.mean(list(f1.values())))
    (found,) = (
        c
        for c in unseen["conditions"]
        if (c["rate"], c["system"]) == ("4x1", "balanced+clip6")
    )
    for kind, values in by_kind.items():
        assert found[kind]["mean"] == pytest.approx(np.mean(values))
        assert found[kind]["low"] <= found[kind]["mean"] <= found[kind]["high"]


def test_two_scale_is_compared_at_its_rate_and_at_no_fewer_bits(place):
    [unseen] = read_json(place.output / "summary.json")["unseen"]
    score = {(c["rate"], c["system"]): c for c in unseen["conditions"]}
    compared = {(d["system"], d["reference"]) for d in unseen["differences"]}
    references = {"specific-distortion", "balanced+specific-calibrated"}
    systems = {"balanced+clip6", "clip6"}
    assert compared == {(s, r) for s in systems for r in references}
    for d in unseen["differences"]:
        own = score[d["rate"], d["system"]]
        other = score[d["reference_rate"], d["reference"]]
        for kind in ("all", "unseen", "seen"):
            change = own[kind]["mean"] - other[kind]["mean"]
            assert d[kind]["mean"] == pytest.approx(change)
        same = d["rate"] == d["reference_rate"]
        assert same or d["reference_bitrate_bps"] >= d["bitrate_bps"]


def test_the_study_itself_has_no_score_of_what_was_left_out(place):
    summary = read_json(place.output / "summary.json")
    assert [e["name"] for e in summary["experiments"]] == ["toy-fbank-tiny"]
    page = render_page(read_content(place.output), form="md")
    assert "Classes that nothing was learned from" in page
    assert "each of angry, sad is left out in turn" in page


def test_figures_are_differences_of_the_scores_with_their_goals(place):
    summary = read_json(place.output / "summary.json")
    score = {
        (s["rate"], s["system"]): s["metrics"]["macro_f1"]["mean"]
        for s in summary["scores"]
        if s["head"] == "retrained"
    }
    found = {entry["name"]: entry for entry in summary["figures"]}
    two_scale = score["4x1", "balanced+clip6"]
    expected = {
        "gain": two_scale - score["4x2", "balanced"],
        "alone": score["none", "clip6"],
        "gap": two_scale - score["continuous", "continuous"],
    }
    for name, value in expected.items():
        assert found[name]["value"]["mean"] == pytest.approx(value)
    [unseen] = summary["unseen"]
    (difference,) = (
        d
        for d in unseen["differences"]
        if (d["rate"], d["system"]) == ("4x1", "balanced+clip6")
        and (d["reference_rate"], d["reference"]) == ("4x1", "specific-distortion")
    )
    assert found["new"]["value"] == difference["unseen"]
    reached = {name: entry["reached"] for name, entry in found.items()}
    assert reached == {"gain": True, "alone": False, "gap": None, "new": False}
    page = render_page(read_content(place.output), form="md")
    assert "at least 101.0" in page and "What the study was to reach" in page


def test_a_class_whose_folds_are_not_all_done_is_left_to_what_is_missing(place):
    marker = fold_dir(place, "sad", 2) / ".job.done.json"
    kept = marker.read_text()
    marker.unlink()
    try:
        place.call("--aggregate")
        summary = read_json(place.output / "summary.json")
    finally:
        marker.write_text(kept)
        place.call("--aggregate")
    assert summary["unseen"][0]["classes"] == ["angry"]
    assert "without_sad-s0/fold2" in summary["missing"][0]["job"]
