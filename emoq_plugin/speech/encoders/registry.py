"""Encoders by name: a new one is one file and one line here."""

import importlib
import inspect
import reprlib
from pathlib import Path
from typing import Any, get_type_hints

from emoq_plugin.files import check_types, read_yaml
from emoq_plugin.speech.encoders.encoder import Encoder

ENCODERS = {
    "emotion2vec": "emoq_plugin.speech.encoders.emotion2vec:Emotion2vec",
    "espnet_ssl": "emoq_plugin.espnet_adapters.ssl_encoder:EspnetSsl",
    "fbank": "emoq_plugin.speech.encoders.fbank:Fbank",
    "huggingface": "emoq_plugin.speech.encoders.huggingface:HuggingFace",
    "opensmile": "emoq_plugin.speech.encoders.opensmile:OpenSmile",
    "s3prl": "emoq_plugin.speech.encoders.s3prl:S3prl",
}

CONFIG_TYPES = {"encoder": str, "conf": dict[str, Any]}


def encoder_class(name: str, **conf: Any) -> type[Encoder]:
    """Find an encoder's class and check the names of its options.

    Raises
    ------
    ValueError
        If the encoder or one of the options is unknown (the message lists what exists)
        or of another type.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder '{name}', expected one of {list(ENCODERS)}")
    module, _, attribute = ENCODERS[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    allowed = [p for p in inspect.signature(found).parameters if p != "device"]
    unknown = sorted(set(conf) - set(allowed))
    if unknown:
        raise ValueError(
            f"encoder '{name}' has no option {unknown}, expected some of {allowed}"
        )
    check_types(conf, get_type_hints(found.__init__), f"encoder '{name}'")
    return found


def build_encoder(
    name: str, *, device: str = "cpu", model_dir: str | Path | None = None, **conf: Any
) -> Encoder:
    """Make an encoder.

    Parameters
    ----------
    name : str
        Key of `ENCODERS`.
    device : str, default="cpu"
        torch device; ignored by encoders that always run on the CPU.
    model_dir : str or Path, optional
        Local directory of `model`, whose published name stays in the specification, so
        that others find it.
    **conf
        Options of the encoder.

    Examples
    --------
    >>> import numpy as np
    >>> encoder = build_encoder("fbank", num_mel_bins=40)
    >>> [frames] = encoder([np.zeros(16000, np.float32)])
    >>> frames.shape, encoder.specification.frame_rate_hz
    ((49, 40), 50.0)
    """
    published = conf.get("model")
    if model_dir:
        conf["model"] = str(model_dir)
    found = encoder_class(name, **conf)
    if "device" in inspect.signature(found).parameters:
        conf["device"] = device
    encoder = found(**conf)
    if model_dir and published:
        encoder.specification.versions["model"] = published
    return encoder


def read_feature_config(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Read a file of conf/features: the encoder's name and its options.

    Raises
    ------
    ValueError
        If it is not `encoder: <name>` with an optional `conf: {...}`, or names an
        encoder or option that does not exist.
    """
    values = read_yaml(path)
    if (
        not isinstance(values, dict)
        or "encoder" not in values
        or not set(values) <= {"encoder", "conf"}
        or not isinstance(values.get("conf") or {}, dict)
    ):
        found = reprlib.repr(values)
        raise ValueError(
            f"{path}: found {found}, expected 'encoder: <name>' and 'conf: {{...}}'"
        )
    name, conf = values["encoder"], values.get("conf") or {}
    try:
        check_types({"encoder": name, "conf": conf}, CONFIG_TYPES, "options")
        encoder_class(name, **conf)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return name, conf
