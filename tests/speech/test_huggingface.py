"""Tiny random speech encoders give through our path what transformers gives alone."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from emoq_plugin.speech.encoders.registry import build_encoder  # noqa: E402
from emoq_plugin.speech.pipeline import build_from_specification  # noqa: E402
from tests.speech.tiny_models import (  # noqa: E402
    LAYER,
    LENGTHS,
    make_transformers,
    make_waves,
    make_whisper,
)

GROUP = {"feat_extract_norm": "group"}
KINDS = {
    "hubert-layer": ("Hubert", LAYER, True),
    "hubert-group": ("Hubert", GROUP, True),
    "hubert-batch-norm": ("Hubert", LAYER | {"conv_pos_batch_norm": True}, False),
    "wavlm-layer": ("WavLM", LAYER, True),
    "wavlm-group": ("WavLM", GROUP, False),
    "wav2vec2-layer": ("Wav2Vec2", LAYER, False),
    "wav2vec2-group": ("Wav2Vec2", GROUP, True),
    "data2vec": (
        "Data2VecAudio",
        {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3},
        True,
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directory and model of each kind."""
    made = {}
    for kind, (family, settings, normalize) in KINDS.items():
        directory = tmp_path_factory.mktemp(kind)
        model = make_transformers(directory, family, normalize, **settings)
        made[kind] = directory, model
    return made


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A Whisper that hears 1 s at a time."""
    directory = tmp_path_factory.mktemp("whisper")
    model = make_whisper(directory)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(directory)
    return directory, model.model.encoder, extractor


def _alone(directory, model, wave, layer=None):
    """What transformers gives for one utterance without others in the batch."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(directory)
    inputs = extractor(wave, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        out = model(inputs.input_values, output_hidden_states=True)
    return (out.last_hidden_state if layer is None else out.hidden_states[layer])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_every_utterance_gives_alone(models, kind):
    directory, model = models[kind]
    encoder = build_encoder("huggingface", model=str(directory))
    waves = make_waves()
    for wave, frames in zip(waves, encoder(waves), strict=True):
        expected = _alone(directory, model, wave).numpy()
        assert frames.shape == expected.shape and frames.dtype == np.float32
        np.testing.assert_allclose(frames, expected, atol=2e-5, rtol=1e-4)
    specification = encoder.specification
    assert (
        specification.dimension,
        specification.frame_rate_hz,
        specification.layers,
    ) == (16, 50.0, [3])


@pytest.mark.parametrize("kind", ["hubert-layer", "wavlm-layer", "wav2vec2-layer"])
def test_models_that_can_mask_padding_share_a_batch(models, kind):
    encoder = build_encoder("huggingface", model=str(models[kind][0]))
    assert len(list(encoder._batches(LENGTHS))) == 1


@pytest.mark.parametrize("kind", ["hubert-group", "hubert-batch-norm", "data2vec"])
def test_other_models_share_a_batch_only_between_equal_lengths(models, kind):
    encoder = build_encoder("huggingface", model=str(models[kind][0]))
    assert list(encoder._batches(LENGTHS)) == [[4], [1], [2], [0, 3]]


@pytest.mark.parametrize("kind", ["hubert-layer", "wavlm-group"])
def test_layers_are_those_of_transformers(models, kind):
    directory, model = models[kind]
    [wave] = make_waves([3000])
    for layer in (0, 1, 2):
        encoder = build_encoder("huggingface", model=str(directory), layers=layer)
        expected = _alone(directory, model, wave, layer).numpy()
        np.testing.assert_allclose(encoder([wave])[0], expected, atol=2e-5, rtol=1e-4)


def test_whisper_is_padded_inside_and_trimmed_outside(whisper):
    directory, model, extractor = whisper
    encoder = build_encoder("huggingface", model=str(directory))
    waves = make_waves([16000, 5000, 320, 9999])
    for wave, frames in zip(waves, encoder(waves), strict=True):
        mel = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            expected = model(mel).last_hidden_state[0, : len(wave) // 320].numpy()
        assert frames.shape == expected.shape
        np.testing.assert_allclose(frames, expected, atol=2e-5, rtol=1e-4)
    assert (
        encoder.specification.frame_rate_hz == 50
        and encoder.specification.layers == [3]
    )
    with pytest.raises(ValueError, match="319 samples, shorter than one frame"):
        encoder(make_waves([319]))


@pytest.mark.parametrize("window", ["full", "clip"])
def test_a_long_wave_is_that_of_its_pieces_in_every_window(whisper, window):
    encoder = build_encoder(
        "huggingface", model=str(whisper[0]), window=window, batch_seconds=1.0
    )
    [wave] = make_waves([36100])
    parts = encoder([wave[:16000], wave[16000:32000], wave[32000:]])
    [frames] = encoder([wave])
    assert len(frames) == 36100 // 320
    np.testing.assert_allclose(frames, np.concatenate(parts), atol=2e-5, rtol=1e-4)


def test_a_clip_that_fills_the_window_is_heard_alike_in_both(whisper):
    full, clip = (
        build_encoder("huggingface", model=str(whisper[0]), window=window)
        for window in ("full", "clip")
    )
    short, long = make_waves([5000, 15900])
    np.testing.assert_array_equal(full([long])[0], clip([long])[0])
    assert np.abs(full([short])[0] - clip([short])[0]).max() > 1e-3
    assert full.specification.fingerprint() != clip.specification.fingerprint()


def test_a_clip_is_computed_with_the_tail_only_and_as_far_as_the_layer(whisper):
    encoder = build_encoder(
        "huggingface", model=str(whisper[0]), window="clip", layers=1
    )
    seen = []
    for block in encoder.module.layers:
        block.register_forward_hook(lambda _, inputs, out: seen.append(out.shape))
    encoder(make_waves([3200, 1600]))
    assert seen == [(2, 12, 16)]  # 10 frames and 2 of silence, one block of three


def test_a_window_is_a_part_of_the_card_and_of_what_is_built_from_it(whisper):
    made = build_encoder("huggingface", model=str(whisper[0]), window="clip", layers=2)
    again = build_from_specification(
        made.specification.to_json(), model_dir=str(whisper[0])
    )
    [wave] = make_waves([5000])
    np.testing.assert_array_equal(made([wave])[0], again([wave])[0])
    before = build_encoder("huggingface", model=str(whisper[0])).specification.settings
    assert "window" not in before  # cards of older features stay what they are


def test_a_window_is_refused_where_there_is_none_and_where_it_is_misspelt(models):
    model = str(models["hubert-layer"][0])
    with pytest.raises(ValueError, match="type 'hubert': only Whisper has a window"):
        build_encoder("huggingface", model=model, window="clip")
    with pytest.raises(ValueError, match="window 'short', expected one of"):
        build_encoder("huggingface", model=model, window="short")


def test_whisper_layers_are_those_of_its_encoder(whisper):
    directory, model, extractor = whisper
    [wave] = make_waves([16000])
    encoder = build_encoder("huggingface", model=str(directory), layers=1)
    mel = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = model(mel, output_hidden_states=True).hidden_states[1][0].numpy()
    np.testing.assert_allclose(encoder([wave])[0], expected, atol=2e-5, rtol=1e-4)


def test_another_weight_is_another_encoder(models, tmp_path):
    import shutil

    directory, model = models["hubert-group"]
    specification = build_encoder("huggingface", model=str(directory)).specification
    shutil.copytree(directory, tmp_path / "changed")
    changed = type(model)(model.config)
    changed.load_state_dict(model.state_dict())
    next(changed.parameters()).data.view(-1)[0] += 1
    changed.save_pretrained(tmp_path / "changed")
    other = build_encoder("huggingface", model=str(tmp_path / "changed")).specification
    assert other.weights_sha256 != specification.weights_sha256
    assert "transformers" in specification.versions


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["hubert-layer", "wavlm-layer", "data2vec"])
def test_a_gpu_gives_what_the_cpu_gives(models, kind, precision):
    model = str(models[kind][0])
    close = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 0.15}[precision]
    gpu = build_encoder("huggingface", model=model, precision=precision, device="cuda")
    assert gpu.specification.versions["precision"] == precision
    for one, two in zip(
        gpu(make_waves()), build_encoder("huggingface", model=model)(make_waves())
    ):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, two, atol=close, rtol=close)


def test_an_incomplete_directory_says_what_is_there(models, tmp_path):
    import shutil

    directory, _ = models["hubert-group"]
    shutil.copy(directory / "config.json", tmp_path)
    with pytest.raises(ValueError, match=r"preprocessor_config.*found \['config.json'"):
        build_encoder("huggingface", model=str(tmp_path))


def test_weights_that_are_missing_are_not_drawn_at_random(models, tmp_path):
    import json
    import shutil

    directory, _ = models["hubert-group"]
    broken = tmp_path / "deeper"
    shutil.copytree(directory, broken)
    config = json.loads((broken / "config.json").read_text())
    config["num_hidden_layers"] = 5
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lacks .* weights.*layers\.3"):
        build_encoder("huggingface", model=str(broken))


def test_a_text_model_is_refused(tmp_path):
    config = transformers.BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=9,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'bert', expected HuBERT"):
        build_encoder("huggingface", model=str(tmp_path))
