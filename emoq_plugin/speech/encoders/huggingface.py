"""Hidden layers of the speech encoders in Hugging Face transformers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from emoq_plugin.devices import exact_float32
from emoq_plugin.optional import needs
from emoq_plugin.speech.encoders.layers import (
    LayeredEncoder,
    Network,
    convolution_frames,
    convolution_lengths,
    hub_directory,
)
from emoq_plugin.speech.encoders.model_files import (
    check_complete,
    check_shapes,
    naming_faults,
)
from emoq_plugin.speech.encoders.whisper import WINDOWS, WhisperLayers

if TYPE_CHECKING:
    import torch

# Only these ignore padded samples when given a mask; the others get batches of
# equal length. data2vec-audio stacks five positional convolutions, and padded frames
# are zero only before the first.
MASKABLE_TYPES = ("hubert", "wavlm", "wav2vec2")
# Used in training only, absent from many published checkpoints.
HARMLESS_KEYS = ("masked_spec_embed", "decoder.")
FILES = (
    "config.json, preprocessor_config.json and model.safetensors (or pytorch_model.bin)"
)


class HuggingFace(LayeredEncoder):
    """HuBERT, WavLM, wav2vec 2.0, data2vec-audio or the encoder of Whisper.

    Padding is masked where the model can mask it; where it cannot (group normalisation
    over time in the feature extractor, data2vec-audio) only waves of equal length share
    a batch. Whisper sees 30 s at a time; longer waves are cut there. A local directory
    is one that `save_pretrained` wrote.

    Parameters
    ----------
    model : str
    window : {"full", "clip"}, default="full"
        Of Whisper: every wave is followed by silence up to 30 s, or by 1 s of it, which
        is many times faster for short clips and gives other frames.
    layers, layer_mode, layer_weights, batch_seconds, precision, device
        See `LayeredEncoder`.

    Raises
    ------
    ValueError
        As in `LayeredEncoder`; for `window: clip` and a model other than Whisper.
    """

    name = "huggingface"
    model_files = ("*.json", "*.safetensors", "*.bin")

    def __init__(
        self,
        model: str,
        window: str = "full",
        layers: Sequence[int] | int | str = -1,
        layer_mode: str = "mean",
        layer_weights: Sequence[float] | None = None,
        batch_seconds: float = 80.0,
        precision: str = "float32",
        device: str = "cpu",
    ):
        if window not in WINDOWS:
            raise ValueError(f"window '{window}', expected one of {WINDOWS}")
        self._window = window
        self._whisper: WhisperLayers | None = None
        super().__init__(
            model, layers, layer_mode, layer_weights, batch_seconds, precision, device
        )

    def load(self, model: str) -> Network:
        """Load feature extractor and model."""
        self._extractor, loaded = _load(model)
        self._config = loaded.config
        kind = self._config.model_type
        settings = {
            "model_type": kind,
            "do_normalize": bool(getattr(self._extractor, "do_normalize", False)),
        }
        if kind == "whisper":
            self._whisper = WhisperLayers(loaded, self._extractor, self._window)
            shift = minimum = self._whisper.shift
        elif self._window == "clip":
            raise ValueError(
                f"window 'clip' with model '{model}' of type '{kind}': only Whisper "
                "has a window, the others see a clip as long as it is: drop the option"
            )
        else:
            shift, minimum = self._lengths(model)
        if self._window == "clip":
            settings["window"] = self._window
        return Network(
            module=loaded,
            n_layers=self._config.num_hidden_layers,
            dimension=self._config.hidden_size,
            shift=shift,
            minimum_samples=minimum,
            sharing="padded" if self._whisper or self._is_maskable() else "equal",
            sample_rate=self._extractor.sampling_rate,
            settings=settings,
            package="transformers",
        )

    def _lengths(self, model: str) -> tuple[int, int]:
        """Return shift and shortest wave, samples."""
        config = self._config
        if not hasattr(config, "conv_stride"):
            raise ValueError(
                f"model '{model}' is of type '{config.model_type}', expected HuBERT, "
                "WavLM, wav2vec2, data2vec-audio, or Whisper"
            )
        self._convolutions = list(zip(config.conv_kernel, config.conv_stride))
        return convolution_lengths(self._convolutions)

    def _is_maskable(self) -> bool:
        return (
            self._config.model_type in MASKABLE_TYPES
            and self._config.feat_extract_norm == "layer"
            and not getattr(self._config, "conv_pos_batch_norm", False)
        )

    def n_frames(self, samples: int) -> int:
        """Return the number of frames of a wave."""
        if self._whisper:
            return samples // self._whisper.shift
        return convolution_frames(self._convolutions, samples)

    def batch_cost(self, samples: int) -> int:
        """Return the samples that a wave takes in a batch, silence behind it too."""
        if self._whisper:
            return self._whisper.window_frames(samples) * self._whisper.shift
        return samples

    def encode(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode waves in batches; those too long for Whisper in pieces."""
        if not self._whisper:
            return super().encode(waves)
        owners, pieces = [], []
        for i, wave in enumerate(waves):
            for piece in self._whisper.cut(wave):
                owners.append(i)
                pieces.append(piece)
        parts: list[list[np.ndarray]] = [[] for _ in waves]
        for i, frames in zip(owners, super().encode(pieces)):
            parts[i].append(frames)
        return [np.concatenate(part) for part in parts]

    def whole_window(self, waves: Sequence[np.ndarray]) -> "torch.Tensor":
        """Return all frames of the window of Whisper, those of silence too.

        Parameters
        ----------
        waves : sequence of (N,) float32 array
            Not longer than the window.

        Returns
        -------
        (B, T, D) float32 tensor
            Of the layers of the specification, combined as there.

        Raises
        ------
        ValueError
            If the model is not Whisper, or a wave is longer than its window.
        """
        if not self._whisper:
            raise ValueError(
                f"a model of type '{self._config.model_type}' has no window"
            )
        longest = max(map(len, waves))
        if longest > self._whisper.longest:
            raise ValueError(
                f"{longest / self.sample_rate:.1f} s, longer than the window of "
                f"{self._whisper.longest / self.sample_rate:g} s: cut the recording"
            )
        import torch

        with exact_float32():
            return torch.from_numpy(self._forward(waves))

    def _inputs(self, waves: Sequence[np.ndarray]) -> dict[str, "torch.Tensor"]:
        import torch

        rate = self._extractor.sampling_rate
        # One by one, so that normalisation never sees another wave or padding.
        inputs = [
            torch.from_numpy(self._extractor(w, sampling_rate=rate).input_values[0])
            for w in waves
        ]
        values = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True)  # (B, N)
        lengths = torch.tensor([len(wave) for wave in waves])
        if len(set(lengths.tolist())) == 1:
            return {"input_values": values}
        mask = torch.arange(values.shape[1]) < lengths[:, None]
        return {"input_values": values, "attention_mask": mask.long()}

    def hidden(self, waves: Sequence[np.ndarray]) -> Mapping[int, "torch.Tensor"]:
        """Compute the layers of one batch."""
        if self._whisper:
            return self._whisper(waves, last=max(self.layers))
        arguments = {k: v.to(self.device) for k, v in self._inputs(waves).items()}
        several = self.layers != [self.n_layers]
        result = self.module(**arguments, output_hidden_states=several)
        layers = dict(enumerate(result.hidden_states)) if several else {}
        # The last layer is the model's output: after the closing normalisation.
        return layers | {self.n_layers: result.last_hidden_state}


def _load(model: str) -> tuple[Any, Any]:
    """Load feature extractor and float32 encoder."""
    import torch

    with needs("huggingface"):
        from transformers import AutoFeatureExtractor, AutoModel
        from transformers.feature_extraction_utils import FeatureExtractionMixin
    # Without network this answers at once; transformers would try for a minute.
    root = hub_directory(model, files=FILES, only=["config.json"])
    patterns = HuggingFace.model_files
    with naming_faults(model, root, files=FILES, patterns=patterns):
        values, _ = FeatureExtractionMixin.get_feature_extractor_dict(model)
        if "sampling_rate" not in values:
            raise ValueError("its preprocessor_config.json names no sampling_rate")
        extractor = AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False)
        loaded, report = AutoModel.from_pretrained(
            model,
            dtype=torch.float32,
            output_loading_info=True,
            # They are refused below, with their names.
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
    check_shapes(model, report["mismatched_keys"])
    missing = [
        key for key in report["missing_keys"] if not key.startswith(HARMLESS_KEYS)
    ]
    check_complete(model, missing)
    is_seq2seq = getattr(loaded.config, "is_encoder_decoder", False)
    return extractor, loaded.get_encoder() if is_seq2seq else loaded
