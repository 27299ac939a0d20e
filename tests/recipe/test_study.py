"""Studies: faulty configurations are refused, jobs go on where they stopped."""

import shutil

import pytest
import yaml

from emoq_plugin.data.folds import read_folds
from emoq_plugin.evaluation.predictions import read_predictions
from emoq_plugin.files import read_json
from emoq_plugin.recipe.study.config import StudyConfig
from tests.recipe.small_study import EMOTIONS, STUDY, make_recipe


def read(tmp_path, **changes):
    values = yaml.safe_load(STUDY) | changes
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(values))
    return StudyConfig.read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0]}, "odd.yaml: unknown option 'seeds', expected one of .*'rates'"),
        ({"systems": []}, "odd.yaml: option 'systems' is missing"),
        ({"rates": "64x1"}, "odd.yaml: rates is '64x1', expected list"),
        (
            {"quantizers": {"tiny": {"seeds": 3}}},
            "quantizers: tiny: seeds is 3, expect",
        ),
        ({"rates": ["64"]}, "rate '64' is not <K>x<L>"),
        ({"rates": {"wavlm": ["64x1"]}}, "no rates of feature 'fbank'"),
        (
            {"quantizers": {"tiny": {"seed": 1}}},
            "tiny: unknown option 'seed', expected",
        ),
        (
            {"quantizers": {"tiny": {"rates": ["8"]}}},
            "rate '8' is not <K>x<L>",
        ),
        (
            {"quantizers": {"tiny": {"systems": ["specific-distortion"]}}},
            "tiny: system 'balanced', which others are compared with",
        ),
        (
            {"figures": [{"name": "x", "of": "8x1/balanced"}]},
            "figures, 1: '8x1/balanced' is none of the study's <rate>/<system>",
        ),
        (
            {"figures": [{"name": "x", "of": "4x1/balanced", "unseen": True}]},
            "figures, 1: unseen classes need left_out_classes",
        ),
        (
            {"left_out_classes": ["sad"], "left_out_rates": ["8x1"]},
            "left_out_rates: '8x1' is none of quantizer 'tiny'",
        ),
        (
            {"left_out_classes": ["sad"], "left_out_systems": ["balanced"]},
            "left_out_systems: system 'specific-distortion' of .* is not among",
        ),
        ({"systems": ["balanced", "specific-best"]}, "unknown router 'best'"),
        ({"systems": ["specific-distortion"]}, "'balanced', which others are compared"),
        (
            {"systems": ["balanced", "balanced+specific-soft"]},
            "'specific-soft' of 'balanc",
        ),
        ({"emoq": "specific-soft"}, "system 'specific-soft' of 'specific-soft' is not"),
        ({"train_on": "all"}, "train_on 'all', expected one of"),
        ({"learn_on": ["toy"]}, "learn_on and test_on belong together"),
        ({"learn_on": ["a"], "test_on": {"a": ["sad"]}}, r"\['a'\] in learn_on and in"),
    ],
)
def test_a_faulty_configuration_is_reported_with_what_is_allowed(
    tmp_path, changes, message
):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **changes)


@pytest.mark.parametrize("name", ["quick", "emodb", "paper", "whisper"])
def test_the_configurations_of_this_repository_are_valid(repository, name):
    config = StudyConfig.read(repository / "conf" / "study" / f"{name}.yaml")
    assert config.emoq in config.candidates(next(iter(config.quantizers)))
    for feature in config.features:
        assert (repository / "conf" / "features" / f"{feature}.yaml").exists()
        assert config.cheap_rates(feature, next(iter(config.quantizers)), 50.0)


def test_cheap_rates_come_by_their_bits(tmp_path):
    rates = ["64x4", "64x1", "2x4", "16x1"]
    config = read(tmp_path, rates=rates, select_below=300)
    assert config.cheap_rates("fbank", "tiny", 50.0) == ["2x4", "16x1", "64x1"]
    assert config.cheap_rates("fbank", "tiny", 75.0) == ["2x4", "16x1"]
    assert config.cheap_rates("fbank", "tiny", 200.0) == []


def test_controls_are_no_candidates(tmp_path):
    assert read(tmp_path).candidates("tiny") == ["specific-distortion"]


def test_a_job_is_a_quantizer_a_seed_and_a_fold(make_place):
    study = make_place().study()
    expected = [f"toy-fbank-tiny-s{s}/fold{f}" for s in (0, 1) for f in (1, 2)]
    assert [job.name for job in study.jobs()] == expected
    assert [job.name for job in study.jobs("s1/fold2")] == expected[3:]
    assert [job.name for job in study.jobs("s?/fold2")] == expected[1::2]
    with pytest.raises(ValueError, match="no job matches 's7'"):
        study.jobs("s7")


def test_options_of_a_job_hold_its_seed_and_the_groups_of_its_systems(make_place):
    study = make_place().study()
    job = study.jobs()[2]
    path = study.write_quantizer_config(job, study.config.systems, study.output)
    written = yaml.safe_load(path.read_text())
    assert written["norm"] == "corpus" and written["learning"]["max_iterations"] == 3
    assert written["learning"]["seed"] == job.seed == 1
    assert written["expert_sets"] == ["balanced", "specific", "capacity"]


def test_missing_features_are_reported_by_corpus_and_place(make_place, capsys, caplog):
    place = make_place(STUDY.replace("[fbank]", "[fbank, wavlm]"))
    place.call("--list")
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 4 and listed[0].startswith("1 toy-fbank-tiny-s0/fold1 ")
    assert "left out: feature 'wavlm'" in caplog.text
    (place.root / "conf/features/wavlm.yaml").write_text("encoder: wavlm\n")
    place.call("--needs")
    assert capsys.readouterr().out == "toy wavlm\n"
    (place.here / "dump/fbank/all/.done.json").unlink()
    with pytest.raises(ValueError, match=r"no job can run: .*'fbank' of toy \(.*fbank"):
        place.call("--job", 1)


def test_a_number_that_is_no_job_is_refused(make_place):
    with pytest.raises(ValueError, match="--job 5, expected 1 to 4"):
        make_place().call("--job", 5)


def modified(place):
    files = [p for p in place.output.rglob("*") if p.is_file()]
    return {p: p.stat().st_mtime_ns for p in files}


def test_only_a_lost_job_is_done_again(finished):
    before = modified(finished)
    lost = finished.output / "toy-fbank-tiny-s1" / "fold2"
    shutil.rmtree(lost)
    for job in range(1, 5):
        finished.call("--job", job)
    after = modified(finished)
    assert set(after) == set(before)
    assert {p for p in after if after[p] != before[p]} == {
        p for p in after if lost in p.parents
    }


def test_a_killed_job_goes_on_after_its_last_finished_part(finished):
    place = finished.output / "toy-fbank-tiny-s0" / "fold1"
    before = modified(finished)
    # As if it had been killed while the heads were trained.
    for name in ("ser/.done.json", ".job.done.json"):
        (place / name).unlink()
    finished.call("--job", 1)
    after = modified(finished)
    done_again = {p.relative_to(place) for p in after if after[p] != before[p]}
    assert {str(p.parent) for p in done_again} == {"ser", "."}


def test_missing_jobs_are_reported_and_the_others_aggregated(make_place, capsys):
    place = make_place()
    with pytest.raises(
        ValueError, match="none of 4 jobs is finished; the first: toy-f"
    ):
        place.call("--aggregate")
    for number in (1, 2, 3):
        place.call("--job", number)
    place.call("--aggregate")
    summary = read_json(place.output / "summary.json")
    missing = {"job": "toy-fbank-tiny-s1/fold2"}
    assert summary["missing"] == [missing | {"why": "has not been run, or has failed"}]
    # Seed 1 lacks a fold, so it is left out of what is pooled over both.
    assert summary["experiments"][0]["seeds"] == [0]
    capsys.readouterr()
    place.call("--list", "--only", "s1")
    listed = capsys.readouterr().out.splitlines()
    assert listed[0] == "1 toy-fbank-tiny-s1/fold1 done"
    assert listed[1].startswith("2 toy-fbank-tiny-s1/fold2 has not been run")


def test_a_job_of_another_configuration_counts_as_missing(make_place):
    place = make_place()
    place.call("--job", 1)
    assert place.study().why_undone(place.study().jobs()[0]) is None
    (place.root / "conf/ser/probe.yaml").write_text("C: 1.0\n")
    assert "not up to date" in place.study().why_undone(place.study().jobs()[0])


def test_a_job_that_died_while_it_was_done_again_counts_as_missing(finished):
    study = finished.study()
    marker = study.fold_dir(study.jobs()[0], "1") / "ser" / ".done.json"
    kept = marker.read_bytes()
    marker.unlink()
    assert "not up to date" in study.why_undone(study.jobs()[0])
    marker.write_bytes(kept)
    assert study.why_undone(study.jobs()[0]) is None


CROSS = STUDY.replace("[0, 1]", "[0]") + """
learn_on: [one, two]
test_on: {three: [angry, neutral, sad], four: [angry, sad]}
max_per_emotion: 5
"""


@pytest.fixture(scope="module")
def cross(make_place):
    place = make_place(CROSS)
    for seed, name in enumerate(("one", "two", "three", "four")):
        emotions = ["angry", "sad"] if name == "four" else EMOTIONS
        recipe = place.root / "egs2" / name / "ser2"
        make_recipe(recipe, name, emotions=emotions, seed=seed)
    place.call("--list")
    place.call("--job", 1)
    place.call("--aggregate")
    return place


def test_corpora_are_learned_from_together_and_tested_one_by_one(cross):
    folds = read_folds(cross.output / "joined" / "folds")
    assert [len(fold.test) for fold in folds] == [15, 10]  # five a class
    for fold, corpus in zip(folds, ("three", "four")):
        assert {u[: len(corpus)] for u in fold.test} == {corpus}
        assert {u.rstrip("0123456789-")[:3] for u in fold.train} == {"one", "two"}
        assert len({u[:4] for u in fold.valid}) == 2  # a speaker of each corpus
    summary = read_json(cross.output / "summary.json")
    assert [e["name"] for e in summary["experiments"]] == [
        "three-fbank-tiny",
        "four-fbank-tiny",
    ]
    assert summary["further"][0]["corpus"] == "four"


def test_a_class_that_a_test_set_lacks_is_not_averaged_over(cross):
    scores = read_json(cross.output / "summary.json")["scores"]
    four = [s for s in scores if s["experiment"] == "four-fbank-tiny"]
    assert set(four[0]["metrics"]["recall"]) == {"angry", "sad"}
    # Predicting it is an error, which the confusion shows.
    assert sum(map(sum, four[0]["confusion"])) == 10
    assert sum(four[0]["confusion"][1]) == 0


def test_codebooks_of_a_cross_corpus_study_are_learned_once(cross):
    found = sorted(cross.output.rglob("model.safetensors"))
    assert [p.relative_to(cross.output).parts[1] for p in found] == ["quantizer"]


def test_a_missing_corpus_is_reported_by_name(cross, make_place):
    place = make_place(CROSS)
    with pytest.raises(ValueError, match="corpus 'one' has no recipe .*'toy'"):
        place.study()
    for name in ("one", "two", "three", "four"):
        (place.root / "egs2" / name / "ser2").mkdir(parents=True)
    for name in ("one", "four"):
        source = cross.root / "egs2" / name / "ser2"
        shutil.copytree(source, place.root / "egs2" / name / "ser2", dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"fbank' of two \(.*three \(") as error:
        place.call("--list")
    assert "four" not in str(error.value)


def test_a_test_set_that_is_absent_is_left_out_and_said(
    cross, make_place, caplog, capsys
):
    place = make_place(
        CROSS.replace("four: [angry, sad]", "four: [angry], five: [sad]")
    )
    for name in ("one", "two", "three", "four", "five"):
        (place.root / "egs2" / name / "ser2").mkdir(parents=True)
    for name in ("one", "two", "three"):
        source = cross.root / "egs2" / name / "ser2"
        shutil.copytree(source, place.root / "egs2" / name / "ser2", dirs_exist_ok=True)
    place.call("--list")
    assert "test set four is left out" in caplog.text
    assert len(read_folds(place.output / "joined" / "folds")) == 1
    place.call("--job", 1)
    place.call("--aggregate")
    summary = read_json(place.output / "summary.json")
    assert [e["corpus"] for e in summary["experiments"]] == ["three"]
    assert [m["job"] for m in summary["missing"]] == [
        "all of test set five",
        "all of test set four",
    ]
    capsys.readouterr()
    place.call("--needs")  # what stage 7 tries to make first
    assert capsys.readouterr().out.split() == ["four", "fbank", "five", "fbank"]


def test_classes_that_the_study_does_not_expect_are_refused(cross, make_place):
    place = make_place(CROSS.replace("four: [angry, sad]", "four: [angry, neutral]"))
    for name in ("one", "two", "three", "four"):
        shutil.copytree(cross.root / "egs2" / name, place.root / "egs2" / name)
    with pytest.raises(
        ValueError, match=r"four has classes \['angry', 'sad'\], expected"
    ):
        place.call("--list")


def test_validation_speakers_choose_among_heads_that_have_not_heard_them(make_place):
    place = make_place(
        STUDY.replace("[0, 1]", "[0]") + "train_on: train+valid\nselect_below: 110\n"
    )
    place.call("--job", 1)
    fold = read_folds(place.here / "data/folds")[0]
    here = place.output / "toy-fbank-tiny-s0" / "fold1"
    card = read_json(here / "select/quantizer/4x1/config.json")["card"]
    assert not {u.split("-")[0] for u in fold.valid} & set(card["training_speakers"])
    card = read_json(here / "quantizer/4x2/config.json")["card"]
    assert {u.split("-")[0] for u in fold.valid} <= set(card["training_speakers"])
    predicted = read_predictions(here / "select/ser/valid.jsonl")
    assert {p.rate for p in predicted} == {"continuous", "4x1"}
    assert all(p.utterances == list(fold.valid) for p in predicted)
