"""ESPnet's k-means files: what comes in and goes out gives the same units."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import joblib
import kaldiio
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans

import emoq_plugin
from emoq_plugin.bin import export, import_kmeans
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.espnet_adapters.kmeans_models import read_centers
from emoq_plugin.files import read_table, write_json
from emoq_plugin.speech.encoders.registry import build_encoder

ROOT = Path(__file__).parents[2]
ESPNET = os.environ.get("ESPNET_ROOT") or next(ROOT.glob(".venv/espnet-*"), "")
DIMENSION = 4


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).normal(size=(200, DIMENSION)).astype(np.float32)


def make_bank(kind="corpus", scale=2.0):
    random = torch.Generator().manual_seed(0)
    codebooks = [torch.randn(2, k, DIMENSION, generator=random) for k in (8, 8)]
    norm = Normalization(kind, torch.arange(4.0), torch.ones(DIMENSION) * scale)
    experts = ["balanced", "specific/sad"]
    return CodebookBank(experts, codebooks, norm, emotions=["sad"])


def run(command, *arguments):
    command.main([str(a) for a in arguments])


def test_one_level_of_espnet_gives_the_same_units(frames, tmp_path):
    model = MiniBatchKMeans(8, n_init=1, random_state=0).fit(frames)
    joblib.dump(model, tmp_path / "km_8.mdl")
    run(import_kmeans, tmp_path / "km_8.mdl", "--output_dir", tmp_path / "out")
    quantizer = emoq_plugin.load(str(tmp_path / "out"), system="balanced")
    codes = quantizer.encode(torch.from_numpy(frames)[None])[0, :, 0]
    assert codes.tolist() == model.predict(frames).tolist()


def test_levels_of_espnet_are_residual_levels(frames, tmp_path):
    first = KMeans(8, n_init=1, random_state=0).fit(frames)
    rest = frames - first.cluster_centers_[first.labels_]
    second = KMeans(6, n_init=1, random_state=0).fit(rest)
    joblib.dump(first, tmp_path / "km_8_RVQ_0.mdl")
    joblib.dump(second, tmp_path / "km_8_RVQ_1.mdl")
    options = ("--n_levels", 2, "--output_dir", tmp_path / "out")
    run(import_kmeans, tmp_path / "km_8.mdl", *options)
    quantizer = emoq_plugin.load(str(tmp_path / "out"), system="balanced")
    codes = quantizer.encode(torch.from_numpy(frames)[None])[0]
    expected = np.stack([first.labels_, second.labels_], axis=1)
    assert np.array_equal(codes.numpy(), expected)


@pytest.mark.parametrize("n_levels", [1, 2])
def test_out_and_in_again_gives_the_same_codes(frames, tmp_path, n_levels):
    bank = make_bank()
    bank.save_pretrained(tmp_path / "bank")
    common = ("--quantizer", tmp_path / "bank", "--system", "balanced")
    model, levels = tmp_path / "km_8.mdl", ("--n_levels", n_levels)
    run(export, *common, *levels, "--kmeans", model)
    run(import_kmeans, model, *levels, "--output_dir", tmp_path / "again")
    x = torch.from_numpy(frames)[None] * 3
    again = emoq_plugin.load(str(tmp_path / "again"), system="balanced").encode(x)
    assert torch.equal(again, bank.expert("balanced").encode(x, n_levels=n_levels))


def test_exported_models_predict_like_those_of_scikit_learn(frames, tmp_path):
    bank = make_bank()
    bank.save_pretrained(tmp_path / "bank")
    options = (
        "--quantizer",
        tmp_path / "bank",
        "--system",
        "balanced",
        "--n_levels",
        1,
    )
    run(export, *options, "--kmeans", tmp_path / "km_8.mdl")
    model = joblib.load(tmp_path / "km_8.mdl")
    codes = bank.expert("balanced").encode(torch.from_numpy(frames)[None])[0, :, 0]
    assert model.predict(frames).tolist() == codes.tolist()


def test_a_normalisation_that_k_means_cannot_follow_is_refused(tmp_path, caplog):
    for kind, scale in (("clip", 2.0), ("corpus", torch.arange(1.0, 5.0))):
        make_bank(kind, scale).save_pretrained(tmp_path / "bank")
        options = ("--quantizer", tmp_path / "bank", "--system", "balanced")
        with pytest.raises(SystemExit):
            run(export, *options, "--kmeans", tmp_path / "km_8.mdl")
        assert f"normalises by '{kind}'" in caplog.text
        assert not list(tmp_path.glob("*.mdl"))
    run(export, *options, "--kmeans", tmp_path / "km_8.mdl", "--space", "normalised")
    centers = joblib.load(tmp_path / "km_8_RVQ_1.mdl").cluster_centers_
    assert np.array_equal(centers, make_bank().codebooks[1][0].numpy())


def test_the_feature_specification_goes_along(frames, tmp_path):
    joblib.dump(MiniBatchKMeans(8, n_init=1).fit(frames), tmp_path / "km_8.mdl")
    encoder = build_encoder("fbank", num_mel_bins=DIMENSION)
    write_json(tmp_path / "feature.json", encoder.specification.to_json())
    options = ("--feature_specification", tmp_path / "feature.json")
    run(
        import_kmeans, tmp_path / "km_8.mdl", *options, "--output_dir", tmp_path / "out"
    )
    wave = np.random.default_rng(0).normal(size=8000) / 8
    units = emoq_plugin.load(str(tmp_path / "out"), system="balanced").units(
        (wave, 16000)
    )
    assert units.codes.shape == (24, 1)


def write_old_model(path, centers, *, module, version):
    """Write what a scikit-learn with that module wrote."""
    other = ModuleType(module)
    other.KMeans = type("KMeans", (), {"__module__": module})
    model = other.KMeans()
    metadata = {"n_clusters": len(centers), "cluster_centers_": centers, "n_init": 10}
    model.__dict__ |= metadata | ({"_sklearn_version": version} if version else {})
    sys.modules[module] = other
    try:
        joblib.dump(model, path)
    finally:
        del sys.modules[module]


@pytest.mark.parametrize(
    ("version", "reported"),
    [("0.19.1", "0.19.1"), ("9.0", "9.0"), (None, "before 0.18")],
)
def test_the_centres_of_another_scikit_learn_are_read_and_its_version_reported(
    frames, tmp_path, caplog, version, reported
):
    path, centers = tmp_path / "km_8.mdl", frames[:8].astype(float)
    write_old_model(path, centers, module="sklearn.cluster.k_means_", version=version)
    caplog.set_level("INFO")
    run(import_kmeans, path, "--output_dir", tmp_path / "out")
    assert f"km_8.mdl: made by scikit-learn {reported} (here " in caplog.text
    assert "sklearn.cluster.k_means_" not in sys.modules
    bank = CodebookBank.from_pretrained(tmp_path / "out")
    assert np.array_equal(bank.codebooks[0][0].numpy(), frames[:8])


def test_the_version_is_reported_where_the_class_is_still_the_same(
    frames, tmp_path, caplog, monkeypatch
):
    model = KMeans(8, n_init=1).fit(frames)
    monkeypatch.setattr("sklearn.base.__version__", "1.0.2")
    joblib.dump(model, tmp_path / "km_8.mdl")
    monkeypatch.undo()
    caplog.set_level("INFO")
    found = read_centers(tmp_path / "km_8.mdl")
    assert "made by scikit-learn 1.0.2 (here " in caplog.text
    assert np.allclose(found.numpy(), model.cluster_centers_)
    caplog.clear()
    joblib.dump(model, tmp_path / "km_8.mdl")
    read_centers(tmp_path / "km_8.mdl")
    assert not caplog.text


def test_a_module_of_somebody_else_is_named(frames, tmp_path):
    path = tmp_path / "km_8.mdl"
    write_old_model(path, frames[:8], module="their_kmeans", version=None)
    with pytest.raises(ValueError, match="km_8.mdl: cannot be unpickled .*their_kmean"):
        read_centers(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"centers": 1}, "holds a dict whose cluster_centers_ is object of shape"),
        (b"not a pickle", "cannot be unpickled"),
        (b"", "km_8.mdl: is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html>\n", "is a web page"),
    ],
)
def test_other_objects_are_refused(tmp_path, caplog, content, message):
    path = tmp_path / "km_8.mdl"
    (
        path.write_bytes(content)
        if isinstance(content, bytes)
        else joblib.dump(content, path)
    )
    with pytest.raises(SystemExit):
        run(import_kmeans, path, "--output_dir", tmp_path / "out")
    assert message in caplog.text
    assert not (tmp_path / "out").exists()


def test_wrong_shapes_and_calls_are_reported(frames, tmp_path, caplog):
    joblib.dump(KMeans(8, n_init=1).fit(frames), tmp_path / "km_8_RVQ_0.mdl")
    joblib.dump(KMeans(8, n_init=1).fit(frames[:, :3]), tmp_path / "km_8_RVQ_1.mdl")
    options = ("--n_levels", 2, "--output_dir", tmp_path / "out")
    for arguments, message in (
        ((tmp_path / "km_8.mdl", *options), "has 3 dimensions"),
        ((tmp_path / "km_9.mdl", *options), "No such file"),
        ((tmp_path / "km_8.pkl", *options), "ends in .mdl"),
    ):
        with pytest.raises(SystemExit):
            run(import_kmeans, *arguments)
        assert message in caplog.text
    with pytest.raises(SystemExit):
        run(export, "--quantizer", tmp_path)
    assert "nothing to write" in caplog.text


def test_an_expert_that_leaves_its_system_says_that_the_route_is_left_out(
    tmp_path, caplog
):
    random = torch.Generator().manual_seed(0)
    codebooks = [torch.randn(2, 8, DIMENSION, generator=random)]
    norm = Normalization("corpus", torch.zeros(DIMENSION), torch.ones(DIMENSION))
    experts = ["specific/angry", "specific/sad"]
    bank = CodebookBank(experts, codebooks, norm, emotions=["angry", "sad"])
    bank.save_pretrained(tmp_path / "bank")
    options = ("--quantizer", tmp_path / "bank", "--system", "specific-distortion")
    options += ("--expert", "specific/sad", "--kmeans", tmp_path / "km_8.mdl")
    run(export, *options)
    assert "the route of system 'specific-distortion' is left out" in caplog.text


@pytest.mark.skipif(not ESPNET, reason="ESPnet's recipe tree is not there")
def test_espnets_own_script_writes_our_pseudo_labels(frames, tmp_path):
    bank = make_bank()
    bank.save_pretrained(tmp_path / "bank")
    options = ("--quantizer", tmp_path / "bank", "--system", "balanced")
    run(export, *options, "--kmeans", tmp_path / "km_8.mdl")
    feats = {"a": frames[:30], "b": frames[30:50]}
    kaldiio.save_ark(
        str(tmp_path / "feats.ark"), feats, scp=str(tmp_path / "feats.scp")
    )
    # The script imports h5py, which it does not use for Kaldi matrices.
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "h5py.py").touch()
    scripts = Path(ESPNET) / "egs2/TEMPLATE/asr1/pyscripts/feats"
    done = subprocess.run(
        [sys.executable, str(scripts / "dump_km_label.py"), "--RVQ_layers", "2"]
        + ["--km_path", str(tmp_path / "km_8.mdl"), "--in_filetype", "mat"]
        + [f"scp:{tmp_path}/feats.scp", f"ark,t:{tmp_path}/pseudo_labels_km8.txt"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "stub")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for level in range(2):
        labels = read_table(tmp_path / f"pseudo_labels_RVQ_{level}_km8.txt")
        for utterance, clip in feats.items():
            codes = bank.expert("balanced").encode(torch.from_numpy(clip)[None])
            found = labels[utterance].replace("[", "").replace("]", "").split()
            assert found == [str(int(c)) for c in codes[0, :, level]]
