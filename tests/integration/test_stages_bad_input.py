"""Stages 4 to 6 by their commands: bad input ends with exit 1 and says what to do."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch

from emoq_plugin import evaluation, learning, routing
from emoq_plugin import units as unit_code
from emoq_plugin.bin import encode_units, learn_codebooks, ser_probe
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.data.folds import Fold, write_folds
from emoq_plugin.files import read_table, write_table
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.store import merge_feature_jobs, write_features

EMOTIONS = ["angry", "happy", "sad"]
SPECIFICATION = FeatureSpecification("fbank", [], 3, 50.0, 16000)
QUANTIZER = (
    "norm: level\nexpert_sets: [balanced, specific]\nlearning: {max_iterations: 2}\n"
)
RATES = ["4x1", "4x2"]
SYSTEMS = ["balanced", "specific-distortion"]


class Experiment:
    """A directory with a formatted set of 24 clips, features and one fold."""

    def __init__(self, root):
        self.root = root

    def make(self):
        names = [f"s{s}-{e}{i}" for s in range(4) for e in EMOTIONS for i in range(2)]
        raw = self.root / "dump/raw/all"
        write_table(raw / "wav.scp", {u: f"{u}.wav" for u in names})
        write_table(raw / "utt2spk", {u: u[:2] for u in names})
        write_table(raw / "utt2emo", {u: u[3:-1] for u in names})
        Stage(raw).finish()
        (self.root / "emotions").write_text("\n".join(EMOTIONS) + "\n")
        parts = [tuple(u for u in names if u[1] in part) for part in ("01", "2", "3")]
        write_folds(self.root / "folds", [Fold("1", *parts)])
        self.write("quantizer.yaml", QUANTIZER)
        self.write("probe.yaml", "C: 0.1\n")
        self.features({u: 5 + i % 3 for i, u in enumerate(names)})
        return self

    def write(self, name, text):
        (self.root / name).write_text(text)

    def features(self, lengths, specification=SPECIFICATION):
        random = np.random.default_rng(0)
        folder = self.root / "dump/fbank/all"
        clips = {
            u: random.normal(size=(t, specification.dimension)) + len(u)
            for u, t in lengths.items()
        }
        write_features(folder, specification, clips.items())
        merge_feature_jobs(folder, 1)
        Stage(
            folder,
            settings={"specification": specification.to_json(), "lengths": lengths},
        ).finish()

    def call(self, command, *options):
        at = self.root
        common = {
            "feature_dir": at / "dump/fbank/all",
            "data_dir": at / "dump/raw/all",
            "emotions": at / "emotions",
            "folds": at / "folds",
            "fold": "1",
        }
        own = {
            learn_codebooks: {
                "config": at / "quantizer.yaml",
                "corpus": "tiny",
                "output_dir": at / "exp/quantizer",
            },
            encode_units: {
                "quantizer_dir": at / "exp/quantizer",
                "output_dir": at / "dump/units/all",
            },
            ser_probe: {
                "quantizer_dir": at / "exp/quantizer",
                "units_dir": at / "dump/units/all",
                "config": at / "probe.yaml",
                "output_dir": at / "exp/ser",
            },
        }[command]
        arguments = [f"--{k}={v}" for k, v in (common | own).items()]
        arguments += ["--rates", *RATES]
        if command is not learn_codebooks:
            arguments += ["--systems", *SYSTEMS]
        command.main([*arguments, *map(str, options)])

    def learn(self, *options):
        self.call(learn_codebooks, *options)

    def encode(self, *options):
        self.call(encode_units, *options)

    def probe(self, *options):
        self.call(ser_probe, *options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    found = Experiment(tmp_path_factory.mktemp("finished")).make()
    found.learn()
    found.encode()
    found.probe()
    return found


@pytest.fixture
def experiment(finished, tmp_path):
    """Return a finished experiment that was moved."""
    shutil.copytree(finished.root, tmp_path / "here")
    return Experiment(tmp_path / "here")


@pytest.fixture
def refused(caplog, capsys):
    """Return a function that calls a stage, which must fail, and gives the message."""

    def call(stage, *options):
        caplog.clear()
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            stage(*options)
        if stop.value.code == 2:  # of the parser
            return capsys.readouterr().err
        assert stop.value.code == 1
        return "\n".join(
            r.getMessage() for r in caplog.records if r.levelno == logging.ERROR
        )

    return call


def test_a_finished_and_moved_experiment_does_nothing_again(experiment, caplog):
    with caplog.at_level(logging.INFO):
        for stage in (experiment.learn, experiment.encode, experiment.probe):
            caplog.clear()
            stage()
            assert "up to date: nothing to do" in caplog.text


def test_the_stages_write_what_they_promise(experiment):
    units = experiment.root / "dump/units/all/4x2/specific-distortion"
    card = json.loads((units / "units.json").read_text())
    assert card["system"] == "specific-distortion"
    assert card["experts"] == [f"specific/{e}" for e in EMOTIONS]
    bank = (units / card["quantizer"]).resolve()
    assert bank == (experiment.root / "exp/quantizer/4x2").resolve()
    rates = json.loads((units / "bitrate.json").read_text())
    assert rates["nominal"] == 50 * 2 * 2
    lines = (experiment.root / "exp/ser/posteriors.jsonl").read_text().splitlines()
    conditions = [json.loads(line) for line in lines]
    # The bound; two heads for balanced and three for the routed system, at two rates.
    assert len(conditions) == 1 + 2 * (2 + 3)
    assert not (experiment.root / "exp/quantizer/4x2/checkpoint.safetensors").exists()


def test_a_class_with_fewer_frames_than_codewords(experiment, refused):
    message = refused(experiment.learn, "--rates", "2x1", "64x1")
    assert "expert 'specific/angry' has" in message
    assert "fewer than the codebook size K = 64: lower K" in message
    # The bank that was learned before the fault stays.
    assert (experiment.root / "exp/quantizer/2x1/.done.json").exists()


def test_a_class_without_training_clips(experiment, refused):
    path = experiment.root / "dump/raw/all/utt2emo"
    path.write_text(path.read_text().replace(" sad", " happy"))
    Stage(path.parent, settings={"changed": True}).finish()
    assert "no training clip of sad" in refused(experiment.learn)


def test_clips_of_one_frame_go_through_all_stages(experiment):
    names = (experiment.root / "dump/raw/all/utt2spk").read_text().split()[::2]
    experiment.features({u: 1 if i % 4 == 0 else 8 for i, u in enumerate(names)})
    experiment.learn()
    experiment.encode()
    experiment.probe()
    text = (experiment.root / "exp/ser/posteriors.jsonl").read_text()
    assert "NaN" not in text


@pytest.mark.parametrize("norm", ["corpus", "clip", "speaker"])
def test_every_normalisation_goes_through_all_stages(experiment, norm):
    experiment.write(
        "quantizer.yaml", f"norm: {norm}\n{QUANTIZER.partition(chr(10))[2]}"
    )
    for stage in (experiment.learn, experiment.encode, experiment.probe):
        stage()
    config = experiment.root / "exp/quantizer/4x2/config.json"
    assert json.loads(config.read_text())["normalization"] == norm
    assert (experiment.root / "exp/ser/.done.json").exists()


def test_an_unknown_system(experiment, refused):
    for system, message in (
        ("specific-nearest", "unknown router 'nearest', expected one of ['calibrated'"),
        ("biased95-cosine", "no expert set 'biased95', expected one of ['balanced'"),
        ("specific", "name a router"),
    ):
        assert message in refused(experiment.encode, "--systems", "balanced", system)


def test_an_unknown_form_of_rate(experiment, refused):
    for stage in (experiment.learn, experiment.encode, experiment.probe):
        assert "rate '64-1' is not <K>x<L>" in refused(stage, "--rates", "64-1")


def test_a_mistyped_option_does_not_undo_what_is_finished(experiment, refused, caplog):
    experiment.write("quantizer.yaml", QUANTIZER + "frame_budget: half\n")
    refused(experiment.learn)
    experiment.write("quantizer.yaml", QUANTIZER)
    refused(experiment.learn, "--rates", "64")
    refused(experiment.encode, "--systems", "specific-nearest")
    refused(experiment.encode, "--rates", "64")
    experiment.write("probe.yaml", "c: 0.1\n")
    refused(experiment.probe)
    experiment.write("probe.yaml", "C: 0.1\n")
    test_a_finished_and_moved_experiment_does_nothing_again(experiment, caplog)


def test_codebooks_of_other_features(experiment, refused):
    names = (experiment.root / "dump/raw/all/utt2spk").read_text().split()[::2]
    other = FeatureSpecification("opensmile", [], 4, 50.0, 16000)
    experiment.features(dict.fromkeys(names, 6), other)
    message = refused(experiment.encode)
    assert "learned from other features (fbank, 3 dimensions)" in message
    assert "(opensmile, 4 dimensions)" in message


@pytest.mark.parametrize(
    ("lost", "stage", "message"),
    [
        ("dump/raw/all", "learn", "dump/raw/all is missing: run the earlier stage"),
        ("dump/fbank/all/.done.json", "learn", "fbank/all has no finished result"),
        ("exp/quantizer", "encode", "exp/quantizer is missing: run the earlier stage"),
        ("exp/quantizer/.done.json", "encode", "quantizer has no finished result"),
        ("dump/units/all", "probe", "units/all is missing: run the earlier stage"),
        ("folds/1", "learn", "folds/1/train is missing"),
        ("emotions", "learn", "emotions is missing"),
        ("quantizer.yaml", "learn", "quantizer.yaml is missing"),
    ],
)
def test_an_earlier_stage_that_is_missing(experiment, refused, lost, stage, message):
    path = experiment.root / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert message in refused(getattr(experiment, stage))


def test_an_unknown_yaml_option(experiment, refused):
    experiment.write("quantizer.yaml", "nrom: clip\n")
    assert "quantizer.yaml: unknown option 'nrom'" in refused(experiment.learn)
    experiment.write("quantizer.yaml", "learning: {iterations: 3}\n")
    assert "learning: unknown option 'iterations'" in refused(experiment.learn)
    experiment.write("probe.yaml", "strength: 1\n")
    assert "probe.yaml: unknown option 'strength'" in refused(experiment.probe)


def test_an_unknown_normalisation_or_group(experiment, refused):
    experiment.write("quantizer.yaml", "norm: loudness\n")
    assert "norm is 'loudness', expected one of" in refused(experiment.learn)
    experiment.write("quantizer.yaml", "expert_sets: [balanced, special]\n")
    assert "unknown expert set 'special'" in refused(experiment.learn)


def test_a_speaker_on_both_sides_of_a_fold(experiment, refused):
    with open(experiment.root / "folds/1/test", "a") as stream:
        stream.write("s0-sad0\n")
    path = experiment.root / "folds/1/train"
    path.write_text(path.read_text().replace("s0-sad0\n", ""))
    assert "speaker 's0'" in refused(experiment.learn)


def test_codebooks_of_another_fold(experiment, refused):
    train, test = (experiment.root / "folds/1" / p for p in ("train", "test"))
    first, second = train.read_text(), test.read_text()
    train.write_text(second)
    test.write_text(first)
    message = refused(experiment.encode)
    assert "tests on speaker(s) s0, s1 that the codebooks were learned from" in message


def test_a_damaged_bank(experiment, refused):
    path = experiment.root / "exp/quantizer/4x2/model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    message = refused(experiment.encode, "--seed", 1)
    assert "quantizer/4x2: damaged artifact" in message


def test_units_that_are_truncated(experiment, refused):
    path = experiment.root / "dump/units/all/4x1/balanced/codes.ark"
    path.write_bytes(path.read_bytes()[:100])
    experiment.write("probe.yaml", "C: 0.2\n")
    message = refused(experiment.probe)
    assert "4x1/balanced/codes.ark: utterance" in message
    assert "run stage 5 again" in message


def test_the_card_counts_what_was_learned_on_by_rate_and_band(experiment):
    raw = experiment.root / "dump/raw/all"
    names = list(read_table(raw / "wav.scp"))
    narrow = {u: u.startswith("s0") for u in names}
    write_table(raw / "utt2rate", {u: 8000 if narrow[u] else 48000 for u in names})
    write_table(raw / "utt2band", {u: 4000 if narrow[u] else 8000 for u in names})
    Stage(raw, settings={"again": 1}).finish()
    experiment.learn()
    bank = experiment.root / "exp/quantizer/4x2"
    card = json.loads((bank / "config.json").read_text())["card"]
    audio = card["audio"]
    note = audio.pop("note")
    assert audio == {
        "sampling_rates_hz": {"48000": 6, "8000": 6},  # speakers 0 and 1
        "bands_hz": {"4000": 6, "8000": 6},
    }
    assert "4000 Hz 6, 8000 Hz 6: the same speech" in note
    assert note in (bank / "README.md").read_text()


def test_an_system_that_was_not_encoded(experiment, refused):
    message = refused(experiment.probe, "--systems", "specific-oracle")
    assert "specific-oracle/units.json is missing: run stage 5" in message


def test_cross_fitting_routes_training_clips_by_experts_that_have_not_seen_them(
    experiment,
):
    units = experiment.root / "dump/units/all/4x1"
    before = {a: read_table(units / a / "pseudo_labels_km4.txt") for a in SYSTEMS}
    routes = read_table(units / SYSTEMS[1] / "utt2route")
    experiment.learn("--crossfit", 2)
    bank = experiment.root / "exp/quantizer/4x2"
    held_out = []
    for part in "01":
        card = json.loads((bank / "crossfit" / part / "config.json").read_text())[
            "card"
        ]
        assert not set(card["held_out_speakers"]) & set(card["training_speakers"])
        held_out += card["held_out_speakers"]
    assert sorted(held_out) == ["s0", "s1"]
    experiment.encode()
    after = {a: read_table(units / a / "pseudo_labels_km4.txt") for a in SYSTEMS}
    assert after["balanced"] == before["balanced"]
    found = read_table(units / SYSTEMS[1] / "utt2route")
    changed = {u for u in routes if routes[u] != found[u]}
    assert changed and all(u[:2] in held_out for u in changed)
    same = set(routes) - changed
    assert all(after[SYSTEMS[1]][u] == before[SYSTEMS[1]][u] for u in same)
    experiment.learn("--crossfit", 0)
    experiment.encode()
    assert read_table(units / SYSTEMS[1] / "utt2route") == routes


def test_a_quantizer_of_all_speakers_says_that_nothing_tests_it(experiment, refused):
    quantizer = experiment.root / "exp/all"
    place = ("--fold", "all", "--output_dir", quantizer)
    experiment.learn(*place)
    bank = CodebookBank.from_pretrained(quantizer / "4x2")
    assert bank.card["training_speakers"] == ["s0", "s1", "s2", "s3"]
    assert "| tested | no: every clip was learned from" in (
        quantizer / "4x2/README.md"
    ).read_text("utf-8")
    untested = "--fold all: every clip was learned from and none is left to test"
    taken = ("--quantizer_dir", quantizer)
    assert untested in refused(experiment.encode, "--fold", "all", *taken)
    # Nor do its units come into a fold.
    assert "that the codebooks were learned from" in refused(experiment.encode, *taken)
    # Clips that are added to any fold are learned from.
    before = contents(quantizer, "4x2")
    with open(experiment.root / "folds/1/valid", "r+") as stream:
        lines = stream.readlines()
        stream.seek(0)
        stream.truncate()
        stream.writelines(lines[1:])
    experiment.learn(*place)
    assert contents(quantizer, "4x2") != before


def contents(folder, *names):
    """Return the bytes of the files of some directories, and when they were written."""
    files = [p for name in names for p in sorted((folder / name).rglob("*"))]
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files if p.is_file()}


def test_a_rate_that_is_added_keeps_what_is_there(experiment):
    exp, units = experiment.root / "exp/quantizer", experiment.root / "dump/units/all"
    before = contents(exp, "4x2") | contents(units, *RATES)
    more = ["--rates", "2x1", "4x2"]  # and one is left out
    for stage in (experiment.learn, experiment.encode, experiment.probe):
        stage(*more)
    assert (exp / "2x1/model.safetensors").exists()
    assert (units / "2x1/balanced/units.json").exists()
    assert contents(exp, "4x2") | contents(units, *RATES) == before
    experiment.learn()  # the first call again
    experiment.encode()
    assert contents(exp, "4x2") | contents(units, *RATES) == before


@pytest.mark.parametrize("crossfit", [0, 2])
def test_systems_say_what_is_learned_and_more_of_them_keep_what_is_there(
    experiment, crossfit
):
    bank = experiment.root / "exp/quantizer/4x2"
    shutil.rmtree(bank.parent)
    options = ["--crossfit", crossfit, "--systems"]
    experiment.learn(*options, "balanced")
    assert CodebookBank.from_pretrained(bank).expert_sets == ["balanced"]
    log = (bank / "learning.jsonl").read_text()
    assert not list(bank.glob("crossfit/*"))  # nothing is routed
    old = CodebookBank.from_pretrained(bank)
    experiment.learn(*options, *SYSTEMS)
    others = sorted(bank.glob("crossfit/*"))
    assert len(others) == crossfit
    for place in (bank, *others):
        new = CodebookBank.from_pretrained(place)
        assert new.expert_sets == ["balanced", "specific"]
        assert set(new.card["expert_frames"]) == set(new.experts)
        assert not (place / "added").exists()
    for a, b in zip(
        CodebookBank.from_pretrained(bank).stacked(["balanced"]), old.codebooks
    ):
        assert torch.equal(a, b)
    grown = (bank / "learning.jsonl").read_text()
    assert grown.startswith(log) and "specific" in grown.removeprefix(log)
    whole = contents(bank, ".")
    assert whole
    experiment.learn(*options, "balanced")  # fewer: nothing is lost
    assert contents(bank, ".") == whole
    experiment.encode()


def test_experts_that_are_added_are_those_that_are_learned_together(experiment):
    bank = experiment.root / "exp/quantizer/4x2"
    together = CodebookBank.from_pretrained(bank)
    shutil.rmtree(bank.parent)
    experiment.learn("--systems", "balanced")
    experiment.learn("--systems", *SYSTEMS)
    apart = CodebookBank.from_pretrained(bank)
    assert apart.experts == together.experts[: len(apart.experts)]
    for a, b in zip(apart.codebooks, together.stacked(apart.experts)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_units_that_are_added_keep_the_others(experiment):
    units = experiment.root / "dump/units/all"
    conditions = [f"{rate}/{system}" for rate in RATES for system in SYSTEMS]
    before = contents(units, *conditions)
    experiment.encode("--systems", *SYSTEMS, "specific-oracle")
    assert (units / "4x1/specific-oracle/units.json").exists()
    assert contents(units, *conditions) == before
    experiment.encode("--seed", 7)
    again = (units / "4x1/balanced/.done.json").stat().st_mtime_ns
    assert again > before[units / "4x1/balanced/.done.json"][1]


@pytest.mark.parametrize(
    ("package", "redone"),
    [
        (learning, {"quantizer", "units", "ser"}),
        (routing, {"quantizer", "units", "ser"}),
        (unit_code, {"units", "ser"}),
        (evaluation, {"ser"}),
    ],
)
def test_results_of_code_that_was_corrected_are_made_again(
    experiment, monkeypatch, package, redone
):
    places = {
        "quantizer": experiment.root / "exp/quantizer/4x2",
        "units": experiment.root / "dump/units/all/4x1/balanced",
        "ser": experiment.root / "exp/ser",
    }
    before = {n: contents(place, ".") for n, place in places.items()}
    monkeypatch.setattr(package, "VERSION", package.VERSION + 1)
    for stage in (experiment.learn, experiment.encode, experiment.probe):
        stage()
    changed = {n for n, place in places.items() if contents(place, ".") != before[n]}
    assert changed == redone
