"""What encoders with hidden layers share: options, batches, layers, weights."""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from emoq_plugin.devices import check_precision
from emoq_plugin.optional import needs
from emoq_plugin.speech.encoders.encoder import Encoder, FeatureSpecification
from emoq_plugin.speech.encoders.model_files import how_to_bring

if TYPE_CHECKING:
    import torch

LAYER_MODES = ("mean", "concat")
PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Network:
    """What `LayeredEncoder` must know of a loaded model.

    Parameters
    ----------
    module : torch.nn.Module
        In float32, on the CPU.
    n_layers : int
        Number of the last layer; 0 is the input of the first block.
    dimension : int
        Values in a frame of one layer.
    shift : int
        Samples from frame to frame.
    minimum_samples : int
        Shortest wave that gives a frame.
    sharing : {"padded", "equal", "alone"}
        Which waves may share a batch without being seen in each other's frames: any,
        padded; those of equal length; none.
    sample_rate : int, default=16000
    settings : dict
        Settings that change what a frame means.
    package : str, default="torch"
        Package that computes the frames, for the specification.
    """

    module: "torch.nn.Module"
    n_layers: int
    dimension: int
    shift: int
    minimum_samples: int
    sharing: Literal["padded", "equal", "alone"]
    sample_rate: int = 16000
    settings: dict[str, Any] = field(default_factory=dict)
    package: str = "torch"


class LayeredEncoder(Encoder):
    """Encoder whose frames are hidden layers; every kind has the same options.

    A subclass names itself in `name`, loads its model in `load`, and computes layers in
    `hidden`.

    Parameters
    ----------
    model : str
        Name of a published model, or a local directory.
    layers : list of int, int or "all", default=-1
        0 is the input of the first block, n (= -1) the output of the model.
    layer_mode : {"mean", "concat"}, default="mean"
        Several layers are averaged, or all kept, side by side in the given order.
    layer_weights : list of float, optional
        Weights of the average, one for each layer, scaled to sum 1; uniform if absent.
    batch_seconds : float, default=80.0
        Padded audio in one batch, s; a longer wave has a batch of its own.
    precision : {"float32", "float16", "bfloat16"}, default="float32"
        Half precision through autocast: on a GPU, bfloat16 also on a CPU that has it.
    device : str, default="cpu"

    Raises
    ------
    ValueError
        If an option is out of range, a package is missing, or the model cannot be
        loaded, lacks weights, or is of another kind.
    """

    name: str
    # Files of a local model directory that decide what it computes.
    model_files: tuple[str, ...]

    def __init__(
        self,
        model: str,
        layers: Sequence[int] | int | str = -1,
        layer_mode: str = "mean",
        layer_weights: Sequence[float] | None = None,
        batch_seconds: float = 80.0,
        precision: str = "float32",
        device: str = "cpu",
    ):
        _check_options(layer_mode, precision, batch_seconds)
        check_precision(precision, device)
        network = self.load(model)
        digest = weights_sha256(network.module)
        self.module = network.module.to(device).eval()
        self.n_layers = network.n_layers
        self.layers = _resolve_layers(layers, network.n_layers, model)
        self.layer_weights = _resolve_weights(layer_weights, self.layers, layer_mode)
        self.minimum_samples = network.minimum_samples
        self.device = device
        self._layer_mode = layer_mode if len(self.layers) > 1 else "mean"
        self._sharing = network.sharing
        self._batch_samples = batch_seconds * network.sample_rate
        self._width = network.dimension
        self._precision = precision
        self.specification = self._make_specification(network, digest, model)

    def _make_specification(
        self, network: Network, digest: str, model: str
    ) -> FeatureSpecification:
        settings = network.settings | {"layer_mode": self._layer_mode}
        if self.layer_weights is not None:
            settings["layer_weights"] = self.layer_weights
        copies = len(self.layers) if self._layer_mode == "concat" else 1
        return FeatureSpecification(
            encoder=self.name,
            layers=self.layers,
            dimension=self._width * copies,
            frame_rate_hz=network.sample_rate / network.shift,
            sample_rate=network.sample_rate,
            settings=settings,
            weights_sha256=digest,
            versions={
                network.package: version(network.package),
                "torch": version("torch"),
                "model": Path(model).name if Path(model).exists() else model,
                "precision": self._precision,
            },
        )

    @classmethod
    def input_files(cls, **conf: Any) -> list[Path]:
        """List the files of a local model; none for a published one."""
        place = Path(conf.get("model") or "")
        if place.is_file():
            return [place]
        if not conf.get("model") or not place.is_dir():
            return []
        return sorted(path for kind in cls.model_files for path in place.rglob(kind))

    @abstractmethod
    def load(self, model: str) -> Network:
        """Load the model."""

    @abstractmethod
    def hidden(
        self, waves: Sequence[np.ndarray]
    ) -> "Sequence[torch.Tensor] | Mapping[int, torch.Tensor]":
        """Compute layers of one batch, `(B, T, D)` by number; at least `layers`."""

    @abstractmethod
    def n_frames(self, samples: int) -> int:
        """Return the number of frames of a wave."""

    def batch_cost(self, samples: int) -> int:
        """Return the samples that a wave takes in a batch."""
        return samples

    def encode(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode waves in batches of similar length."""
        output: list[np.ndarray | None] = [None] * len(waves)
        for batch in self._batches([self.batch_cost(len(wave)) for wave in waves]):
            frames = self._forward([waves[i] for i in batch])  # (B, T, D)
            for i, x in zip(batch, frames):
                output[i] = x[: self.n_frames(len(waves[i]))].copy()
            self.on_batch(sum(len(waves[i]) for i in batch))
        return output

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            if batch and not self._may_join(batch, lengths, i):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _may_join(self, batch: list[int], lengths: Sequence[int], i: int) -> bool:
        if (len(batch) + 1) * lengths[i] > self._batch_samples:
            return False
        equal = lengths[i] == lengths[batch[-1]]
        return self._sharing == "padded" or (self._sharing == "equal" and equal)

    def _forward(self, waves: Sequence[np.ndarray]) -> np.ndarray:
        """Run the model on one batch and combine layers: `(B, T, D) float32`."""
        import torch

        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._precision != "float32":
                half = getattr(torch, self._precision)
                kind = torch.device(self.device).type
                stack.enter_context(torch.autocast(kind, dtype=half))
            hidden = self.hidden(waves)
            chosen = [hidden[layer].float() for layer in self.layers]
            if self._layer_mode == "concat":
                combined = torch.cat(chosen, dim=-1)
            elif self.layer_weights is not None:
                combined = sum(w * x for w, x in zip(self.layer_weights, chosen))
            else:
                combined = torch.stack(chosen).mean(0)
        return combined.cpu().numpy()


def specifications_of_layers(
    spec: FeatureSpecification,
) -> list[FeatureSpecification]:
    """Specify the features that the layers of a concatenation have when alone.

    Raises
    ------
    ValueError
        If the frames are no concatenation of layers.
    """
    if len(spec.layers) < 2 or spec.settings.get("layer_mode") != "concat":
        raise ValueError(
            f"features of encoder '{spec.encoder}' with layers "
            f"{spec.layers}, mode {spec.settings.get('layer_mode')}: expected "
            "layer_mode 'concat' of several layers"
        )
    dimension = spec.dimension // len(spec.layers)
    settings = spec.settings | {"layer_mode": "mean"}
    return [
        replace(spec, layers=[layer], dimension=dimension, settings=settings)
        for layer in spec.layers
    ]


def pad(waves: Sequence[np.ndarray], device: str) -> "torch.Tensor":
    """Stack waves, zeros behind the shorter ones: `(B, N) float32`."""
    import torch

    tensors = [torch.from_numpy(wave) for wave in waves]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(device)


def convolution_lengths(convolutions: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return shift and shortest input of unpadded convolutions, samples.

    Parameters
    ----------
    convolutions : sequence of (kernel, stride)

    Examples
    --------
    >>> convolution_lengths([(10, 5), (3, 2)])
    (10, 20)
    """
    samples = 1
    for kernel, stride in reversed(convolutions):
        samples = (samples - 1) * stride + kernel
    return math.prod(stride for _, stride in convolutions), samples


def convolution_frames(convolutions: Sequence[tuple[int, int]], samples: int) -> int:
    """Return the number of frames that unpadded convolutions make of a wave.

    Examples
    --------
    >>> convolution_frames([(10, 5), (3, 2)], 30)
    2
    """
    for kernel, stride in convolutions:
        samples = (samples - kernel) // stride + 1
    return samples


def hub_directory(
    model: str,
    *,
    files: str,
    skip: Sequence[str] = (),
    only: Sequence[str] | None = None,
) -> Path:
    """Return the directory of a model: local, or downloaded once into HF_HOME.

    Parameters
    ----------
    model : str
        Local directory or hub name.
    files : str
        What the directory must hold, for the message.
    skip : sequence of str
        Patterns of files that are not downloaded.
    only : sequence of str, optional
        Patterns of the files that are downloaded; all if absent.

    Raises
    ------
    ValueError
        If the hub does not give the model; the message says what to bring.
    """
    if Path(model).is_dir():
        return Path(model).resolve()
    if Path(model).exists():
        raise ValueError(how_to_bring(model, "it is no directory", files=files))
    with needs("huggingface"):
        from huggingface_hub import snapshot_download
    try:
        return Path(
            snapshot_download(model, ignore_patterns=list(skip), allow_patterns=only)
        )
    except (OSError, ValueError) as error:
        raise ValueError(how_to_bring(model, error, files=files)) from error


def weights_sha256(module: "torch.nn.Module") -> str:
    """Digest names, shapes and float32 bytes of all weights, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _check_options(layer_mode: str, precision: str, batch_seconds: float) -> None:
    if layer_mode not in LAYER_MODES:
        raise ValueError(f"layer_mode '{layer_mode}', expected one of {LAYER_MODES}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}', expected one of {PRECISIONS}")
    if not batch_seconds > 0:
        raise ValueError(f"batch_seconds {batch_seconds}, expected more than 0")


def _resolve_layers(
    layers: Sequence[int] | int | str, last: int, model: str
) -> list[int]:
    if layers == "all":
        return list(range(last + 1))
    wanted = [layers] if isinstance(layers, int | str) else list(layers)
    if not wanted or any(
        not isinstance(i, int) or not -last - 1 <= i <= last for i in wanted
    ):
        raise ValueError(
            f"layers {layers}, expected 'all' or whole numbers from {-last - 1} to "
            f"{last}: model '{model}' has {last} blocks"
        )
    return [i % (last + 1) for i in wanted]


def _resolve_weights(
    weights: Sequence[float] | None, layers: Sequence[int], layer_mode: str
) -> list[float] | None:
    if weights is None:
        return None
    total = sum(weights)
    if (
        layer_mode != "mean"
        or len(weights) != len(layers)
        or not all(math.isfinite(w) and w >= 0 for w in weights)
        or total == 0
    ):
        raise ValueError(
            f"layer_weights {list(weights)} with layer_mode '{layer_mode}': expected "
            f"mode 'mean' and one number of at least 0 for each of {len(layers)} "
            "layers, not all 0"
        )
    return [float(w) / total for w in weights]
