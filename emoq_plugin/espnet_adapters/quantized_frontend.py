"""Frontend `emoq_quantized`: any frontend of a task, then a quantizer."""

import inspect
from typing import Any, ClassVar

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.train.class_choices import ClassChoices

from emoq_plugin.espnet_adapters.clip_tokens import ClipTokens
from emoq_plugin.espnet_adapters.portable import PortableQuantizer
from emoq_plugin.espnet_adapters.units_frontend import UnitsFrontend
from emoq_plugin.speech.audio import resample, scale
from emoq_plugin.speech.pipeline import build_from_specification

NAME = "emoq_quantized"
OUTPUTS = ("reconstruction", "embedding")
FEATURES = "features"
# Frames at the edges that frontends add or drop.
EDGE_FRAMES = 4


class CardFrontend(AbsFrontend):
    """The encoder of a feature specification: the very features of stage 3.

    It computes without gradient and stays outside of the checkpoint.

    Parameters
    ----------
    feature : dict
        Feature specification.
    device : str, default="cpu"
        Of an encoder that is a network.
    model_dir : str, optional
        Its local model directory.
    input_fs : int, optional
        Rate of the samples in Hz; the encoder's own when left out.
    """

    def __init__(
        self,
        feature: dict,
        *,
        device: str = "cpu",
        model_dir: str | None = None,
        input_fs: int | None = None,
    ):
        super().__init__()
        self.encoder = build_from_specification(
            feature, device=device, model_dir=model_dir
        )
        self.input_fs = input_fs or self.encoder.sample_rate

    def output_size(self) -> int:
        """Return the dimension of a frame."""
        return self.encoder.specification.dimension

    def forward(
        self, input: torch.Tensor, input_lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode (B, N) samples, each clip for itself, to (B, T, D)."""
        if input.is_floating_point():
            input = input.float()  # NumPy has no bfloat16
        waves = [
            scale(w[:n].cpu().numpy(), f"clip {i} of the batch")
            for i, (w, n) in enumerate(zip(input, input_lengths.tolist()))
        ]
        waves = [resample(w, self.input_fs, self.encoder.sample_rate) for w in waves]
        clips = [torch.from_numpy(f).to(input.device) for f in self.encoder(waves)]
        counts = [len(clip) for clip in clips]
        # An empty one, so that an empty batch has a dimension.
        empty = torch.zeros(0, self.output_size(), device=input.device)
        padded = torch.nn.utils.rnn.pad_sequence([*clips, empty], batch_first=True)
        lengths = torch.tensor(counts, dtype=torch.long, device=input.device)
        return padded[:-1], lengths


class QuantizedFrontend(AbsFrontend):
    """Quantize what another frontend of the same task gives.

    Registered for each task as a subclass that knows the task's own frontends.

    Parameters
    ----------
    quantizer : dict
        ``{path: <directory or hub name>, system: specific-distortion}``, see
        `PortableQuantizer`.
    upstream : str, optional
        ``features`` is the encoder that the quantizer was learned on (frozen, outside
        of the checkpoint); else one of the task's own frontends, which must give the
        same features. The task's default when left out.
    upstream_conf : dict, optional
        Its options.
    n_levels : int, optional
        Levels of the code stream; all that were learned when left out. May be changed
        for inference, see `set_n_levels`.
    output : {"reconstruction", "embedding"}, default="reconstruction"
        Features as a decoder gets them, with the straight-through gradient of
        Bengio, Leonard and Courville 2013 to an upstream that is trained; or
        embedded codes, see `UnitsFrontend`, behind those of a clip code, see
        `ClipTokens`.
    units_conf : dict, optional
        For ``embedding``: `level_mode`, `embedding`, `output_size`, `use_route`,
        `stack`.
    fs : int or str, optional
        Handed to an upstream that knows it (cls.sh always gives it).
    input_fs : int, optional
        Rate of the samples in Hz, if it is not that of the quantizer's features;
        ``features`` and upstreams that know it resample (gan_svs always gives it).

    Raises
    ------
    ValueError
        For an unknown upstream or output, or an upstream of another layer, or whose
        frames have another dimension, than the quantizer's features.
    """

    upstreams: ClassVar[ClassChoices]

    def __init__(
        self,
        quantizer: dict | None = None,
        upstream: str | None = None,
        upstream_conf: dict | None = None,
        n_levels: int | None = None,
        output: str = "reconstruction",
        units_conf: dict | None = None,
        fs: int | str | None = None,
        input_fs: int | None = None,
    ):
        super().__init__()
        if not isinstance(quantizer, dict):
            raise ValueError(
                f"frontend_conf: quantizer is {quantizer!r}, expected a mapping such "
                "as {path: exp/quantizer/64x4, system: specific-distortion}"
            )
        if output not in OUTPUTS:
            raise ValueError(f"output is '{output}', expected one of {OUTPUTS}")
        self.quantizer = PortableQuantizer(quantizer)
        self.input_fs = input_fs
        rates = {"fs": fs, "input_fs": input_fs}
        self.upstream = self._build_upstream(upstream, dict(upstream_conf or {}), rates)
        self._check_dimension(type(self.upstream).__name__)
        bank = self.quantizer.routed.bank
        n_levels = self.quantizer.routed.n_levels if n_levels is None else n_levels
        self.embedding: UnitsFrontend | None = None
        self.clip_tokens: ClipTokens | None = None
        if output == "embedding":
            conf = {**(units_conf or {}), "n_levels": n_levels}
            levels = quantizer["saved"].get("levels_sha256")
            self.embedding = UnitsFrontend.of_bank(bank, levels_sha256=levels, **conf)
            quantizer["saved"]["levels_sha256"] = self.embedding.codebooks_sha256
            if bank.clip_code is not None:
                size = self.embedding.output_size()
                self.clip_tokens = ClipTokens(bank.clip_code.sizes, size)
        elif units_conf:
            raise ValueError(f"units_conf {units_conf} belongs to 'output: embedding'")
        self.set_n_levels(n_levels)

    def _build_upstream(
        self, name: str | None, conf: dict[str, Any], rates: dict[str, Any]
    ) -> AbsFrontend:
        known = [FEATURES, *(n for n in self.upstreams.classes if n != NAME)]
        name = name or self.upstreams.default or "default"
        if name == FEATURES:
            conf.setdefault("input_fs", rates["input_fs"])
            return CardFrontend(self.quantizer.feature, **conf)
        if name not in known:
            raise ValueError(f"upstream is '{name}', expected one of {known}")
        chosen = self.upstreams.get_class(name)
        layer, layers = conf.get("layer", -1), self.quantizer.feature.get("layers")
        if layer != -1 and layers not in (None, [], [layer]):  # s3prl: -1 mixes all
            raise ValueError(
                f"upstream {name} gives layer {layer}, the quantizer was learned on "
                f"layers {layers}: set upstream_conf's layer, or take another quantizer"
            )
        known_to_it = inspect.signature(chosen).parameters
        given = {k: v for k, v in rates.items() if v is not None and k in known_to_it}
        return chosen(**given | conf)

    def _check_dimension(self, name: str) -> None:
        found, expected = self.upstream.output_size(), self.quantizer.dimension
        if found != expected:
            feature = self.quantizer.feature
            learned = f" ({feature['encoder']}, layers {feature['layers']})"
            raise ValueError(
                f"upstream {name} gives {found} dimensions, the quantizer was learned "
                f"on {expected}{learned if feature else ''}: set upstream_conf so that "
                "it gives the features of the quantizer"
            )

    def _check_frame_rate(self, samples: int, frames: int) -> None:
        """Compare the frame rate with the one specified, allowing for edges."""
        feature = self.quantizer.feature
        if not feature:
            return
        rate = self.input_fs or feature["sample_rate"]
        expected = samples / rate * feature["frame_rate_hz"]
        if abs(frames - expected) > EDGE_FRAMES + 0.1 * expected:
            raise ValueError(
                f"upstream {type(self.upstream).__name__} gives {frames} frames for "
                f"{samples} samples, the quantizer was learned on about {expected:.0f} "
                f"({feature['frame_rate_hz']:g} Hz at {rate} Hz): "
                "set its hop length or the sampling rate"
            )

    def set_n_levels(self, n_levels: int) -> None:
        """Choose the levels of the code stream, also after training.

        Raises
        ------
        ValueError
            If so many were not learned, or the embedding was trained on others.
        """
        known = self.quantizer.routed.bank.n_levels
        if not 1 <= n_levels <= known:
            raise ValueError(f"n_levels is {n_levels}, expected 1 to {known}")
        if self.embedding and n_levels != len(self.embedding.codebook_sizes):
            raise ValueError(
                f"n_levels is {n_levels}, but the embedding was trained on "
                f"{len(self.embedding.codebook_sizes)}: it cannot change"
            )
        self.n_levels = n_levels

    def reload_pretrained_parameters(self) -> None:
        """Undo ESPnet's `init` in a pretrained upstream."""
        if hasattr(self.upstream, "reload_pretrained_parameters"):
            self.upstream.reload_pretrained_parameters()

    def output_size(self) -> int:
        """Return the dimension of a frame."""
        if self.embedding:
            return self.embedding.output_size()
        return self.quantizer.dimension

    def forward(
        self, input: torch.Tensor, input_lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Extract and quantize.

        Parameters
        ----------
        input : (B, N) float
            Samples, or what the upstream takes.
        input_lengths : (B,) int64

        Returns
        -------
        frames : (B, T, D) float
            Zero where padded.
        lengths : (B,) int64

        Raises
        ------
        ValueError
            If the upstream's frame rate is not that of the quantizer's features.
        """
        features, lengths = self.upstream(input, input_lengths)
        if input.dim() == 2 and len(input):
            self._check_frame_rate(int(input_lengths.max()), int(lengths.max()))
        quantized = self.quantizer(features, lengths, n_levels=self.n_levels)
        if self.embedding:
            weights = quantized.weights
            route = weights.new_zeros(*weights.shape, len(self.experts))
            route.scatter_(2, quantized.route[..., None], weights[..., None])
            found = self.embedding(quantized.codes, lengths, route.flatten(1))
            if self.clip_tokens is None:
                return found
            n_windows = (quantized.clip_codes[..., 0] >= 0).sum(dim=1)
            return self.clip_tokens(quantized.clip_codes, n_windows, *found)
        frames = quantized.features.to(features.dtype)
        if features.requires_grad:
            padded = quantized.codes[..., :1] < 0
            frames = frames + (features - features.detach()).masked_fill(padded, 0.0)
        # Our encoders give float32 whatever the model's precision is.
        dtype = input.dtype if input.is_floating_point() else frames.dtype
        return frames.to(dtype), lengths

    @property
    def experts(self) -> list[str]:
        """Experts that a route may name."""
        return self.quantizer.routed.bank.experts


def frontend_of(choices: ClassChoices) -> type[QuantizedFrontend]:
    """Make the frontend of a task: its upstreams are the task's frontends."""
    attributes = {"upstreams": choices, "__module__": __name__}
    return type("QuantizedFrontend", (QuantizedFrontend,), attributes)
