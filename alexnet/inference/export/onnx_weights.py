"""Smaller weights in an ONNX graph: float16, or int8 with a scale for each output.

Only how weights are stored changes: standard operators make float32 of them, and the arithmetic
stays float32. Weights have their outputs as rows (axis 0); biases and all else stay float32.
Quantizing the values between the layers as well would be faster in some engines, but makes an
image's answer depend on the others of its batch.
"""

import numpy as np

from alexnet.inference.export.onnx_builder import GraphBuilder, Node
from alexnet.inference.export.options import Weights

LARGEST = 127  # symmetric: -128 is not used


def compress_weights(graph: GraphBuilder, form: Weights) -> None:
    """Store a graph's weights in a smaller form; the values of their names stay float32."""
    if form == "float32":
        return
    nodes = []
    for name in [name for name in graph.constants if name.endswith(".weight")]:
        values = graph.constants.pop(name)
        nodes.append(_half(graph, name, values) if form == "half" else _int8(graph, name, values))
    graph.nodes[:0] = nodes


def quantize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 values in the shape of `values`, and a float32 scale for each row (axis 0).

    A value is its int8 times its row's scale, within half a scale.
    """
    rows = values.reshape(len(values), -1)
    largest = np.abs(rows).max(1)
    scales = np.where(largest > 0, largest / LARGEST, 1).astype(np.float32)
    quantized = np.rint(rows / scales[:, None]).clip(-LARGEST, LARGEST)
    return quantized.astype(np.int8).reshape(values.shape), scales


def _half(graph: GraphBuilder, name: str, values: np.ndarray) -> Node:
    half = graph.constant(f"{name}.half", values.astype(np.float16))
    return Node(name, "Cast", [half], {"to": 1})  # 1: float32


def _int8(graph: GraphBuilder, name: str, values: np.ndarray) -> Node:
    quantized, scales = quantize(values)
    stored = graph.constant(f"{name}.int8", quantized)
    scale = graph.constant(f"{name}.scale", scales)
    return Node(name, "DequantizeLinear", [stored, scale], {"axis": 0})
