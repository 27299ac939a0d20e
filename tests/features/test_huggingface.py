"""Tiny random speech encoders give through our path what transformers gives alone."""

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from emoq_plugin.features.registry import build_encoder  # noqa: E402

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 8, 8),
    "conv_stride": (5, 8, 8),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 5,
}
LAYER = {
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
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
LENGTHS = [4000, 2000, 3137, 4000, 350]


def _waves(lengths=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    # An offset and a scale, so that normalisation matters.
    return [(0.1 * rng.normal(size=n) + 0.02).astype("f4") for n in lengths]


def _randomise(model):
    # Fresh biases are 0 and would hide what padding does through them.
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directory and model of each kind."""
    torch.manual_seed(0)
    made = {}
    for kind, (family, settings, normalize) in KINDS.items():
        directory = tmp_path_factory.mktemp(kind)
        config = getattr(transformers, family + "Config")(**SMALL | settings)
        model = _randomise(getattr(transformers, family + "Model")(config))
        model.save_pretrained(directory)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(
            directory
        )
        made[kind] = directory, model
    return made


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A Whisper that hears 1 s at a time."""
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("whisper")
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=50,
        max_target_positions=8,
        num_mel_bins=20,
        vocab_size=12,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = _randomise(transformers.WhisperForConditionalGeneration(config))
    model.save_pretrained(directory)
    extractor = transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=1)
    extractor.save_pretrained(directory)
    return directory, model.model.encoder, extractor


def _alone(directory, model, wave, layer=None):
    """What transformers gives for one utterance that nothing stands beside."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(directory)
    inputs = extractor(wave, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        out = model(inputs.input_values, output_hidden_states=True)
    return (out.last_hidden_state if layer is None else out.hidden_states[layer])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_every_utterance_gives_alone(models, kind):
    directory, model = models[kind]
    encoder = build_encoder("huggingface", model=str(directory))
    waves = _waves()
    for wave, frames in zip(waves, encoder(waves), strict=True):
        expected = _alone(directory, model, wave).numpy()
        assert frames.shape == expected.shape and frames.dtype == np.float32
        np.testing.assert_allclose(frames, expected, atol=2e-5, rtol=1e-4)
    card = encoder.card
    assert (card.dimension, card.frame_rate_hz, card.layers) == (16, 50.0, [3])


@pytest.mark.parametrize("kind", ["hubert-layer", "wavlm-layer", "wav2vec2-layer"])
def test_models_that_can_mask_padding_share_a_batch(models, kind):
    encoder = build_encoder("huggingface", model=str(models[kind][0]))
    assert len(list(encoder._batches(LENGTHS))) == 1


@pytest.mark.parametrize("kind", ["hubert-group", "hubert-batch-norm", "data2vec"])
def test_other_models_share_a_batch_only_between_equal_lengths(models, kind):
    encoder = build_encoder("huggingface", model=str(models[kind][0]))
    assert list(encoder._batches(LENGTHS)) == [[4], [1], [2], [0, 3]]


def test_batches_hold_at_most_the_given_seconds(models):
    directory, _ = models["hubert-layer"]
    encoder = build_encoder(
        "huggingface", model=str(directory), batch_seconds=8000 / 16000
    )
    batches = list(encoder._batches([4000, 9000, 2000, 2000, 2000, 2000]))
    assert batches == [[2, 3, 4, 5], [0], [1]]
    whole = build_encoder("huggingface", model=str(directory))
    for small, large in zip(encoder(_waves()), whole(_waves())):
        np.testing.assert_allclose(small, large, atol=2e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="batch_seconds 0"):
        build_encoder("huggingface", model=str(directory), batch_seconds=0)


@pytest.mark.parametrize("kind", ["hubert-layer", "wavlm-group"])
def test_layers_are_chosen_averaged_or_kept(models, kind):
    directory, model = models[kind]
    [wave] = _waves([3000])

    def ours(**conf):
        encoder = build_encoder("huggingface", model=str(directory), **conf)
        return encoder.card, encoder([wave])[0]

    truth = [_alone(directory, model, wave, layer).numpy() for layer in (0, 1, 2)]
    last = _alone(directory, model, wave).numpy()
    close = {"atol": 2e-5, "rtol": 1e-4}
    np.testing.assert_allclose(ours(layers=1)[1], truth[1], **close)
    np.testing.assert_allclose(ours(layers=[-2])[1], truth[2], **close)
    np.testing.assert_allclose(ours(layers=3)[1], last, **close)
    card, mean = ours(layers=[0, -1])
    np.testing.assert_allclose(mean, (truth[0] + last) / 2, **close)
    assert (card.layers, card.dimension) == ([0, 3], 16)
    card, kept = ours(layers=[1, -1], layer_mode="concat")
    np.testing.assert_allclose(kept, np.hstack([truth[1], last]), **close)
    assert (card.layers, card.dimension) == ([1, 3], 32)


@pytest.mark.parametrize("layers", [4, -5, [], [1, 9], [1.5]])
def test_a_layer_that_is_not_there_is_refused(models, layers):
    with pytest.raises(ValueError, match="whole numbers from -4 to 3.*3 blocks"):
        build_encoder(
            "huggingface", model=str(models["hubert-group"][0]), layers=layers
        )


def test_encoding_repeats_itself_exactly(models):
    for kind in ("hubert-layer", "wavlm-group"):
        encoder = build_encoder("huggingface", model=str(models[kind][0]))
        for one, two in zip(encoder(_waves()), encoder(_waves())):
            np.testing.assert_array_equal(one, two)


def test_whisper_is_padded_inside_and_trimmed_outside(whisper):
    directory, model, extractor = whisper
    encoder = build_encoder("huggingface", model=str(directory))
    waves = _waves([16000, 5000, 320, 9999])
    for wave, frames in zip(waves, encoder(waves), strict=True):
        mel = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            expected = model(mel).last_hidden_state[0, : len(wave) // 320].numpy()
        assert frames.shape == expected.shape
        np.testing.assert_allclose(frames, expected, atol=2e-5, rtol=1e-4)
    assert encoder.card.frame_rate_hz == 50 and encoder.card.layers == [2]
    with pytest.raises(ValueError, match="319 samples, shorter than one frame"):
        encoder(_waves([319]))


def test_whisper_cuts_what_is_longer_than_its_window(whisper):
    encoder = build_encoder("huggingface", model=str(whisper[0]), batch_seconds=1.0)
    [wave] = _waves([36100])
    [frames] = encoder([wave])
    parts = encoder([wave[:16000], wave[16000:32000], wave[32000:]])
    assert len(frames) == 36100 // 320
    np.testing.assert_allclose(frames, np.concatenate(parts), atol=2e-5, rtol=1e-4)


def test_whisper_layers_are_those_of_its_encoder(whisper):
    directory, model, extractor = whisper
    [wave] = _waves([16000])
    encoder = build_encoder("huggingface", model=str(directory), layers=1)
    mel = extractor(wave, sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = model(mel, output_hidden_states=True).hidden_states[1][0].numpy()
    np.testing.assert_allclose(encoder([wave])[0], expected, atol=2e-5, rtol=1e-4)


def test_the_card_follows_the_weights_and_not_the_place(models, tmp_path):
    import shutil

    directory, model = models["hubert-group"]
    card = build_encoder("huggingface", model=str(directory)).card
    moved = tmp_path / "moved"
    shutil.copytree(directory, moved)
    assert (
        build_encoder("huggingface", model=str(moved)).card.fingerprint()
        == card.fingerprint()
    )
    changed = type(model)(model.config)
    changed.load_state_dict(model.state_dict())
    next(changed.parameters()).data.view(-1)[0] += 1
    changed.save_pretrained(moved)
    other = build_encoder("huggingface", model=str(moved)).card
    assert other.weights_sha256 != card.weights_sha256
    assert len(card.weights_sha256) == 64
    assert "transformers" in card.versions and str(directory) not in str(card.to_json())


def test_half_precision_is_left_to_gpus(models, caplog):
    directory, _ = models["hubert-layer"]
    with caplog.at_level(logging.INFO):
        half = build_encoder("huggingface", model=str(directory), precision="bfloat16")
    assert "bfloat16 is for GPUs" in caplog.text
    full = build_encoder("huggingface", model=str(directory))
    for one, two in zip(half(_waves()), full(_waves())):
        np.testing.assert_array_equal(one, two)
    assert half.card.versions["precision"] == "float32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["hubert-layer", "wavlm-layer", "data2vec"])
def test_a_gpu_gives_what_the_cpu_gives(models, kind, precision):
    model = str(models[kind][0])
    close = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 0.15}[precision]
    gpu = build_encoder("huggingface", model=model, precision=precision, device="cuda")
    assert gpu.card.versions["precision"] == precision
    for one, two in zip(
        gpu(_waves()), build_encoder("huggingface", model=model)(_waves())
    ):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, two, atol=close, rtol=close)


@pytest.mark.parametrize("option", ["layer_mode", "precision"])
def test_a_misspelt_option_is_answered_with_the_choices(option):
    with pytest.raises(ValueError, match=f"{option} 'both', expected one of"):
        build_encoder("huggingface", model="x", **{option: "both"})


def test_a_model_out_of_reach_says_what_to_bring(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("We couldn't connect.\nmore")

    monkeypatch.setattr(
        transformers.AutoFeatureExtractor, "from_pretrained", staticmethod(offline)
    )
    with pytest.raises(ValueError, match="org/name.*model.safetensors.*--model_dir"):
        build_encoder("huggingface", model="org/name")


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
