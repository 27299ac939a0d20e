"""A quantizer inside an ESPnet model: frozen, verified, independent of its path."""

import math
from typing import Any

import torch
from torch import Tensor

import emoq_plugin
from emoq_plugin.core.rvq import Quantized
from emoq_plugin.files import check_options
from emoq_plugin.routing.quantizer import RoutedQuantizer

MAX_VALUES = 2**29  # of one tensor, 2 GiB; a configuration may claim anything
OPTIONS = ("path", "system", "codebooks_sha256", "saved")


def keep_exact(module: torch.nn.Module, states: dict, prefix: str, *_: Any) -> None:
    """Write a module's own buffers as float64 into a `state_dict`.

    ESPnet averages checkpoints by summing and dividing. In float32 the mean of equal
    numbers often differs from them in the last bit (0.6 of all numbers for ten epochs),
    in float64 the sums are exact and the codebooks come back bit for bit.
    """
    for name, buffer in module.named_buffers():
        if prefix + name in states and buffer.is_floating_point():
            states[prefix + name] = states[prefix + name].double()


class PortableQuantizer(torch.nn.Module):
    """A `RoutedQuantizer` that a saved configuration and a checkpoint rebuild.

    Parameters
    ----------
    conf : dict
        What the user wrote: ``path`` (directory or hub name), ``system`` for a bank of
        experts, optionally ``codebooks_sha256``. Shapes and the SHA-256 are added to
        it: ESPnet hands nested mappings on as they are and writes `config.yaml` after
        the model is built, so the saved configuration has them.

    Raises
    ------
    ValueError
        For a wrong or missing artifact, a route that needs labels or speakers, or
        codebooks that are not those of ``codebooks_sha256``.
    """

    def __init__(self, conf: dict):
        super().__init__()
        check_options(conf, OPTIONS, "quantizer")
        if "saved" in conf:
            self.routed = _rebuild(conf["saved"])
            self.source = None  # empty until a checkpoint is loaded
        elif "path" in conf:
            self.routed = emoq_plugin.load(conf["path"], system=conf.get("system"))
            self.source = f"the quantizer {conf['path']}"
        else:
            raise ValueError("quantizer: found no 'path', expected a directory or name")
        if self.routed.bank.normalization.kind == "speaker":
            raise ValueError(
                "this quantizer removes the speaker's mean frame, but ESPnet gives a "
                "frontend no speaker: learn one with corpus, clip or level"
            )
        self.sha256 = conf.setdefault("codebooks_sha256", self.routed.codebooks_sha256)
        if "saved" not in conf:
            self.verify(self.source)
            conf["saved"] = _plain(self.routed)
        self.feature = self.routed.bank.card.get("feature") or {}
        self.register_load_state_dict_post_hook(_after_load)
        self.register_state_dict_post_hook(keep_exact)

    @property
    def dimension(self) -> int:
        """D of the features."""
        return self.routed.bank.dimension

    def verify(self, source: str = "the model") -> None:
        """Compare the codebooks with the SHA-256 of the configuration.

        Raises
        ------
        ValueError
            If they differ.
        """
        found = self.routed.codebooks_sha256
        if found != self.sha256:
            raise ValueError(
                f"codebooks of {source} have sha256 {found}, the configuration says "
                f"{self.sha256}: it is damaged or belongs to another quantizer"
            )

    @torch.no_grad()
    def forward(
        self, x: Tensor, lengths: Tensor, *, n_levels: int | None = None
    ) -> Quantized:
        """Quantize a batch (B, T, D); no gradient flows through."""
        if self.source is None:
            raise ValueError(
                "the quantizer is empty: no checkpoint was loaded. To train anew, "
                "write only 'path' (and 'system') under 'quantizer', not 'saved'"
            )
        return self.routed(x.detach().float(), lengths, n_levels=n_levels)


def _plain(quantizer: RoutedQuantizer) -> dict[str, Any]:
    """Describe a quantizer in plain YAML types, without its numbers."""
    config = quantizer.config()
    card = {k: config["card"][k] for k in ("feature",) if k in config["card"]}
    shapes = {name: list(t.shape) for name, t in quantizer.tensors().items()}
    return {"config": {**config, "card": card}, "shapes": shapes}


def _rebuild(saved: dict[str, Any]) -> RoutedQuantizer:
    """Make room for the numbers of a checkpoint; the configuration may be foreign."""
    try:
        shapes = saved["shapes"]
        if max(map(math.prod, shapes.values())) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} numbers in one of {shapes}")
        empty = {name: torch.zeros(shape) for name, shape in shapes.items()}
        return RoutedQuantizer.from_config(saved["config"], empty)
    except (
        LookupError, TypeError, ValueError, AttributeError, RuntimeError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"quantizer: 'saved' is damaged: {type(error).__name__} {error}"
        ) from error


def _after_load(module: PortableQuantizer, keys: Any) -> None:
    """Refuse what `load_state_dict(strict=False)` would let pass."""
    missing = [k for k in keys.missing_keys if ".bank." in f".{k}"]
    if missing:
        raise ValueError(f"the checkpoint has no codebooks: {', '.join(missing)}")
    module.verify("the checkpoint")
    module.source = "the checkpoint"
