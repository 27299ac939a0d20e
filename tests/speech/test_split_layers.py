"""Layers of one pass, split, are what a pass for each layer gives."""

import numpy as np
import pytest
import soundfile

from emoq_plugin.bin.dump_features import main as dump
from emoq_plugin.bin.split_layers import main as split
from emoq_plugin.files import write_json, write_table
from emoq_plugin.speech.store import FeatureStore
from tests.speech.tiny_models import make_waves

FILES = ["feats.1.ark", "feats.scp", "feature.json", "golden.npy", "utt2num_frames"]


@pytest.fixture
def dumped(tiny, tmp_path):
    """Return a function that dumps the features of some layers."""
    _, conf = tiny("emotion2vec")
    data = tmp_path / "raw"
    data.mkdir()
    waves = {f"u{i}": wave for i, wave in enumerate(make_waves([4000, 2000]))}
    for name, wave in waves.items():
        soundfile.write(data / f"{name}.wav", wave, 16000, subtype="FLOAT")
    write_table(data / "wav.scp", {u: data / f"{u}.wav" for u in waves})
    write_table(data / "utt2num_samples", {u: len(w) for u, w in waves.items()})
    write_json(data / ".done.json", {"fingerprint": "raw"})

    def make(name, options):
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            f"encoder: emotion2vec\nconf: {{model: {conf['model']}, {options}}}\n"
        )
        arguments = ["--data_dir", data, "--output_dir", tmp_path / name]
        arguments = [str(x) for x in (*arguments, "--config", config)]
        dump(arguments)
        dump([*arguments, "--merge", "true"])
        return tmp_path / name

    return make


def test_each_layer_is_what_it_is_alone(dumped, tmp_path):
    together = dumped("together", "layers: [0, 2], layer_mode: concat")
    where = str(tmp_path / "layer{layer}/all")
    split(["--feature_dir", str(together), "--output_dir", where])
    for layer in (0, 2):
        alone = FeatureStore(dumped(f"alone{layer}", f"layers: [{layer}]"))
        found = FeatureStore(tmp_path / f"layer{layer}/all")
        assert found.specification.fingerprint() == alone.specification.fingerprint()
        assert found.lengths == alone.lengths
        for utterance, frames in alone.items():
            np.testing.assert_allclose(found[utterance], frames, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(found.golden, alone.golden, atol=2e-5, rtol=1e-4)
        left = sorted(p.name for p in found.directory.iterdir() if p.name[0] != ".")
        assert left == FILES


def test_a_second_call_does_nothing(dumped, tmp_path):
    together = dumped("together", "layers: [0, 2], layer_mode: concat")
    where = str(tmp_path / "layer{layer}")
    split(["--feature_dir", str(together), "--output_dir", where])
    ark = tmp_path / "layer2/feats.1.ark"
    before = ark.stat().st_mtime_ns
    split(["--feature_dir", str(together), "--output_dir", where])
    assert ark.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "where, options, message",
    [
        ("all", "layers: [0, 2], layer_mode: concat", "expected {layer} in it"),
        ("layer{layer}", "layers: [0, 2]", "expected layer_mode 'concat'"),
    ],
)
def test_what_cannot_be_split_is_refused(
    dumped, tmp_path, caplog, where, options, message
):
    together = dumped("together", options)
    with pytest.raises(SystemExit):
        split(["--feature_dir", str(together), "--output_dir", str(tmp_path / where)])
    assert message in caplog.text
