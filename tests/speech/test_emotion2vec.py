"""emotion2vec gives what funasr's model gives with the same weights.

The numbers of funasr are kept in emotion2vec_funasr.npz, so that the comparison runs
without it; where funasr is installed (pip install --no-deps funasr), more variants are
compared. Made anew by: python -m tests.speech.test_emotion2vec
"""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from emoq_plugin.speech.encoders.emotion2vec import (
    Data2Vec,
    read_checkpoint,
    read_convolutions,
)
from emoq_plugin.speech.encoders.registry import build_encoder
from tests.speech.tiny_models import (
    emotion2vec_conf,
    make_waves,
    randomise,
    save_emotion2vec,
)

KEPT = Path(__file__).parent / "emotion2vec_funasr.npz"
CLOSE = {"atol": 5e-5, "rtol": 1e-4}
WAVES = [2000, 1100]


def _funasr(conf):
    """Build funasr's model with random weights; give it and its layers for a wave."""
    from funasr.models.emotion2vec.model import Emotion2vec

    torch.manual_seed(0)
    model = randomise(Emotion2vec(**conf, vocab_size=9), scale=0.2)
    audio = model.modality_encoders["AUDIO"]

    def layers(wave):
        found = []
        blocks = [*audio.context_encoder.blocks, *model.blocks]
        hooks = [b.register_forward_hook(lambda *a: found.append(a[2])) for b in blocks]
        source = torch.from_numpy(wave)
        source = torch.nn.functional.layer_norm(source, source.shape)
        with torch.no_grad():
            last = model.extract_features(source[None])["x"]
        for hook in hooks:
            hook.remove()
        extra = audio.modality_cfg.num_extra_tokens
        kept = [hidden[0][:, extra:] for hidden in found[:-1]]
        return torch.cat([*kept, last], dim=-1)[0].numpy()

    return model, layers


def _ours(directory):
    return build_encoder(
        "emotion2vec", model=str(directory), layers=[1, 2, 3], layer_mode="concat"
    )


def test_frames_are_those_that_funasr_gave(tmp_path):
    kept = np.load(KEPT)
    weights = {k: torch.from_numpy(v) for k, v in kept.items() if "/" not in k}
    save_emotion2vec(tmp_path, emotion2vec_conf(), weights)
    waves = make_waves(WAVES)
    for i, frames in enumerate(_ours(tmp_path)(waves)):
        np.testing.assert_allclose(frames, kept[f"frames/{i}"], **CLOSE)


@pytest.mark.parametrize(
    "audio",
    [
        {},
        {"extractor_mode": "default", "conv_pos_width": 8},
        {"learned_alibi_scale_per_layer": True},
        {"learned_alibi_scale_per_head": False, "num_extra_tokens": 1},
        {"use_alibi_encoder": False, "conv_pos_width": 20, "prenet_depth": 2},
    ],
)
def test_frames_are_those_of_funasr(audio, tmp_path):
    pytest.importorskip("funasr.models.emotion2vec.model")
    conf = emotion2vec_conf(**audio)
    model, layers = _funasr(conf)
    save_emotion2vec(tmp_path, conf, model.state_dict())
    encoder = _ours(tmp_path)
    for wave in make_waves([4000, 3137, 650]):
        expected = layers(wave)[:, : encoder.specification.dimension]
        np.testing.assert_allclose(encoder([wave])[0], expected, **CLOSE)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Bad:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    class Method:
        def __reduce__(self):
            return (tmp_path / "run").mkdir, ()

    held = {"state_dict": {"a": torch.ones(2)}, "cfg": Bad(), "args": Method()}
    torch.save(held, tmp_path / "m.pt")
    assert list(read_checkpoint(tmp_path / "m.pt")) == ["a"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1, 2])])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ValueError, match="m.pt: "):
        read_checkpoint(tmp_path / "m.pt")


def test_weights_that_the_model_has_not_are_named(tmp_path):
    conf = emotion2vec_conf()
    weights = Data2Vec(conf["model_conf"]).state_dict()
    save_emotion2vec(tmp_path, conf, weights | {"adapter.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="1 weights that .* has not, 'adapter.weight'"):
        build_encoder("emotion2vec", model=str(tmp_path))
    save_emotion2vec(tmp_path, conf, weights | {"proj.weight": torch.ones(9, 12)})
    build_encoder("emotion2vec", model=str(tmp_path))


@pytest.mark.parametrize("key", ["layer_norm_first", "embed_dim"])
def test_a_configuration_that_does_not_fit_is_named(tmp_path, key):
    conf = emotion2vec_conf()
    save_emotion2vec(tmp_path, conf, Data2Vec(conf["model_conf"]).state_dict())
    if key == "embed_dim":
        del conf["model_conf"][key]
    else:
        conf["model_conf"][key] = True
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(conf))
    with pytest.raises(ValueError, match=f"{key}.*config.yaml and one .pt file"):
        build_encoder("emotion2vec", model=str(tmp_path))


@pytest.mark.parametrize("text", ["__import__('os')", "[(1, 2, 'x')]", "f(1)"])
def test_shapes_are_read_without_running_them(text):
    with pytest.raises(ValueError, match="expected such as"):
        read_convolutions(text)


if __name__ == "__main__":
    conf = emotion2vec_conf()
    model, layers = _funasr(conf)
    own = Data2Vec(conf["model_conf"]).state_dict()
    weights = {k: v.numpy() for k, v in model.state_dict().items() if k in own}
    frames = {f"frames/{i}": layers(w) for i, w in enumerate(make_waves(WAVES))}
    np.savez_compressed(KEPT, **weights, **frames)
