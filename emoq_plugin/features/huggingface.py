"""Hidden layers of the speech encoders in Hugging Face transformers."""

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from emoq_plugin.features.encoder import Encoder, FeatureCard

LAYER_MODES = ("mean", "concat")
PRECISIONS = ("float32", "float16", "bfloat16")
# Files of a local model that decide what it computes.
MODEL_FILES = ("*.json", "*.safetensors", "*.bin")
# Only these ignore padded samples when told which they are; the others get batches of
# equal length. data2vec-audio stacks five positional convolutions, and padded frames
# are zero only before the first.
MASKABLE_TYPES = ("hubert", "wavlm", "wav2vec2")
# Used in training only, absent from many published checkpoints.
HARMLESS_KEYS = ("masked_spec_embed", "decoder.")


class HuggingFace(Encoder):
    """HuBERT, WavLM, wav2vec 2.0, data2vec-audio or the encoder of Whisper.

    A result never depends on the other waves of the batch: padding is masked where the
    model can mask it, and where it cannot (group normalisation over time in the
    feature extractor, data2vec-audio) only waves of equal length share a batch. Whisper
    sees 30 s at a time, padded; longer waves are cut there, the output is trimmed to
    the true length.

    Parameters
    ----------
    model : str
        Hub name, or a local directory as written by `save_pretrained`.
    layers : list of int or int, default=-1
        0 is the input of the first transformer block, n (= -1) the output of the model.
    layer_mode : {"mean", "concat"}, default="mean"
        Several layers are averaged, or all kept, side by side in the given order.
    batch_seconds : float, default=80.0
        Padded audio in one batch, s; a longer wave has a batch of its own.
    precision : {"float32", "float16", "bfloat16"}, default="float32"
        Half precision is used on a GPU only, through autocast.
    device : str, default="cpu"

    Raises
    ------
    ValueError
        If an option is out of range, transformers is missing, the model cannot be
        loaded, lacks weights, or is no speech encoder.
    """

    def __init__(
        self,
        model: str,
        layers: Sequence[int] | int = -1,
        layer_mode: str = "mean",
        batch_seconds: float = 80.0,
        precision: str = "float32",
        device: str = "cpu",
    ):
        if layer_mode not in LAYER_MODES:
            raise ValueError(
                f"layer_mode '{layer_mode}', expected one of {LAYER_MODES}"
            )
        if precision not in PRECISIONS:
            raise ValueError(f"precision '{precision}', expected one of {PRECISIONS}")
        if not batch_seconds > 0:
            raise ValueError(f"batch_seconds {batch_seconds}, expected more than 0")
        self._extractor, loaded = _load(model)
        self._config = loaded.config
        self._is_whisper = self._config.model_type == "whisper"
        digest = _weights_sha256(loaded)
        self._model = loaded.to(device).eval()
        self._device, self._precision = device, precision
        if precision != "float32" and not device.startswith("cuda"):
            logging.info("precision %s is for GPUs: %s uses float32", precision, device)
            self._precision = "float32"
        self._layers = _resolve_layers(layers, self._config.num_hidden_layers, model)
        self._layer_mode = layer_mode
        rate = self._extractor.sampling_rate
        self._batch_samples = batch_seconds * rate
        shift = self._prepare_lengths(model)
        width = self._config.hidden_size
        self.card = FeatureCard(
            encoder="huggingface",
            layers=self._layers,
            dimension=width * (len(self._layers) if layer_mode == "concat" else 1),
            frame_rate_hz=rate / shift,
            sample_rate=rate,
            settings={
                "model_type": self._config.model_type,
                "layer_mode": layer_mode if len(self._layers) > 1 else "mean",
                "do_normalize": bool(getattr(self._extractor, "do_normalize", False)),
            },
            weights_sha256=digest,
            versions={
                "transformers": version("transformers"),
                "torch": version("torch"),
                "model": Path(model).name if Path(model).is_dir() else model,
                "precision": self._precision,
            },
        )

    @classmethod
    def input_files(cls, **conf: Any) -> list[Path]:
        """List the files of a local model; none for a hub name."""
        folder = Path(conf.get("model", ""))
        if "model" not in conf or not folder.is_dir():
            return []
        return sorted(path for kind in MODEL_FILES for path in folder.glob(kind))

    def _prepare_lengths(self, model: str) -> int:
        """Set how samples become frames; give the frame shift in samples."""
        config = self._config
        if self._is_whisper:
            shift = (
                2 * self._extractor.hop_length
            )  # the second convolution has stride 2
            self._maskable, self.minimum_samples = False, shift
            self._piece = config.max_source_positions * shift
            return shift
        if not hasattr(config, "conv_stride"):
            raise ValueError(
                f"model '{model}' is of type '{config.model_type}', expected HuBERT, "
                "WavLM, wav2vec2, data2vec-audio, or Whisper"
            )
        self._maskable = (
            config.model_type in MASKABLE_TYPES
            and config.feat_extract_norm == "layer"
            and not getattr(config, "conv_pos_batch_norm", False)
        )
        self._convolutions = list(zip(config.conv_kernel, config.conv_stride))
        samples = 1
        for kernel, stride in reversed(self._convolutions):
            samples = (samples - 1) * stride + kernel
        self.minimum_samples = samples
        return math.prod(config.conv_stride)

    def _n_frames(self, samples: int) -> int:
        for kernel, stride in self._convolutions:
            samples = (samples - kernel) // stride + 1
        return samples

    def encode(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode waves in batches of similar length."""
        if self._is_whisper:
            return self._encode_whisper(waves)
        output: list[np.ndarray | None] = [None] * len(waves)
        for batch in self._batches([len(wave) for wave in waves]):
            arrays = self._encode_batch([waves[i] for i in batch])
            for i, frames in zip(batch, arrays):
                output[i] = frames
        return output

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            full = (len(batch) + 1) * lengths[i] > self._batch_samples
            other = batch and not self._maskable and lengths[i] != lengths[batch[-1]]
            if batch and (full or other):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _encode_batch(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        rate = self.card.sample_rate
        # One by one, so that normalisation never sees another wave or padding.
        inputs = [
            torch.from_numpy(self._extractor(w, sampling_rate=rate).input_values[0])
            for w in waves
        ]
        values = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True)  # (B, N)
        lengths = torch.tensor([len(wave) for wave in waves])
        arguments = {"input_values": values}
        if len(set(lengths.tolist())) > 1:
            mask = torch.arange(values.shape[1]) < lengths[:, None]
            arguments["attention_mask"] = mask.long()
        frames = self._forward(arguments)  # (B, T, D)
        return [x[: self._n_frames(n)].copy() for x, n in zip(frames, lengths.tolist())]

    def _encode_whisper(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        shift = self.minimum_samples
        pieces = [
            (i, wave[start : start + self._piece])
            for i, wave in enumerate(waves)
            for start in range(0, len(wave) // shift * shift, self._piece)
        ]
        output: list[list[np.ndarray]] = [[] for _ in waves]
        size = max(1, int(self._batch_samples // self._piece))
        for start in range(0, len(pieces), size):
            batch = pieces[start : start + size]
            mel = self._extractor(
                [piece for _, piece in batch],
                sampling_rate=self.card.sample_rate,
                max_length=self._piece,
                do_normalize=getattr(self._extractor, "do_normalize", None),
                return_tensors="pt",
            )
            frames = self._forward({"input_features": mel.input_features})
            for (i, piece), x in zip(batch, frames):
                output[i].append(x[: len(piece) // shift])
        return [np.concatenate(parts) for parts in output]

    def _forward(self, arguments: dict[str, Any]) -> np.ndarray:
        """Run the model, combine layers: `(B, T, D) float32`."""
        import torch

        last = self._config.num_hidden_layers
        arguments = {key: value.to(self._device) for key, value in arguments.items()}
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            # TensorFloat-32 would let the batch size show in the third digit.
            stack.enter_context(torch.backends.cudnn.flags(allow_tf32=False))
            if self._precision != "float32":
                half = getattr(torch, self._precision)
                stack.enter_context(torch.autocast("cuda", dtype=half))
            result = self._model(
                **arguments, output_hidden_states=self._layers != [last]
            )
            # The last layer is the model's output: after the closing normalisation.
            chosen = [
                (
                    result.last_hidden_state
                    if layer == last
                    else result.hidden_states[layer]
                ).float()
                for layer in self._layers
            ]
            if self._layer_mode == "concat":
                combined = torch.cat(chosen, dim=-1)
            else:
                combined = torch.stack(chosen).mean(0)
        return combined.cpu().numpy()


def _resolve_layers(layers: Sequence[int] | int, last: int, model: str) -> list[int]:
    wanted = [layers] if isinstance(layers, int) else list(layers)
    if not wanted or any(
        not isinstance(i, int) or not -last - 1 <= i <= last for i in wanted
    ):
        raise ValueError(
            f"layers {layers}, expected whole numbers from {-last - 1} to {last}: "
            f"model '{model}' has {last} blocks"
        )
    return [i % (last + 1) for i in wanted]


def _load(model: str) -> tuple[Any, Any]:
    """Load feature extractor and float32 encoder."""
    try:
        import torch
        from transformers import AutoFeatureExtractor, AutoModel
    except ImportError as error:
        raise ValueError(
            "the package transformers is missing: pip install 'emoq[huggingface]'"
        ) from error
    try:
        extractor = AutoFeatureExtractor.from_pretrained(model)
        loaded, report = AutoModel.from_pretrained(
            model, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(_how_to_bring(model, error)) from error
    missing = sorted(
        key for key in report["missing_keys"] if not key.startswith(HARMLESS_KEYS)
    )
    if missing:
        raise ValueError(
            f"model '{model}' lacks {len(missing)} weights, '{missing[0]}' first: its "
            "config.json does not fit its weights, features would be random"
        )
    return extractor, loaded.get_encoder() if _is_seq2seq(loaded) else loaded


def _is_seq2seq(model: Any) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _how_to_bring(model: str, error: Exception) -> str:
    files = "config.json, preprocessor_config.json and model.safetensors"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    if Path(model).is_dir():
        found = sorted(path.name for path in Path(model).iterdir())
        return (
            f"cannot load a model from the directory '{model}': {reason} "
            f"Expected {files} (or pytorch_model.bin), found {found}"
        )
    return (
        f"cannot load model '{model}': {reason} It is neither a local directory nor a "
        f"model that the hub gave. Without network: bring {files} (or "
        f"pytorch_model.bin) of '{model}' in one directory, for example with "
        f"'hf download {model} --local-dir DIR' elsewhere, and pass --model_dir DIR or "
        "set conf: model: DIR"
    )


def _weights_sha256(model: Any) -> str:
    """Digest names, shapes and float32 bytes of all weights, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
