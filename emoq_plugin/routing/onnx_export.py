"""Encode and decode as ONNX graphs, which give the same codes without PyTorch."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from emoq_plugin.core.rvq import Quantized
from emoq_plugin.files import atomic_write
from emoq_plugin.optional import needs
from emoq_plugin.routing.quantizer import RoutedQuantizer

OPSET = 18


class _Encode(nn.Module):
    """(T, D) features of a clip to its stream, see `export_onnx`."""

    def __init__(self, quantizer: RoutedQuantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        return _stream(self.quantizer(features[None]))


class _Decode(nn.Module):
    """The stream of a clip to (T, D) features."""

    def __init__(self, quantizer: RoutedQuantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(
        self,
        codes: Tensor,
        route: Tensor,
        weights: Tensor,
        clip_codes: Tensor | None = None,
    ) -> Tensor:
        beside = None if clip_codes is None else clip_codes[None]
        stream = (codes[None], route[None], weights[None], beside)
        return self.quantizer.decode(*stream)[0]


def _stream(found: Quantized) -> tuple[Tensor, ...]:
    parts = (found.codes, found.route, found.weights, found.clip_codes)
    return tuple(part[0] for part in parts if part is not None)


def export_onnx(quantizer: RoutedQuantizer, directory: str | Path) -> list[Path]:
    """Write `encode.onnx` and `decode.onnx`.

    ``encode``: features (T, D) float32 -> codes (T, M * L) int64, route (M,) int64, the
    places of the experts in the quantizer's list, and their weights (M,) float32; from
    a quantizer with a clip code also clip_codes (1, C) int64. ``decode``: all of these
    -> features (T, D). M is 1 unless experts are mixed.

    Parameters
    ----------
    quantizer : RoutedQuantizer
    directory : str or Path

    Returns
    -------
    paths : list of Path

    Raises
    ------
    ValueError
        For a normalisation whose input is more than the features of a clip, a clip code
        of windows, or when a package is missing.
    """
    with needs("onnx"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    if quantizer.bank.normalization.kind == "speaker":
        raise ValueError("a quantizer that needs the speaker's mean has no ONNX form")
    clip_code = quantizer.bank.clip_code
    if clip_code is not None and clip_code.window is not None:
        raise ValueError(
            "a clip code of windows has no ONNX form: learn one of whole clips "
            "(clip_window=None)"
        )
    quantizer = quantizer.cpu().eval()
    features = torch.randn(50, quantizer.bank.dimension)
    with torch.no_grad():
        stream = _stream(quantizer(features[None]))
    names = ["codes", "route", "weights", "clip_codes"][: len(stream)]
    directory = Path(directory)
    return [
        _export(
            _Encode(quantizer), {"features": features}, names, directory / "encode.onnx"
        ),
        _export(
            _Decode(quantizer),
            dict(zip(names, stream)),
            ["features"],
            directory / "decode.onnx",
        ),
    ]


def _export(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], path: Path
) -> Path:
    """Trace with any number of frames in the first input, and write."""
    frames = torch.export.Dim("T", min=1)
    first = next(iter(inputs))
    with warnings.catch_warnings():  # of torch about itself
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=[{0: frames} if n == first else None for n in inputs],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    with atomic_write(path, "wb") as stream:
        stream.write(program.model_proto.SerializeToString())
    return path
