"""Encode and decode as ONNX graphs, which give the same codes without PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoq_plugin.files import atomic_write
from emoq_plugin.routing.quantizer import RoutedQuantizer

OPSET = 17
ROUTERS = (None, "distortion", "cosine", "linear")


class _Graph:
    """Collects nodes and constants; every call adds one node and gives its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def save(self, path: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> Path:
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self.nodes, path.stem, inputs, outputs, self.constants
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        onnx.checker.check_model(model)
        with atomic_write(path, "wb") as stream:
            stream.write(model.SerializeToString())
        return path


def export_onnx(quantizer: RoutedQuantizer, directory: str | Path) -> list[Path]:
    """Write `encode.onnx` and `decode.onnx`.

    ``encode``: features (T, D) float32 -> codes (T, L) int64, route () int64, the place
    of the expert in the quantizer's list. ``decode``: codes, route -> features (T, D).

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
        For a router or normalisation whose input is more than the features of a clip,
        or when the package onnx is missing.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ValueError("the package onnx is missing: pip install onnx") from error
    router, kind = quantizer.arm.router, quantizer.bank.normalization.kind
    if router not in ROUTERS:
        known = [r for r in ROUTERS if r]
        raise ValueError(f"router '{router}' has no ONNX form, expected one of {known}")
    if kind == "speaker":
        raise ValueError("a quantizer that needs the speaker's mean has no ONNX form")
    directory = Path(directory)
    return [
        _encoder(quantizer, directory / "encode.onnx"),
        _decoder(quantizer, directory / "decode.onnx"),
    ]


def _encoder(quantizer: RoutedQuantizer, path: Path) -> Path:
    from onnx import TensorProto, helper

    graph, bank = _Graph(), quantizer.bank
    normalised = _normalise(graph, quantizer)
    codebooks = [graph.constant(c) for c in bank.codebooks[: quantizer.n_levels]]
    route = _route(graph, quantizer, normalised, codebooks)
    codes, _ = _levels(graph, normalised, codebooks, route)
    graph.add("Concat", *codes, axis=1, output="codes")
    size = [quantizer.n_levels]
    return graph.save(
        path,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT,
                                       ["T", bank.dimension])],
        [helper.make_tensor_value_info("codes", TensorProto.INT64, ["T", *size]),
         helper.make_tensor_value_info("route", TensorProto.INT64, [])],
    )  # fmt: skip


def _normalise(graph: _Graph, quantizer: RoutedQuantizer) -> str:
    norm, frames = quantizer.bank.normalization, "features"
    if norm.kind != "corpus":
        axes = [0] if norm.kind == "clip" else [0, 1]
        mean = graph.add("ReduceMean", frames, axes=axes, keepdims=1)
        frames = graph.add("Sub", frames, mean)
    centred = graph.add("Sub", frames, graph.constant(norm.mean))
    return graph.add("Div", centred, graph.constant(norm.scale))


def _levels(
    graph: _Graph, normalised: str, codebooks: Sequence[str], expert: str
) -> tuple[list[str], str]:
    """Encode level by level; gives the (T, 1) codes and the last residual."""
    residual, codes = normalised, []
    for codebook in codebooks:
        table = graph.add("Gather", codebook, expert, axis=0)  # (K, D)
        norms = graph.add("ReduceSumSquare", table, axes=[1], keepdims=0)
        half = graph.add("Mul", norms, graph.constant(np.float32(0.5)))
        product = graph.add(
            "MatMul", residual, graph.add("Transpose", table, perm=[1, 0])
        )
        scores = graph.add("Sub", product, half)
        found = graph.add("ArgMax", scores, axis=1, keepdims=0)
        codes.append(graph.add("Unsqueeze", found, graph.constant([1])))
        residual = graph.add("Sub", residual, graph.add("Gather", table, found, axis=0))
    return codes, residual


def _route(
    graph: _Graph, quantizer: RoutedQuantizer, normalised: str, codebooks: Sequence[str]
) -> str:
    """Choose the expert; gives its place, ()."""
    bank, router = quantizer.bank, quantizer.arm.router
    if router is None:
        return graph.add("Identity", graph.constant(np.int64(0)), output="route")
    if router == "linear":
        scores = _linear_scores(graph, quantizer, normalised)
    else:
        depth = min(quantizer.depth, quantizer.n_levels)
        parts = []
        for expert in range(len(bank.experts)):
            place = graph.constant(np.int64(expert))
            _, residual = _levels(graph, normalised, codebooks[:depth], place)
            parts.append(_evidence(graph, router, normalised, residual))
        scores = graph.add("Concat", *parts, axis=0)  # (E,)
    best = graph.add("ArgMax", scores, axis=0, keepdims=0)
    return graph.add("Identity", best, output="route")


def _evidence(graph: _Graph, router: str, normalised: str, residual: str) -> str:
    """Give an expert's score (1,), the larger the better."""
    one = graph.constant([1])
    if router == "distortion":
        square = graph.add("Mul", residual, residual)
        error = graph.add("ReduceMean", square, axes=[0, 1], keepdims=0)
        return graph.add("Reshape", graph.add("Neg", error), one)
    mean = graph.add("ReduceMean", normalised, axes=[0], keepdims=0)
    rest = graph.add("ReduceMean", residual, axes=[0], keepdims=0)
    decoded = graph.add("Sub", mean, rest)
    product = graph.add("ReduceSum", graph.add("Mul", mean, decoded), keepdims=1)
    lengths = [graph.add("ReduceL2", v, axes=[0], keepdims=1) for v in (mean, decoded)]
    return graph.add("Div", product, graph.add("Mul", *lengths))


def _linear_scores(graph: _Graph, quantizer: RoutedQuantizer, normalised: str) -> str:
    bank = quantizer.bank
    learned = bank.router_parameters
    if "linear.weight" not in learned:
        raise ValueError("this bank has no linear router: learn codebooks with labels")
    mean = graph.add("ReduceMean", normalised, axes=[0], keepdims=0)
    away = graph.add("Sub", normalised, mean)
    square = graph.add("ReduceMean", graph.add("Mul", away, away), axes=[0], keepdims=0)
    pooled = graph.add("Concat", mean, graph.add("Sqrt", square), axis=0)
    centred = graph.add("Sub", pooled, graph.constant(learned["linear.mean"]))
    scaled = graph.add("Div", centred, graph.constant(learned["linear.scale"]))
    # Rows in the order of the experts instead of the classes.
    rows = [bank.emotions.index(e.rpartition("/")[2]) for e in bank.experts]
    weight, bias = learned["linear.weight"][rows], learned["linear.bias"][rows]
    product = graph.add("MatMul", graph.constant(weight), scaled)
    return graph.add("Add", product, graph.constant(bias))


def _decoder(quantizer: RoutedQuantizer, path: Path) -> Path:
    from onnx import TensorProto, helper

    graph, bank = _Graph(), quantizer.bank
    total = ""
    for level, codebook in enumerate(bank.codebooks[: quantizer.n_levels]):
        table = graph.add("Gather", graph.constant(codebook), "route", axis=0)
        column = graph.add("Gather", "codes", graph.constant(np.int64(level)), axis=1)
        vectors = graph.add("Gather", table, column, axis=0)
        total = graph.add("Add", total, vectors) if total else vectors
    norm = bank.normalization
    scaled = graph.add("Mul", total, graph.constant(norm.scale))
    graph.add("Add", scaled, graph.constant(norm.mean), output="features")
    shape = ["T", quantizer.n_levels]
    return graph.save(
        path,
        [helper.make_tensor_value_info("codes", TensorProto.INT64, shape),
         helper.make_tensor_value_info("route", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT,
                                       ["T", bank.dimension])],
    )  # fmt: skip
