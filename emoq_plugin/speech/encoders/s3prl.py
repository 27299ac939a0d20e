"""Hidden layers of the upstream models of S3PRL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoq_plugin.optional import needs
from emoq_plugin.speech.encoders.layers import LayeredEncoder, Network, pad
from emoq_plugin.speech.encoders.model_files import naming_faults

if TYPE_CHECKING:
    import torch


class S3prl(LayeredEncoder):
    """Any upstream of S3PRL (arXiv 2105.01051), framed as in ESPnet's S3PRL frontend.

    A wave of N samples gives ceil(N / shift) frames: S3PRL repeats the last one. Only
    waves of equal length share a batch. Downloads are in `HF_HOME/s3prl`.

    Parameters
    ----------
    model : str
        Name of a published upstream (hubert_large_ll60k, wavlm_large, ...), or a local
        checkpoint: the file, or a directory with one.
    upstream : str, optional
        Kind of a local checkpoint (hubert, wav2vec2, wavlm, hf_hubert, ...).
    layers, layer_mode, layer_weights, batch_seconds, precision, device
        See `LayeredEncoder`.
    """

    name = "s3prl"
    model_files = ("*.pt", "*.pth", "*.ckpt", "*.th", "*.json", "*.safetensors")

    def __init__(
        self,
        model: str,
        upstream: str | None = None,
        layers: Sequence[int] | int | str = -1,
        layer_mode: str = "mean",
        layer_weights: Sequence[float] | None = None,
        batch_seconds: float = 80.0,
        precision: str = "float32",
        device: str = "cpu",
    ):
        self._upstream = upstream
        super().__init__(
            model, layers, layer_mode, layer_weights, batch_seconds, precision, device
        )

    def load(self, model: str) -> Network:
        """Load an upstream by name, or from a checkpoint."""
        with needs("s3prl"):
            from s3prl.nn.upstream import MIN_SECOND, SAMPLE_RATE
        loaded = _load(model, self._upstream)
        shifts, widths = set(loaded.downsample_rates), set(loaded.hidden_sizes)
        if len(shifts) > 1 or len(widths) > 1:
            raise ValueError(
                f"model '{model}': its layers have frame shifts {sorted(shifts)} and "
                f"sizes {sorted(widths)}, expected one of each"
            )
        [self._shift], [width] = shifts, widths
        return Network(
            module=loaded,
            n_layers=loaded.num_layers - 1,
            dimension=width,
            shift=self._shift,
            # S3PRL lengthens shorter waves with zeros.
            minimum_samples=int(MIN_SECOND * SAMPLE_RATE),
            sharing="equal",
            sample_rate=SAMPLE_RATE,
            # s3prl.upstream.<kind>.expert
            settings={"upstream": type(loaded.upstream).__module__.split(".")[2]},
            package=packages_distributions()["s3prl"][0],
        )

    def n_frames(self, samples: int) -> int:
        """Return the number of frames of a wave."""
        return -(-samples // self._shift)

    def hidden(self, waves: Sequence[np.ndarray]) -> "list[torch.Tensor]":
        """Compute all layers of one batch."""
        import torch

        values = pad(waves, self.device)
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        return self.module(values, lengths)[0]


def _load(model: str, upstream: str | None) -> Any:
    from huggingface_hub.constants import HF_HOME
    from s3prl.nn import S3PRLUpstream
    from s3prl.util import download

    download.set_dir(Path(HF_HOME) / "s3prl")
    if not Path(model).exists():
        names = S3PRLUpstream.available_names(only_registered_ckpt=True)
        if model not in names:
            raise ValueError(
                f"model '{model}' is neither a local checkpoint nor one of S3PRL: "
                f"{', '.join(sorted(n for n in names if n.islower()))}"
            )
        with _named_downloads(model):
            return S3PRLUpstream(model)
    known = S3PRLUpstream.available_names()
    loaders = [f"{upstream}_{kind}" for kind in ("local", "custom")]
    loaders = [loader for loader in loaders if loader in known]
    if not loaders:
        kinds = sorted({n.rpartition("_")[0] for n in known if n.endswith("_local")})
        raise ValueError(
            f"model '{model}' is a local checkpoint of upstream '{upstream}', "
            f"expected upstream: hf_hubert, hf_wav2vec2 or one of {', '.join(kinds)}"
        )
    path = model if loaders[0].startswith("hf_") else str(_checkpoint(Path(model)))
    with naming_faults(
        path,
        Path(path),
        files="a whole checkpoint, and its kind as conf: upstream",
        patterns=S3prl.model_files,
        about=f"it is no checkpoint of S3PRL's upstream '{upstream}': ",
    ):
        return S3PRLUpstream(loaders[0], path_or_url=path)


def _checkpoint(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(p for p in path.iterdir() if p.suffix in (".pt", ".pth", ".ckpt"))
    if len(found) != 1:
        names = [p.name for p in found]
        raise ValueError(
            f"{path}: found checkpoints {names}, expected one .pt, .pth or .ckpt file; "
            "set conf: model to the file"
        )
    return found[0]


@contextmanager
def _named_downloads(model: str) -> Iterator[None]:
    """Let a download that fails say which file to bring, and where to."""
    from s3prl.util import download

    fetch = download._download

    def named(path: Path, url: str, *args: Any, **kwargs: Any) -> None:
        try:
            fetch(path, url, *args, **kwargs)
        except Exception as error:  # of urllib, then of requests
            raise ValueError(
                f"cannot download model '{model}': {error}. Without network: bring "
                f"{url} and store it as {path}, or pass its directory as --model_dir "
                "and set conf: upstream to its kind"
            ) from error

    download._download = named
    try:
        yield
    finally:
        download._download = fetch
