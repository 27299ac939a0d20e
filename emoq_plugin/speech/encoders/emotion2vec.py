"""Hidden layers of emotion2vec and emotion2vec+, from their published files."""

import ast
import math
import pickle
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from emoq_plugin.speech.encoders.layers import (
    LayeredEncoder,
    Network,
    convolution_frames,
    convolution_lengths,
    hub_directory,
    pad,
)
from emoq_plugin.speech.encoders.model_files import (
    check_complete,
    check_shapes,
    naming_faults,
)

FILES = "config.yaml and one .pt file"
# Of the training only: decoder, head, teacher.
UNUSED_KEYS = ("modality_encoders.AUDIO.decoder.", "proj.", "_ema", "ema")


class Emotion2vec(LayeredEncoder):
    """emotion2vec (arXiv 2312.15185): a data2vec 2.0 model (arXiv 2212.07525).

    The network is defined here, so that neither funasr nor fairseq is needed; its
    output is that of funasr. Blocks count from the first of the context encoder.
    Only waves of equal length share a batch: the positional convolutions have no mask.
    `model` is a hub name, such as emotion2vec/emotion2vec_plus_base, or a directory
    with config.yaml and one .pt file. Options: see `LayeredEncoder`.
    """

    name = "emotion2vec"
    model_files = ("config.yaml", "*.pt")

    def load(self, model: str) -> Network:
        """Read configuration and weights."""
        directory = hub_directory(model, files=FILES, skip=("*.wav", "*.mp3", "*.png"))
        about_files = {"files": FILES, "patterns": self.model_files}
        about = "config.yaml is not that of emotion2vec: "
        with naming_faults(str(directory), directory, **about_files, about=about):
            conf = yaml.safe_load((directory / "config.yaml").read_text("utf-8"))
            conf = conf["model_conf"]
            network = Data2Vec(conf)
        with naming_faults(str(directory), directory, **about_files):
            checkpoints = sorted(directory.glob("*.pt"))
            if len(checkpoints) != 1:
                raise ValueError(f"{len(checkpoints)} .pt files")
            weights = read_checkpoint(checkpoints[0])
        _load_weights(network, weights, model)
        self._convolutions = network.convolutions
        self._normalize = bool(conf["normalize"])
        shift, minimum = convolution_lengths(self._convolutions)
        return Network(
            module=network,
            n_layers=network.n_blocks,
            dimension=conf["embed_dim"],
            shift=shift,
            minimum_samples=minimum,
            sharing="equal",
            settings={"do_normalize": self._normalize},
        )

    def n_frames(self, samples: int) -> int:
        """Return the number of frames of a wave."""
        return convolution_frames(self._convolutions, samples)

    def hidden(self, waves: Sequence[np.ndarray]) -> list[Tensor]:
        """Compute all layers of one batch."""
        values = pad(waves, self.device)
        if self._normalize:
            values = functional.layer_norm(values, values.shape[-1:])
        return self.module(values)


class _Transposed(nn.Module):
    """A module that works on (B, T, D), in a chain that works on (B, D, T)."""

    def __init__(self, module: nn.Module):
        super().__init__()
        # The published weights count the module between two transpositions.
        self.add_module("1", module)

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule("1")(x.transpose(1, 2)).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, dimension: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dimension, 3 * dimension)
        self.proj = nn.Linear(dimension, dimension)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if bias is not None:
            bias = bias.to(q.dtype)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(1, 2).flatten(2))  # (B, H, T, d) -> (B, T, D)


class _Block(nn.Module):
    """Transformer block with the normalisation after each half."""

    def __init__(self, conf: Mapping[str, Any]):
        super().__init__()
        dimension = conf["embed_dim"]
        wide = int(dimension * conf["mlp_ratio"])
        self.attn = _Attention(dimension, conf["num_heads"])
        self.norm1 = _norm(conf)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(dimension, wide), "fc2": nn.Linear(wide, dimension)}
        )
        self.norm2 = _norm(conf)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        x = self.norm1(x + self.attn(x, bias))
        inner = functional.gelu(self.mlp["fc1"](x))
        return self.norm2(x + self.mlp["fc2"](inner))


class _Audio(nn.Module):
    """From the wave to the input of the blocks, and the context encoder's blocks."""

    def __init__(self, conf: Mapping[str, Any]):
        super().__init__()
        audio, dimension = conf["modalities"]["audio"], conf["embed_dim"]
        shapes = read_convolutions(audio["feature_encoder_spec"])
        self.convolutions = [(kernel, stride) for _, kernel, stride in shapes]
        self.local_encoder = nn.ModuleDict(
            {"conv_layers": _convolutions(shapes, audio["extractor_mode"])}
        )
        width = shapes[-1][0]
        # Places as in the published weights: a transposition comes first.
        self.project_features = nn.ModuleDict(
            {"1": nn.LayerNorm(width), "2": nn.Linear(width, dimension)}
        )
        depth = audio["conv_pos_depth"]
        kernel = max(3, audio["conv_pos_width"] // depth)
        groups = audio["conv_pos_groups"]
        self.relative_positional_encoder = nn.ModuleDict(
            {
                str(i): nn.ModuleList(
                    [nn.Conv1d(dimension, dimension, kernel, groups=groups)]
                )
                for i in range(1, depth + 1)
            }
        )
        extra = audio["num_extra_tokens"]
        self.extra_tokens = nn.Parameter(torch.zeros(1, extra, dimension))
        self.context_encoder = nn.ModuleDict(
            {"blocks": _blocks(conf, audio["prenet_depth"]), "norm": _norm(conf)}
        )
        self.alibi_heads = audio["num_alibi_heads"]
        if audio["use_alibi_encoder"]:
            layers = audio["prenet_depth"] + conf["depth"]
            shape = (
                layers if audio["learned_alibi_scale_per_layer"] else 1,
                1,
                self.alibi_heads if audio["learned_alibi_scale_per_head"] else 1,
                1,
                1,
            )
            self.alibi_scale = nn.Parameter(torch.ones(shape))

    def features(self, waves: Tensor) -> Tensor:
        """(B, N) to (B, extra tokens + T, D)."""
        x = waves[:, None]
        for layer in self.local_encoder["conv_layers"]:
            x = layer(x)
        project = self.project_features
        x = project["2"](project["1"](x.transpose(1, 2)))
        position = x.transpose(1, 2)  # (B, D, T)
        for [convolution] in self.relative_positional_encoder.values():
            kernel = convolution.kernel_size[0]
            around = (kernel // 2, (kernel - 1) // 2)
            position = convolution(functional.pad(position, around)).transpose(1, 2)
            position = functional.layer_norm(position, position.shape[-1:])
            position = functional.gelu(position.transpose(1, 2))
        x = x + position.transpose(1, 2)
        tokens = self.extra_tokens.expand(len(x), -1, -1)
        return self.context_encoder["norm"](torch.cat([tokens, x], dim=1))

    def biases(self, frames: int, heads: int) -> list[Tensor | None]:
        """Attention bias of each block: a slope by distance (ALiBi, 2108.12409)."""
        if not hasattr(self, "alibi_scale"):
            return [None]
        device = self.alibi_scale.device
        time = torch.arange(frames, device=device)
        distance = (time[:, None] - time).abs()
        slopes = torch.tensor(alibi_slopes(self.alibi_heads), device=device)
        bias = -slopes[:, None, None] * distance  # (H, T, T)
        scaled = bias * self.alibi_scale.clamp_min(0)[:, 0]  # (layers, H, T, T)
        extra = self.extra_tokens.shape[1]
        missing = heads - self.alibi_heads
        return list(functional.pad(scaled, (extra, 0, extra, 0, 0, missing)))


class Data2Vec(nn.Module):
    """Names and shapes of the parameters are those of the published weights."""

    def __init__(self, conf: Mapping[str, Any]):
        super().__init__()
        audio = conf["modalities"]["audio"]
        for where, key in ((conf, "layer_norm_first"), (audio, "conv_pos_pre_ln")):
            if where.get(key):
                raise ValueError(f"{key}: true is not supported")
        self.modality_encoders = nn.ModuleDict({"AUDIO": _Audio(conf)})
        self.blocks = _blocks(conf, conf["depth"])
        self.n_blocks = audio["prenet_depth"] + conf["depth"]
        self.convolutions = self.modality_encoders["AUDIO"].convolutions

    def forward(self, waves: Tensor) -> list[Tensor]:
        """Return the input of the first block and the output of each, (B, T, D)."""
        audio = self.modality_encoders["AUDIO"]
        x = audio.features(waves)
        extra = audio.extra_tokens.shape[1]
        blocks = [*audio.context_encoder["blocks"], *self.blocks]
        biases = audio.biases(x.shape[1] - extra, blocks[0].attn.heads)
        hidden = [x[:, extra:]]
        for i, block in enumerate(blocks):
            x = block(x, biases[i if len(biases) > 1 else 0])
            hidden.append(x[:, extra:])
        return hidden


def _norm(conf: Mapping[str, Any]) -> nn.LayerNorm:
    return nn.LayerNorm(
        conf["embed_dim"], eps=conf["norm_eps"], elementwise_affine=conf["norm_affine"]
    )


def _blocks(conf: Mapping[str, Any], count: int) -> nn.ModuleList:
    return nn.ModuleList(_Block(conf) for _ in range(count))


def _convolutions(shapes: Sequence[tuple[int, int, int]], mode: str) -> nn.ModuleList:
    """Feature extractor: normalised in each layer, or over time in the first."""
    layers, inputs = nn.ModuleList(), 1
    for width, kernel, stride in shapes:
        layer = [nn.Conv1d(inputs, width, kernel, stride, bias=False), nn.Identity()]
        if mode == "layer_norm":
            layer.append(_Transposed(nn.LayerNorm(width)))
        elif mode == "default" and inputs == 1:
            layer.append(nn.GroupNorm(width, width))
        layers.append(nn.Sequential(*layer, nn.GELU()))
        inputs = width
    return layers


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each attention head: Press et al., arXiv 2108.12409.

    Examples
    --------
    >>> alibi_slopes(2), alibi_slopes(3)
    ([0.0625, 0.00390625], [0.0625, 0.00390625, 0.25])
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    if power == heads:
        return slopes
    return slopes + alibi_slopes(2 * power)[::2][: heads - power]


def read_convolutions(text: str) -> list[tuple[int, int, int]]:
    """Read the shapes of convolutions (width, kernel, stride), without `eval`.

    Raises
    ------
    ValueError
        If the text is more than lists, tuples, numbers, + and *.

    Examples
    --------
    >>> read_convolutions("[(4, 10, 5)] + [(4, 3, 2)] * 2")
    [(4, 10, 5), (4, 3, 2), (4, 3, 2)]
    """

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Expression(body=body):
                return value(body)
            case ast.Constant(value=int() as number):
                return number
            case ast.List(elts=items):
                return [value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(value(item) for item in items)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return value(left) + value(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return value(left) * value(right)
        raise ValueError(f"'{text}', expected such as '[(512, 10, 5)] + [(512, 3, 2)]'")

    return value(ast.parse(text, mode="eval"))


class _Ignored:
    """Replaces objects of the training that a checkpoint holds beside weights."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> "_Ignored":
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _WeightsUnpickler(pickle.Unpickler):
    """Makes tensors and containers; whatever else a pickle names is not imported."""

    allowed = {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch._utils", "_rebuild_tensor_v2"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.allowed:
            return super().find_class(module, name)
        return _Ignored


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint that may hold more, running none of its code.

    Raises
    ------
    ValueError
        If it is no checkpoint of torch.
    """

    def load(stream: Any, **options: Any) -> Any:
        return _WeightsUnpickler(stream, **options).load()

    safe = SimpleNamespace(Unpickler=_WeightsUnpickler, load=load, __name__="weights")
    try:
        state = torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=safe
        )
    except Exception as error:  # garbage raises anything
        reason = f"{type(error).__name__}: {reprlib.repr(str(error))}"
        raise ValueError(f"{path}: no checkpoint of torch: {reason}") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds {type(state).__name__}, expected weights")
    weights = {str(k): v for k, v in state.items() if isinstance(v, Tensor)}
    return {key.removeprefix("module."): v.float() for key, v in weights.items()}


def _load_weights(network: nn.Module, weights: dict[str, Tensor], model: str) -> None:
    own = network.state_dict()
    check_complete(model, sorted(set(own) - set(weights)))
    unknown = sorted(
        key for key in set(weights) - set(own) if not key.startswith(UNUSED_KEYS)
    )
    if unknown:
        raise ValueError(
            f"model '{model}' has {len(unknown)} weights that emotion2vec has not, "
            f"'{unknown[0]}' first"
        )
    pairs = [(key, weights[key].shape, value.shape) for key, value in own.items()]
    check_shapes(model, [(key, a, b) for key, a, b in pairs if a != b])
    network.load_state_dict({key: weights[key] for key in own})
