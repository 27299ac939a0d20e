"""Measures of a fold: on a tiny experiment from features to measures.jsonl."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch

from emoq_plugin.bin import encode_units, learn_codebooks, measure, pack
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch_encoding import pool
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import Fold, read_fold, write_folds
from emoq_plugin.evaluation.content_probes import speaker_task
from emoq_plugin.evaluation.decoded import Units, unique_codes
from emoq_plugin.evaluation.emotion_probe import decoded_pooled as decoded_one_by_one
from emoq_plugin.evaluation.geometry import distance_correlation, linear_cka
from emoq_plugin.evaluation.measures import (
    MeasureTask,
    decoded_levels,
    decoded_pooled,
    drifts,
    measure_condition,
)
from emoq_plugin.files import write_table
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.store import (
    FeatureStore,
    merge_feature_jobs,
    write_features,
)
from emoq_plugin.units.store import UnitStore
from emoq_plugin.units.subwords import read_subwords

EMOTIONS = ["angry", "happy", "neutral"]
SPECIFICATION = FeatureSpecification("fbank", [], 4, 50.0, 16000)
QUANTIZER = (
    "norm: corpus\nexpert_sets: [balanced, specific]\nlearning: {max_iterations: 3}\n"
)
RATES = ["4x1", "4x3"]
SYSTEMS = ["balanced", "specific-distortion", "specific-soft"]
PHONES = ["a", "t", "m"]


def make_corpus(root):
    """Write features that hold the emotion, the speaker and a phone for each frame."""
    random = np.random.default_rng(0)
    names = [f"s{s}-{e}{i}" for s in range(4) for e in EMOTIONS for i in range(4)]
    raw = root / "raw"
    write_table(raw / "wav.scp", {u: f"{u}.wav" for u in names})
    write_table(raw / "utt2spk", {u: u[:2] for u in names})
    write_table(raw / "utt2emo", {u: u[3:-1] for u in names})
    write_table(raw / "utt2sentence", {u: f"text{u[-1]}" for u in names})
    Stage(raw).finish()
    (root / "emotions").write_text("\n".join(EMOTIONS) + "\n")
    parts = [tuple(u for u in names if u[1] in part) for part in ("01", "2", "3")]
    write_folds(root / "folds", [Fold("1", *parts)])
    clips, segments = {}, []
    for n, u in enumerate(names):
        said = (np.arange(20 + n % 5) // 4 + n) % 3
        frames = 0.2 * random.normal(size=(len(said), 4))
        frames += 2 * np.eye(4)[said] + 3 * np.eye(4)[3] * EMOTIONS.index(u[3:-1])
        clips[u] = frames + 0.1 * int(u[1])
        for t, phone in enumerate(said):
            segments.append(f"{u} {t / 50:.2f} {(t + 1) / 50:.2f} {PHONES[phone]}\n")
    write_features(root / "fbank", SPECIFICATION, clips.items())
    merge_feature_jobs(root / "fbank", 1)
    Stage(root / "fbank").finish()
    (root / "utt2phones").write_text("".join(segments))
    (root / "quantizer.yaml").write_text(QUANTIZER)


def call(command, root, *options):
    places = {
        "feature_dir": "fbank",
        "data_dir": "raw",
        "emotions": "emotions",
        "folds": "folds",
    }
    arguments = [f"--{k}={root / v}" for k, v in places.items()]
    command.main([*arguments, "--fold=1", "--rates", *RATES, *map(str, options)])


def run_measure(root, *options, output="measures", phones=("utt2phones",)):
    call(
        measure,
        root,
        f"--quantizer_dir={root / 'quantizer'}",
        f"--units_dir={root / 'units'}",
        *(f"--alignments={root / name}" for name in phones),
        f"--output_dir={root / output}",
        "--n_permutations=20",
        "--min_phone_count=5",
        "--systems",
        *SYSTEMS,
        *options,
    )
    text = (root / output / "measures.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return {(line["rate"], line["system"]): line for line in lines}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return an experiment with units."""
    root = tmp_path_factory.mktemp("tiny")
    make_corpus(root)
    call(
        learn_codebooks,
        root,
        f"--config={root / 'quantizer.yaml'}",
        "--corpus=tiny",
        f"--output_dir={root / 'quantizer'}",
    )
    call(
        encode_units,
        root,
        f"--quantizer_dir={root / 'quantizer'}",
        f"--output_dir={root / 'units'}",
        "--systems",
        *SYSTEMS,
    )
    return root


@pytest.fixture(scope="module")
def conditions(root):
    return run_measure(root)


@pytest.fixture(scope="module")
def task(root):
    data = DataDirectory.read(root / "raw", EMOTIONS)
    features = FeatureStore(root / "fbank")
    bank = CodebookBank.from_pretrained(root / "quantizer/4x3")
    fold = read_fold(root / "folds", "1", data)
    return MeasureTask.build(
        fold,
        data,
        EMOTIONS,
        normalised=lambda u: bank.normalization(torch.from_numpy(features[u])),
        train=fold.train,
        n_permutations=5,
    )


@pytest.fixture(scope="module", params=SYSTEMS)
def store(request, root):
    return UnitStore(root / "units/4x3" / request.param)


@pytest.fixture(scope="module")
def units(root, task, store):
    bank = CodebookBank.from_pretrained(root / "quantizer/4x3")
    return Units.read(store, bank, task.clips)


def test_there_is_a_line_for_each_condition_and_the_reference(conditions):
    expected = [(rate, system) for rate in RATES for system in SYSTEMS]
    assert list(conditions) == [("continuous", "continuous"), *expected]
    fields = set(conditions[expected[0]])
    for (rate, _), line in conditions.items():
        assert set(line) == fields and line["fold"] == "1" and line["n_clips"] == 12
        assert len(line["levels"]) == {"4x1": 1, "4x3": 3}.get(rate, 0)
        assert set(line["drift"]) == {"angry", "happy"}
        assert set(line["distortion"]) == {"all", *EMOTIONS}


def test_more_levels_keep_more(conditions):
    reference = conditions["continuous", "continuous"]
    for system in SYSTEMS:
        deep = [level["distortion"] for level in conditions["4x3", system]["levels"]]
        assert 1 > deep[0] > deep[1] > deep[2] > 0
        assert conditions["4x3", system]["distortion"]["all"] == deep[2]
        assert conditions["4x1", system]["distortion"]["all"] == deep[0]
        assert set(conditions["4x3", system]["bitrate_bps"]) >= {"nominal", "entropy"}
    assert reference["cka"] == 1 and reference["bitrate_bps"] is None
    assert set(reference["drift"].values()) == {0}


def test_units_give_what_is_in_the_features(conditions):
    reported = conditions["4x1", "specific-distortion"]["mutual_information"]
    assert reported["phone"]["excess"] > 0.8 and reported["emotion"]["excess"] > 0.3
    assert reported["phone"]["label_entropy"] == pytest.approx(np.log2(3), abs=0.05)
    for line in conditions.values():
        for level in line["levels"]:
            assert set(level["mutual_information"]) == {"emotion", "speaker", "phone"}


def test_probes_count_by_clip(conditions):
    for line in conditions.values():
        phone = line["phone"]
        assert len(phone["utterances"]) == 12 and sum(phone["total"]) == 263
        assert sum(phone["correct"]) / sum(phone["total"]) > 0.6
        assert len(line["speaker"]["correct"]) == 12
    reference = conditions["continuous", "continuous"]
    assert np.mean(reference["speaker"]["correct"]) > 0.8


def test_the_mean_route_of_each_class_is_reported(conditions):
    assert conditions["4x1", "balanced"]["routes"] is None
    for system in SYSTEMS[1:]:
        routes = conditions["4x1", system]["routes"]
        assert list(routes) == EMOTIONS
        for emotion, shares in routes.items():
            assert list(shares) == EMOTIONS and max(shares, key=shares.get) == emotion
            assert sum(shares.values()) == pytest.approx(1, abs=1e-4)


def test_decoding_by_groups_is_decoding_clip_by_clip(task, store, units):
    expected = decoded_one_by_one(units.bank, store, task.clips)
    for row, clip in zip(decoded_pooled(units, task.clips), task.clips):
        np.testing.assert_allclose(row, expected[clip], atol=1e-6)


def test_distinct_rows_decode_the_chosen_frames(task, units):
    decoded = dict(units.decode(task.clips, units.n_levels))
    random = np.random.default_rng(0)
    chosen = [
        (c, np.flatnonzero(random.random(len(decoded[c])) < 0.5)) for c in decoded
    ]
    chosen = chosen[::-1]
    rows, index = units.distinct_rows(chosen)
    expected = torch.cat([decoded[c][torch.from_numpy(f)] for c, f in chosen])
    torch.testing.assert_close(rows[torch.from_numpy(index)], expected)


def test_distinct_codes_are_found_where_they_can_be_counted():
    codes = torch.tensor([[3, 1], [0, 2], [3, 1]])
    distinct, row = unique_codes(codes, 4)
    assert len(distinct) == 2 and (distinct[torch.from_numpy(row)] == codes).all()
    many, row = unique_codes(codes.repeat(1, 40), 4)  # more than 62 bits
    assert len(many) == 3 and row.tolist() == [0, 1, 2]


def test_a_unit_is_the_code_of_the_heavier_expert(task, units):
    clip = task.clips[0]
    streams = units.streams([clip])
    route = units.routes[clip]
    heavier = max(route, key=route.get)
    block = list(route).index(heavier)
    assert (streams // 4 == units.bank.experts.index(heavier)).all()
    codes = units.codes[clip].numpy()[:, 3 * block : 3 * block + 3]
    assert (streams % 4 == codes).all()
    some = units.streams([clip], {clip: np.array([5, 2])})
    assert (some == streams[[5, 2]]).all()


def test_distortion_is_the_error_relative_to_the_variance(task, units):
    levels = decoded_levels(task, units)
    for level, found in enumerate(levels, 1):
        decoded = dict(units.decode(task.fold.test, level))
        for emotion in ("all", "happy"):
            rows = [
                c
                for c, label in zip(task.fold.test, task.labels)
                if emotion in ("all", EMOTIONS[label])
            ]
            frames = torch.cat([task.test[c] for c in rows])
            error = (frames - torch.cat([decoded[c] for c in rows])).square().mean()
            expected = float(error / frames.var(dim=0, correction=0).mean())
            if emotion == "all":
                assert found["distortion"] == pytest.approx(expected, rel=1e-4)
            elif level == units.n_levels:
                last = found["by_emotion"][emotion]
                assert last == pytest.approx(expected, rel=1e-4)


def test_cka_and_vote_structure_are_of_standardised_pooled_clips(
    root, conditions, task, store, units
):
    pooled = task.standardised(decoded_pooled(units, task.fold.test))
    line = conditions["4x3", store.card["system"]]
    assert line["cka"] == pytest.approx(linear_cka(pooled, task.reference), rel=1e-4)
    one_hot = np.eye(3)[task.labels]
    expected = distance_correlation(one_hot, pooled)
    assert line["vote_structure"] == pytest.approx(expected, rel=1e-4)


def test_clips_that_are_decoded_as_neutral_have_drifted_by_one(task):
    neutral = task.reference[task.labels == 2].mean(axis=0)
    moved = np.tile(neutral, (task.n_test, 1))
    assert drifts(task, moved) == pytest.approx({"angry": 1, "happy": 1})


def test_without_a_neutral_class_there_is_no_drift(task, monkeypatch):
    monkeypatch.setattr(task, "emotions", ["angry", "happy", "sad"])
    assert drifts(task, task.reference) is None


def test_pooled_features_are_those_that_heads_see(task):
    expected = [pool(task.test[c]).numpy() for c in task.fold.test]
    np.testing.assert_allclose(task.pooled[: task.n_test], expected)
    np.testing.assert_allclose(task.standardised(task.pooled).mean(0), 0, atol=1e-5)


def test_the_speaker_probe_splits_by_text_or_else_by_clip(root, task):
    data = DataDirectory.read(root / "raw", EMOTIONS)
    by_text = speaker_task(data, task.clips, task.fold.test)
    assert [int(u[-1]) % 2 for u in task.clips] == by_text.half.tolist()
    data.extra.clear()
    by_clip = speaker_task(data, sorted(task.clips), task.fold.test)
    assert by_clip.half.tolist() == [0, 1] * (len(task.clips) // 2)


def test_units_of_other_codebooks_are_refused(root, task):
    bank = CodebookBank.from_pretrained(root / "quantizer/4x3")
    store = UnitStore(root / "units/4x1/balanced")
    store.card["codebooks_sha256"] = "0"
    with pytest.raises(ValueError, match="was encoded with other codebooks"):
        measure_condition(task, bank, store)


def test_systems_that_are_not_named_have_no_probe(root, conditions):
    found = run_measure(root, "--probe_systems", "balanced", output="fewer")
    for (rate, system), line in found.items():
        if system in ("balanced", "continuous"):
            assert line == conditions[rate, system]
        else:
            assert line["phone"] is None and line["speaker"] is None
            assert line["distortion"] == conditions[rate, system]["distortion"]


def test_without_alignments_there_are_no_phones(root, conditions):
    found = run_measure(root, output="silent", phones=())
    for key, line in found.items():
        assert line["phone"] is None and line["speaker"] == conditions[key]["speaker"]
        reported = line["mutual_information"]
        assert reported is None or (reported["phone"] is None and reported["emotion"])


def test_a_second_call_does_nothing_and_a_change_does_it_again(
    root, conditions, tmp_path, caplog
):
    shutil.copytree(root, tmp_path / "moved")
    with caplog.at_level(logging.INFO):
        assert run_measure(tmp_path / "moved") == conditions
        assert "nothing to do" in caplog.text
        caplog.clear()
        run_measure(tmp_path / "moved", "--seed", "1")
        assert "stale" in caplog.text and "seed: 0 -> 1" in caplog.text


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ["--probe_systems", "specific-cosine"],
            "names 'specific-cosine', which is not",
        ),
        (["--alignments", "nowhere"], "nowhere is missing"),
    ],
)
def test_a_wrong_option_is_explained(root, caplog, options, message):
    with pytest.raises(SystemExit):
        run_measure(root, *options, output="wrong")
    assert message in caplog.text


def test_subwords_of_every_stream_are_learned_measured_and_packed(root, tmp_path):
    output = tmp_path / "units"
    options = (f"--quantizer_dir={root / 'quantizer'}", f"--output_dir={output}")
    options += ("--systems", *SYSTEMS)
    call(encode_units, root, *options, "--subwords=5")
    for rate, system, n_units in (
        ("4x1", "balanced", 4),
        ("4x3", "specific-distortion", 12),
        ("4x3", "specific-soft", 24),
    ):
        made = UnitStore(output / rate / system)
        before = UnitStore(root / "units" / rate / system)
        assert made.card["n_subwords"] == n_units + 5
        read_subwords(made.directory / "subwords.model", n_units)
        assert 0 < made.bitrate.pop("subwords") < np.inf
        assert made.bitrate == before.bitrate
        for utterance in made:
            np.testing.assert_array_equal(made[utterance], before[utterance])
    bank, model = root / "quantizer", output / "4x3/specific-distortion/subwords.model"
    packed = tmp_path / "packed"
    arguments = [f"--quantizer={bank}", "--rate=4x3", "--system=specific-distortion"]
    pack.main([*arguments, f"--output_dir={packed}", f"--subwords={model}"])
    assert (packed / "subwords.model").read_bytes() == model.read_bytes()
    call(encode_units, root, *options)  # without: the old model is gone
    assert not model.exists()
