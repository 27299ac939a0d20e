"""Tiny random models of every architecture, built through the libraries themselves."""

from pathlib import Path

import numpy as np
import yaml

LENGTHS = [4000, 2000, 3137, 4000, 1100]
# Kernels and strides of 320 samples = 50 Hz in three layers.
KERNELS, STRIDES = (10, 8, 8), (5, 8, 8)


def make_waves(lengths=LENGTHS, seed=0):
    """Noise with an offset and a scale, so that normalisation matters."""
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.normal(size=n) + 0.02).astype("f4") for n in lengths]


def randomise(model, scale=0.1):
    """Move all weights: fresh biases are 0 and would hide what padding does."""
    import torch

    for parameter in model.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return model.eval()


def make_transformers(directory, family, normalize=True, **settings):
    """Save a tiny HuBERT, WavLM, wav2vec 2.0 or data2vec-audio; give the model."""
    import torch
    import transformers

    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": (8, 8, 8),
        "conv_kernel": KERNELS,
        "conv_stride": STRIDES,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "vocab_size": 5,
    }
    config = getattr(transformers, family + "Config")(**small | settings)
    model = randomise(getattr(transformers, family + "Model")(config))
    model.save_pretrained(directory)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize)
    extractor.save_pretrained(directory)
    return model


def make_whisper(directory):
    """Save a Whisper that hears 1 s at a time; give the model."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=3,
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
    model = randomise(transformers.WhisperForConditionalGeneration(config))
    model.save_pretrained(directory)
    extractor = transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=1)
    extractor.save_pretrained(directory)
    return model


def make_s3prl(directory):
    """Save a checkpoint of S3PRL's own HuBERT."""
    import torch
    from s3prl.upstream.hubert import hubert_model

    torch.manual_seed(0)
    task = {"label_rate": 50.0, "sample_rate": 16000, "normalize": True}
    model = {
        "label_rate": 50.0,
        "extractor_mode": "layer_norm",
        "encoder_layers": 3,
        "encoder_embed_dim": 16,
        "encoder_ffn_embed_dim": 24,
        "encoder_attention_heads": 2,
        "conv_feature_layers": str([(8, k, s) for k, s in zip(KERNELS, STRIDES)]),
        "conv_pos": 16,
        "conv_pos_groups": 2,
        "final_dim": 8,
        "layer_norm_first": True,
    }
    built = hubert_model.HubertModel(
        hubert_model.HubertConfig(**model),
        hubert_model.HubertPretrainingConfig(**task),
        [["a", "b"]],
    )
    state = {"task_cfg": task, "model_cfg": model, "dictionaries_symbols": [["a", "b"]]}
    state["model_weight"] = randomise(built).state_dict()
    torch.save(state, directory / "hubert.pt")


def emotion2vec_conf(**audio):
    """Return the configuration of a tiny emotion2vec, in the form of config.yaml."""
    shapes = [(8, k, s) for k, s in zip(KERNELS, STRIDES)]
    audio = {
        "type": "AUDIO",
        "prenet_depth": 1,
        "prenet_layerdrop": 0.0,
        "prenet_dropout": 0.0,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "num_extra_tokens": 3,
        "init_extra_token_zero": True,
        "use_alibi_encoder": True,
        "alibi_scale": 1.0,
        "learned_alibi": False,
        "learned_alibi_scale": True,
        "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False,
        "num_alibi_heads": 3,
        "local_grad_mult": 1.0,
        "model_depth": 2,
        "decoder": None,
        "extractor_mode": "layer_norm",
        "feature_encoder_spec": f"[{shapes[0]}] + [{shapes[1]}] * 2",
        "conv_pos_width": 10,
        "conv_pos_groups": 3,
        "conv_pos_depth": 2,
        "conv_pos_pre_ln": False,
    } | audio
    model = {
        "depth": 2,
        "num_heads": 3,
        "embed_dim": 12,
        "mlp_ratio": 2.0,
        "norm_eps": 1e-5,
        "norm_affine": True,
        "layer_norm_first": False,
        "normalize": True,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "encoder_dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "post_mlp_drop": 0.1,
        "dropout_input": 0.0,
        "layerdrop": 0.05,
        "end_of_block_targets": False,
        "modalities": {"audio": audio},
    }
    return {"model": "Emotion2vec", "model_conf": model}


def save_emotion2vec(directory, conf, weights):
    """Write config.yaml and model.pt as they are published."""
    import torch

    (directory / "config.yaml").write_text(yaml.safe_dump(conf))
    # Published checkpoints hold more than weights, and not only plain values.
    torch.save(
        {"epoch": 7, "cfg": Path("x"), "state_dict": weights}, directory / "m.pt"
    )


def make_emotion2vec(directory):
    """Save a random emotion2vec."""
    import torch

    from emoq_plugin.speech.encoders.emotion2vec import Data2Vec

    torch.manual_seed(0)
    conf = emotion2vec_conf()
    network = randomise(Data2Vec(conf["model_conf"]))
    save_emotion2vec(directory, conf, network.state_dict())


def make_espnet(directory, task_name, **conf):
    """Save configuration and weights of a fresh ESPnet model; give the model."""
    import importlib

    import torch

    module, _, name = task_name.partition(":")
    task = getattr(importlib.import_module(f"espnet2.tasks.{module}"), name)
    parser_defaults = {"token_list": ["a", "b", "<unk>"], "init": None}
    conf = parser_defaults | {"input_size": None, "specaug": None} | conf
    (directory / "config.yaml").write_text(yaml.safe_dump(conf))
    torch.manual_seed(0)
    model, _ = task.build_model_from_file(directory / "config.yaml", None)
    torch.save(randomise(model).state_dict(), directory / "train.loss.best.pth")
    return model


def make_espnet_ssl(directory, norm_mode="layer_norm", normalize_audio=True):
    """Save a model of ESPnet's ssl task: E-Branchformer behind a CNN, as XEUS is."""
    shapes = [[8, k, s] for k, s in zip(KERNELS, STRIDES)]
    return make_espnet(
        directory,
        "ssl:SSLTask",
        frontend="wav2vec_cnn",
        frontend_conf={
            "norm_mode": norm_mode,
            "conv_mode": "standard",
            "bias": True,
            "shapes": shapes,
            "normalize_audio": normalize_audio,
        },
        normalize=None,
        normalize_conf={},
        preencoder="linear",
        preencoder_conf={"output_size": 16},
        encoder="e_branchformer",
        encoder_conf={
            "output_size": 16,
            "attention_heads": 2,
            "attention_layer_type": "selfattn",
            "pos_enc_layer_type": "conv",
            "rel_pos_type": "latest",
            "cgmlp_linear_units": 24,
            "cgmlp_conv_kernel": 7,
            "num_blocks": 3,
            "input_layer": None,
            "use_ffn": True,
            "macaron_ffn": True,
            "linear_units": 24,
            "positionwise_layer_type": "linear",
        },
        loss=[{"name": "hubert", "conf": {"num_classes": 4, "final_dim": 8}}],
        util=[{"name": "mask", "conf": {}}],
        model="espnet",
        model_conf={},
    )


def make_espnet_hubert(directory):
    """Save a model of ESPnet's hubert task, from torchaudio."""
    shapes = [[8, k, s] for k, s in zip(KERNELS, STRIDES)]
    return make_espnet(
        directory,
        "hubert:HubertTask",
        num_classes=4,
        frontend=None,
        input_size=1,
        frontend_conf={},
        normalize=None,
        normalize_conf={},
        encoder="torchaudio_hubert",
        encoder_conf={
            "extractor_mode": "layer_norm",
            "extractor_conv_layer_config": shapes,
            "encoder_embed_dim": 16,
            "encoder_pos_conv_kernel": 16,
            "encoder_pos_conv_groups": 2,
            "encoder_num_layers": 3,
            "encoder_num_heads": 2,
            "encoder_ff_interm_features": 24,
            "encoder_layer_norm_first": True,
            "final_dim": 8,
        },
        model="torchaudio",
        model_conf={},
    )


LAYER = {
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
D2V = {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3}
# Kind: encoder, what makes its files, options beside the model.
KINDS = {
    "fbank": ("fbank", None, {}),
    "opensmile": ("opensmile", None, {}),
    "hubert": ("huggingface", lambda d: make_transformers(d, "Hubert", **LAYER), {}),
    "wavlm": ("huggingface", lambda d: make_transformers(d, "WavLM", **LAYER), {}),
    "wav2vec2": (
        "huggingface",
        lambda d: make_transformers(d, "Wav2Vec2", feat_extract_norm="group"),
        {},
    ),
    "data2vec": (
        "huggingface",
        lambda d: make_transformers(d, "Data2VecAudio", **D2V),
        {},
    ),
    "whisper": ("huggingface", make_whisper, {}),
    "whisper_clip": ("huggingface", make_whisper, {"window": "clip"}),
    "s3prl": ("s3prl", make_s3prl, {"upstream": "hubert"}),
    "emotion2vec": ("emotion2vec", make_emotion2vec, {}),
    "espnet_ssl": ("espnet_ssl", make_espnet_ssl, {}),
    "espnet_hubert": ("espnet_ssl", make_espnet_hubert, {}),
}
# The package without which a kind cannot run.
PACKAGES = {
    "huggingface": "transformers",
    "opensmile": "opensmile",
    "s3prl": "s3prl",
    "espnet_ssl": "espnet2",
}
