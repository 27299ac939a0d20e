"""Hidden layers of models that were pre-trained with ESPnet (ssl and hubert tasks)."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from emoq_plugin.optional import needs
from emoq_plugin.speech.encoders.layers import (
    LayeredEncoder,
    Network,
    convolution_frames,
    convolution_lengths,
    hub_directory,
    pad,
)
from emoq_plugin.speech.encoders.model_files import check_complete, naming_faults

if TYPE_CHECKING:
    import torch

FILES = "config.yaml and the .pth file of the training (with meta.yaml if published)"
# Of the training only.
UNUSED_KEYS = ("losses.", "util_modules.", "global_step")


class EspnetSsl(LayeredEncoder):
    """Models of ESPnet's ssl task (XEUS, ...) and of its hubert task with torchaudio.

    `model` is a hub name such as espnet/xeus, or a directory: a packed model, or an
    experiment's config.yaml beside one .pth file. Only waves of equal length share a
    batch, and none where the frontend normalises over the whole batch. Options: see
    `LayeredEncoder`.
    """

    name = "espnet_ssl"
    model_files = ("*.yaml", "*.pth", "*.npz")

    def load(self, model: str) -> Network:
        """Build the task's model and read its weights."""
        # A published model may hold several checkpoints: meta.yaml says which.
        root = hub_directory(model, files=FILES, skip=("*.png", "*.log", "*.pth"))
        about_files = {"files": FILES, "patterns": self.model_files}
        with naming_faults(str(root), root, **about_files):
            config, weights = _find_files(root)
            if not weights.exists() and not Path(model).is_dir():
                needed = [str(weights.relative_to(root))]
                hub_directory(model, files=FILES, only=needed)
            conf = yaml.safe_load(config.read_text("utf-8"))
            kind = conf.get("encoder")
        if kind in ("hubert_pretrain", "fairseq_hubert"):
            raise ValueError(
                f"model '{model}' was trained with fairseq, which ESPnet needs to "
                "build it: use the s3prl encoder (upstream: espnet_hubert) or a "
                "torchaudio model"
            )
        task = _tasks()[kind == "torchaudio_hubert"]
        about = (
            f"{config.name} and {weights.name} do not fit ESPnet's {task.__name__}: "
        )
        with naming_faults(str(root), root, **about_files, about=about):
            loaded, missing = _build(task, root, config, weights)
        check_complete(model, missing)
        self._convolutions = _convolutions(loaded, model)
        self._blocks = _blocks(loaded)
        shift, minimum = convolution_lengths(self._convolutions)
        joint = getattr(loaded.frontend, "normalize_audio", False)
        return Network(
            module=loaded,
            n_layers=len(self._blocks),
            dimension=loaded.encoder.output_size(),
            shift=shift,
            minimum_samples=minimum,
            sharing="alone" if joint else "equal",
            settings={"encoder": type(loaded.encoder).__name__},
            package="espnet",
        )

    def n_frames(self, samples: int) -> int:
        """Return the number of frames of a wave."""
        return convolution_frames(self._convolutions, samples)

    def hidden(self, waves: Sequence[np.ndarray]) -> "list[torch.Tensor]":
        """Compute all layers of one batch."""
        import torch

        values = pad(waves, self.device)
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        with _recorded(self._blocks) as layers:
            if hasattr(self.module, "inference_encode"):
                last = self.module.inference_encode(values, lengths)[0]
            else:
                last = _torchaudio_model(self.module)(values, lengths)[0]
        # The last layer is the model's output: after the closing normalisation.
        return [*layers[:-1], last]


def _find_files(root: Path) -> tuple[Path, Path]:
    """Find configuration and checkpoint, by meta.yaml or by being the only ones."""
    meta = root / "meta.yaml"
    if meta.exists():
        named = yaml.safe_load(meta.read_text("utf-8"))
        [config] = [root / path for path in named["yaml_files"].values()]
        [weights] = [root / path for path in named["files"].values()]
        return config, weights
    configs, weights = sorted(root.rglob("config.yaml")), sorted(root.rglob("*.pth"))
    if len(configs) != 1 or len(weights) != 1:
        names = [str(path.relative_to(root)) for path in (*configs, *weights)]
        raise ValueError(f"found {names}, expected one config.yaml and one .pth file.")
    return configs[0], weights[0]


def _tasks() -> tuple[Any, Any]:
    """Return ESPnet's ssl and hubert task."""
    with needs("espnet"):
        from espnet2.tasks.hubert import HubertTask
        from espnet2.tasks.ssl import SSLTask
    return SSLTask, HubertTask


def _build(task: Any, root: Path, config: Path, weights: Path) -> tuple[Any, list[str]]:
    """Build the model; give it and the names of weights that the checkpoint lacks."""
    from espnet2.torch_utils.safe_torch_load import safe_torch_load

    # Paths in a packed configuration start at the model's directory.
    with contextlib.chdir(root):
        loaded, _ = task.build_model_from_file(config, weights, device="cpu")
    # The task lets missing weights pass.
    state = safe_torch_load(weights, map_location="cpu")
    for key in ("module", "state_dict"):
        state = state.get(key, state)
    missing = set(loaded.state_dict()) - set(state)
    if hasattr(loaded, "losses"):
        del loaded.losses, loaded.util_modules
    return loaded.float(), [k for k in missing if not k.startswith(UNUSED_KEYS)]


def _torchaudio_model(loaded: Any) -> Any:
    return loaded.encoder.hubert_pretrain_model.wav2vec2


def _blocks(loaded: Any) -> Any:
    """Return the transformer blocks, in order."""
    if hasattr(loaded.encoder, "encoders"):
        return loaded.encoder.encoders
    return _torchaudio_model(loaded).encoder.transformer.layers


def _convolutions(loaded: Any, model: str) -> list[tuple[int, int]]:
    """Return kernel and stride of the feature extractor's layers."""
    if not hasattr(loaded, "inference_encode"):
        layers = _torchaudio_model(loaded).feature_extractor.conv_layers
        return [(layer.kernel_size, layer.stride) for layer in layers]
    layers = getattr(loaded.frontend, "layers", None)
    input_layer = getattr(loaded.encoder, "embed", None)
    if layers is None or "Subsampling" in type(input_layer).__name__:
        raise ValueError(
            f"model '{model}': frontend {type(loaded.frontend).__name__} with input "
            f"layer {type(input_layer).__name__}, expected the frontend wav2vec_cnn "
            "and an input layer that keeps the frame rate"
        )
    return [(layer.kernel_size, layer.stride) for layer in layers]


@contextlib.contextmanager
def _recorded(blocks: Any) -> "Iterator[list[torch.Tensor]]":
    """Record the input of the first block and the output of each, (B, T, D)."""
    layers: list[torch.Tensor] = []

    def record(_: Any, values: Any, output: Any = None) -> None:
        value = values if output is None else output
        while isinstance(value, tuple):  # beside masks and positions
            value = value[0]
        layers.append(value)

    hooks = [blocks[0].register_forward_pre_hook(record)]
    hooks += [block.register_forward_hook(record) for block in blocks]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()
