"""Two-scale units through the recipe's stages: learned, encoded, scored, packed."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import emoq_plugin
from emoq_plugin import EmoQuantizer
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch_encoding import decode_route
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import read_fold
from emoq_plugin.evaluation.predictions import read_predictions
from emoq_plugin.recipe.stages.encode_units import EncodeUnitsOptions, encode_units
from emoq_plugin.recipe.stages.fold_inputs import FoldInputs, find_bank
from emoq_plugin.recipe.stages.learn_codebooks import (
    LearnCodebooksOptions,
    learn_codebooks,
)
from emoq_plugin.recipe.stages.measure import MeasureOptions, measure
from emoq_plugin.recipe.stages.pack import PackOptions, pack
from emoq_plugin.recipe.stages.ser_probe import SerProbeOptions, ser_probe
from emoq_plugin.speech.store import FeatureStore
from emoq_plugin.units.rates import Rate
from emoq_plugin.units.store import UnitStore
from tests.recipe.small_study import EMOTIONS, make_recipe

SYSTEMS = (
    "balanced",
    "balanced+clip6",
    "specific-calibrated+clip6",
    "balanced+clip6+specific-distortion",
    "clip6",
    "label",
)
RATES = (Rate(4, 1), Rate(4, 2))


def learn(place, systems=SYSTEMS, rates=RATES, **more):
    learn_codebooks(
        LearnCodebooksOptions(
            inputs=place.inputs,
            feature_dir=place.features,
            config=place.config,
            rates=rates,
            systems=systems,
            corpus="toy",
            output_dir=place.quantizer,
            **more,
        )
    )


def encode(place, systems=SYSTEMS, rates=RATES):
    encode_units(
        EncodeUnitsOptions(
            inputs=place.inputs,
            quantizer_dir=place.quantizer,
            feature_dir=place.features,
            rates=rates,
            systems=systems,
            output_dir=place.units,
        )
    )


def make_place(root, n_frames=20, **config):
    make_recipe(root, "toy", n_speakers=12, n_frames=n_frames)
    options = {"norm": "corpus", "learning": {"max_iterations": 3}} | config
    (root / "tiny.yaml").write_text(json.dumps(options))
    return SimpleNamespace(
        root=root,
        inputs=FoldInputs(
            data_dir=root / "dump/raw/all",
            emotions=root / "data/emotions",
            folds=root / "data/folds",
            fold="1",
        ),
        features=root / "dump/fbank/all",
        config=root / "tiny.yaml",
        quantizer=root / "exp/quantizer",
        units=root / "units",
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a recipe after stage 5, with training clips routed by others."""
    place = make_place(tmp_path_factory.mktemp("recipe"))
    learn(place, crossfit=2)
    encode(place)
    return place


def train_clips(place):
    data = DataDirectory.read(place.inputs.data_dir, EMOTIONS)
    return data, list(read_fold(place.inputs.folds, "1", data).train)


@pytest.mark.parametrize("router", [None, "calibrated"])
def test_the_recipe_learns_and_encodes_what_the_estimator_does(place, router):
    data, train = train_clips(place)
    features = FeatureStore(place.features)
    names = [u for u in features.utterances if u in set(train)]
    quantizer = EmoQuantizer(
        4,
        2,
        router=router,
        norm="corpus",
        clip_bits=6,
        learning={"max_iterations": 3},
        classes=EMOTIONS,
    ).fit(
        [features[u] for u in names],
        [data.emotion[u] for u in names],
        speakers=[data.speaker[u] for u in names],
    )
    system = "balanced" if router is None else f"specific-{router}"
    store = UnitStore(place.units / "4x2" / f"{system}+clip6")
    tests = [u for u in features.utterances if u not in set(train)]
    found = quantizer([features[u] for u in tests])
    for row, name in enumerate(tests):
        np.testing.assert_array_equal(store[name], found.codes[row][: len(store[name])])
        np.testing.assert_array_equal(store.clip_codes[name], found.clip_codes[row])


def test_one_clip_code_serves_all_rates_and_no_speaker_is_in_what_routes_it(place):
    data, train = train_clips(place)
    banks = [
        CodebookBank.from_pretrained(find_bank(place.quantizer, Rate(4, n), bits))
        for n, bits in ((1, 6), (2, 6), (1, None))
    ]
    assert banks[0].codebooks_sha256 == banks[1].codebooks_sha256
    assert banks[2].clip_code is None
    whole = banks[0].clip_code.tensors()
    for part in (place.quantizer / "4x2+clip6/crossfit").iterdir():
        bank = CodebookBank.from_pretrained(part)
        alone = make_place(place.root / f"alone{part.name}")
        held_out = set(bank.card["held_out_speakers"])
        others = [u for u in train if data.speaker[u] not in held_out]
        (alone.inputs.folds / "1/train").write_text("\n".join(others) + "\n")
        learn(alone, ("clip6",), RATES[:1])
        # The mean of a clip is scaled by the normalisation, which all of train learned.
        again = CodebookBank.from_pretrained(find_bank(alone.quantizer, RATES[0], 6))
        norms = [b.normalization for b in (bank, again)]
        means = [
            b.clip_code.mean[:4] * n.scale + n.mean
            for b, n in zip((bank, again), norms)
        ]
        torch.testing.assert_close(*means)
        assert not torch.equal(bank.clip_code.mean, whole["mean"])


def test_bits_are_those_of_what_is_stored(place):
    assert_bits_are_stored(place)
    assert [f.name for f in (place.units / "none").iterdir()] == ["clip6"]


def test_a_clip_code_of_windows_is_stored_and_counted_window_by_window(tmp_path):
    place = make_place(tmp_path, n_frames=60, clip_window=0.5)  # 25 frames
    learn(place, ("clip6", "balanced+clip6"), RATES[:1])
    encode(place, ("clip6", "balanced+clip6"), RATES[:1])
    assert_bits_are_stored(place)
    store = UnitStore(place.units / "none/clip6")
    assert {rows.shape[0] for rows in store.clip_codes.values()} == {2}


def assert_bits_are_stored(place):
    for folder in sorted(place.units.glob("*/*")):
        store = UnitStore(folder)
        data, _ = train_clips(place)
        test = read_fold(place.inputs.folds, "1", data).test
        frame_bits = store.card["n_levels"] * 2
        frames = sum(len(store[u]) * frame_bits for u in test)
        clips = sum(
            len(rows) * np.log2(store.card["clip_sizes"]).sum()
            for rows in (store.clip_codes[u] for u in test if store.clip_codes)
        )
        routes = len(test) * np.log2(3) * (len(store.card["experts"]) > 1)
        seconds = store.seconds
        assert store.bitrate["nominal"] * seconds == pytest.approx(frames)
        assert store.bitrate["side_info"] * seconds == pytest.approx(clips + routes)
        if store.clip_codes:
            assert store.bitrate["clip_nominal"] * seconds == pytest.approx(clips)
            assert 0 < store.bitrate["clip_entropy"] * seconds < 2 * clips


def test_units_decode_to_what_the_packed_quantizer_gives(place, tmp_path):
    system = "specific-calibrated+clip6"
    options = {"quantizer": place.quantizer, "system": system, "rate": Rate(4, 2)}
    pack(PackOptions(**options, output_dir=tmp_path))
    quantizer = emoq_plugin.load(str(tmp_path))
    features = FeatureStore(place.features)
    store = UnitStore(place.units / "4x2" / system)
    bank = CodebookBank.from_pretrained(find_bank(place.quantizer, Rate(4, 2), 6))
    _, train = train_clips(place)
    for name in set(features.utterances) - set(train):
        beside = torch.from_numpy(store.clip_codes[name])
        codes = torch.from_numpy(store[name])
        decoded = decode_route(bank, codes, store.routes[name], beside)
        found = quantizer(features[name][None]).features[0]
        expected = bank.normalization.inverse(decoded).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_second_call_does_nothing_and_a_new_system_keeps_what_is_there(tmp_path):
    place = make_place(tmp_path)
    learn(place, ("balanced+clip6",))
    files = sorted(place.quantizer.rglob("*"))
    before = [path.stat().st_mtime_ns for path in files]
    learn(place, ("balanced+clip6",))
    assert [path.stat().st_mtime_ns for path in files] == before
    bank = CodebookBank.from_pretrained(place.quantizer / "4x2+clip6")
    learn(place, ("balanced+clip6", "specific-distortion+clip6"))
    more = CodebookBank.from_pretrained(place.quantizer / "4x2+clip6")
    assert more.expert_sets == ["balanced", "specific"]
    for own, other in zip(bank.stacked(["balanced"]), more.stacked(["balanced"])):
        torch.testing.assert_close(own, other, rtol=0, atol=0)
    for name, tensor in bank.clip_code.tensors().items():
        torch.testing.assert_close(tensor, more.clip_code.tensors()[name])
    encode(place, ("balanced+clip6",))
    files = sorted(place.units.rglob("*"))
    before = [path.stat().st_mtime_ns for path in files]
    encode(place, ("balanced+clip6",))
    assert [path.stat().st_mtime_ns for path in files] == before


def test_every_system_is_scored_and_a_clip_code_alone_once(place):
    (place.root / "probe.yaml").write_text("C: 0.1\n")
    output = place.root / "ser"
    ser_probe(
        SerProbeOptions(
            inputs=place.inputs,
            quantizer_dir=place.quantizer,
            units_dir=place.units,
            feature_dir=place.features,
            rates=RATES,
            systems=SYSTEMS,
            config=place.root / "probe.yaml",
            output_dir=output,
        )
    )
    found = {p.key: p for p in read_predictions(output / "posteriors.jsonl")}
    framed = [s for s in SYSTEMS if s not in ("clip6", "label")]
    expected = {f"{rate}/{s}/retrained" for rate in RATES for s in framed}
    expected |= {f"none/{s}/retrained" for s in ("clip6", "label")}
    expected |= {"continuous/retrained"}
    assert {key for key in found if key.endswith("retrained")} == expected
    label = found["none/label/retrained"].bitrate_bps
    calibrated = found["4x1/specific-calibrated+clip6/retrained"].bitrate_bps
    assert label["nominal"] == 0
    route = calibrated["side_info"] - calibrated["clip_nominal"]
    assert label["side_info"] == pytest.approx(route)
    codes, beside = (
        found[f"4x1/balanced+clip6{more}/retrained"].bitrate_bps
        for more in ("", "+specific-distortion")
    )
    assert beside["side_info"] - codes["side_info"] == pytest.approx(route)
    # The label says what the calibrated router says, whatever the head weighs.
    assert "none/clip6/frozen" in found and "none/label/frozen" not in found


def test_measures_see_the_clip_code_in_what_is_decoded(place):
    measure(
        MeasureOptions(
            inputs=place.inputs,
            quantizer_dir=place.quantizer,
            units_dir=place.units,
            feature_dir=place.features,
            rates=RATES,
            systems=SYSTEMS,
            n_permutations=2,
            output_dir=place.root / "measures",
        )
    )
    lines = (place.root / "measures/measures.jsonl").read_text().splitlines()
    found = {(m["rate"], m["system"]): m for m in map(json.loads, lines)}
    error = {key: entry["distortion"]["all"] for key, entry in found.items()}
    assert error["4x1", "balanced+clip6"] < error["none", "clip6"] < 1
    assert error["4x1", "balanced+clip6"] < error["4x1", "balanced"]
    alone = found["none", "clip6"]
    assert alone["mutual_information"] is None and alone["routes"] is None


def test_banks_that_nobody_routes_have_no_others_beside_them(tmp_path):
    place = make_place(tmp_path)
    learn(place, ("balanced+clip6",), RATES[:1], crossfit=2)
    crossfit = place.quantizer / "4x1+clip6/crossfit"
    assert not crossfit.exists()
    learn(place, ("balanced+clip6", "specific-distortion+clip6"), RATES[:1], crossfit=2)
    banks = [CodebookBank.from_pretrained(crossfit / name) for name in "01"]
    assert all(bank.expert_sets == ["balanced", "specific"] for bank in banks)


@pytest.mark.parametrize(
    ("options", "study"),
    [
        ([], "emodb"),
        (["--feature_config", "fbank"], "emodb"),
        (["--feature_config", "whisper_base", "--stage", "4"], "whisper"),
        (["--stage", "4", "--feature_config", "conf/features/whisper_base.yaml"],
         "whisper"),
    ],
)  # fmt: skip
def test_the_recipe_takes_the_study_and_the_norm_that_suit_the_encoder(
    tmp_path, repository, options, study
):
    shutil.copy(repository / "egs2/emodb/ser2/run.sh", tmp_path)
    (tmp_path / "ser2.sh").write_text('#!/bin/sh\necho "$study_config" "$@"\n')
    (tmp_path / "ser2.sh").chmod(0o755)
    command = ["bash", str(tmp_path / "run.sh"), *options]
    found = subprocess.check_output(command, text=True).strip()
    assert found.split()[0] == study
    assert ("--quantizer_config corpus" in found) == (study == "whisper")
    assert found.endswith(" ".join(options))  # so that the user's come last and win
