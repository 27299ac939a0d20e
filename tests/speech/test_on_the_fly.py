"""Features without a dump are the dumped ones."""

import numpy as np
import soundfile

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.speech.encoders.registry import build_encoder
from emoq_plugin.speech.on_the_fly import EncodedOnTheFly


def test_reading_encodes_what_a_dump_would_hold(tmp_path):
    random = np.random.default_rng(0)
    waves = {u: random.normal(0, 0.1, 4000 + 800 * i) for i, u in enumerate("ab")}
    for name, wave in waves.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, 16000, subtype="FLOAT")
    for table, text in (
        ("wav.scp", "".join(f"{u} {tmp_path / u}.wav\n" for u in waves)),
        ("utt2spk", "a s\nb s\n"),
        ("spk2utt", "s a b\n"),
        ("utt2emo", "a sad\nb sad\n"),
    ):
        (tmp_path / table).write_text(text)
    encoder = build_encoder("fbank")
    features = EncodedOnTheFly(DataDirectory.read(tmp_path, ["sad"]), encoder)
    assert list(features) == ["a", "b"] and len(features) == 2
    assert features.specification.fingerprint() == encoder.specification.fingerprint()
    for name, wave in waves.items():
        expected = encoder([wave.astype(np.float32)])[0]
        np.testing.assert_array_equal(features[name], expected)
        assert features.lengths[name] == len(expected)
