"""The layers of a network as ONNX operators.

Nodes are called as the network's modules are (conv1, norm1, pool1, relu1, ...), constants as its
parameters (conv1.weight, ...). Whatever rounds up is written as zeros or nothing past the bottom
and the right edge, of which the sizes are known: engines disagree on ONNX's `ceil_mode`. No batch
size occurs anywhere, and a row of the result depends on its own image only.
"""

from math import prod
from typing import Any

import numpy as np

from alexnet.core.errors import UsageError
from alexnet.inference.export.onnx_builder import GraphBuilder
from alexnet.inference.export.options import NormForm
from alexnet.models.alexnet import AlexNet
from alexnet.models.shapes import LayerShape
from alexnet.recipes.layers import (
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Linear,
    LocallyConnected,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
)
from alexnet.recipes.recipe import Network

FLATTEN = "flatten"  # the module before the first fully connected layer


def add_network(graph: GraphBuilder, model: AlexNet, images: str, norm: NormForm) -> str:
    """Add a network at test to a graph, from the value `images`, float32 (N, C, H, W).

    Return the name of the logits (N, classes).
    """
    _add_weights(graph, model)
    x = images
    for name, shape in zip(model.names, model.shapes, strict=True):
        if isinstance(shape.layer, Linear) and all(node.name != FLATTEN for node in graph.nodes):
            x = graph.add(FLATTEN, "Flatten", [x], {"axis": 1})
        x = _add_layer(graph, model.spec, name, shape, x, norm)
    return x


def _add_weights(graph: GraphBuilder, model: AlexNet) -> None:
    for name, parameter in model.named_parameters():
        graph.constant(name, parameter.detach().float().cpu().contiguous().numpy())


def _add_layer(
    graph: GraphBuilder, network: Network, name: str, shape: LayerShape, x: str, form: NormForm
) -> str:
    """Add one layer after the value x; return its output's name."""
    match shape.layer:
        case Conv() as conv:
            return graph.add(name, "Conv", [x, *_parameters(name)], _conv_attributes(conv, shape))
        case LocallyConnected() as local:
            return _add_locally_connected(graph, local, shape, x)
        case Linear(groups=1):
            return graph.add(name, "Gemm", [x, *_parameters(name)], {"transB": 1})
        case Linear() as linear:
            return _add_grouped_linear(graph, linear, shape, x)
        case LocalResponseNorm() as norm:
            towers = network.towers if norm.scope == "tower" else 1
            if form == "plain":
                return _add_plain_norm(graph, norm, shape, towers, x)
            return _add_norm(graph, norm, shape, towers, x)
        case SpatialResponseNorm() as norm:
            return _add_spatial_norm(graph, norm, x)
        case Pool() as pool:
            return _add_pool(graph, pool, shape, x)
        case Activation(function=function):
            return graph.add(name, function.capitalize(), [x])
        case Dropout(rescale="test", p=p):
            return graph.add(name, "Mul", [x, graph.constant(f"{name}.keep", np.float32(1 - p))])
        case Dropout() | AdaptiveAvgPool():
            return x  # neither does anything at test, on images of the full size
        case other:
            raise UsageError(f"{name}: ONNX has no operator for {type(other).__name__}")


def _parameters(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.bias"


def _conv_attributes(conv: Conv, shape: LayerShape) -> dict[str, Any]:
    bottom, right = shape.extra_padding
    padding = conv.padding
    return {
        "pads": [padding, padding, padding + bottom, padding + right],
        "strides": [conv.stride, conv.stride],
        "group": conv.groups,
    }


def _add_pool(graph: GraphBuilder, pool: Pool, shape: LayerShape, x: str) -> str:
    """Add a pool, of which windows past the edge count what lies inside only."""
    bottom, right = (
        max(0, (out - 1) * pool.stride + pool.kernel_size - side)
        for out, side in zip(shape.out_shape[1:], shape.in_shape[1:], strict=True)
    )
    attributes: dict[str, Any] = {
        "kernel_shape": [pool.kernel_size, pool.kernel_size],
        "strides": [pool.stride, pool.stride],
        "pads": [0, 0, bottom, right],
    }
    if pool.mode == "max":
        return graph.add(pool.name, "MaxPool", [x], attributes)
    return graph.add(pool.name, "AveragePool", [x], attributes | {"count_include_pad": 0})


def _add_locally_connected(
    graph: GraphBuilder, local: LocallyConnected, shape: LayerShape, x: str
) -> str:
    """Add a product for each position: a convolution with unit kernels first copies its window.

    The weight becomes a row of inputs for each output, (rows columns channels, C k k).
    """
    name = local.name
    channels, rows, columns = shape.out_shape
    in_channels = shape.in_shape[0]
    size = local.kernel_size
    window = in_channels * size**2
    units = np.eye(size**2, dtype=np.float32).reshape(-1, 1, size, size)
    kernels = graph.constant(f"{name}.window", np.tile(units, (in_channels, 1, 1, 1)))
    attributes = {"pads": [local.padding] * 4, "group": in_channels}
    copied = graph.add(f"{name}.copied", "Conv", [x, kernels], attributes)
    weight, bias = _parameters(name)
    by_position = graph.constants[weight].transpose(1, 2, 0, 3, 4, 5)
    graph.constant(weight, by_position.reshape(-1, window))
    weights = _add_reshape(graph, f"{name}.weights", weight, (rows * columns, channels, window))
    flat = _add_reshape(graph, f"{name}.flat", copied, (-1, window, rows * columns))
    windows = graph.add(f"{name}.windows", "Transpose", [flat], {"perm": [2, 1, 0]})
    product = graph.add(f"{name}.product", "MatMul", [weights, windows])
    images = graph.add(f"{name}.images", "Transpose", [product], {"perm": [2, 1, 0]})
    maps = _add_reshape(graph, f"{name}.maps", images, (-1, *shape.out_shape))
    return graph.add(name, "Add", [maps, bias])


def _add_grouped_linear(graph: GraphBuilder, linear: Linear, shape: LayerShape, x: str) -> str:
    """Add a fully connected layer in groups: a convolution with groups of a single pixel."""
    name = linear.name
    weight, bias = _parameters(name)
    graph.constant(weight, graph.constants[weight][:, :, None, None])
    pixel = _add_reshape(graph, f"{name}.pixel", x, (-1, prod(shape.in_shape), 1, 1))
    attributes = {"group": linear.groups}
    product = graph.add(f"{name}.product", "Conv", [pixel, weight, bias], attributes)
    return graph.add(name, "Flatten", [product], {"axis": 1})


def _add_norm(
    graph: GraphBuilder, norm: LocalResponseNorm, shape: LayerShape, towers: int, x: str
) -> str:
    """Add ONNX's LRN, which divides alpha by n; within towers, of each tower as an image."""
    attributes = {
        "alpha": norm.alpha * norm.n,
        "beta": norm.beta,
        "bias": float(norm.k),
        "size": norm.n,
    }
    if towers == 1:
        return graph.add(norm.name, "LRN", [x], attributes)
    channels, height, width = shape.in_shape
    tower_shape = (-1, channels // towers, height, width)
    split = _add_reshape(graph, f"{norm.name}.towers", x, tower_shape)
    normed = graph.add(f"{norm.name}.normed", "LRN", [split], attributes)
    return _add_reshape(graph, norm.name, normed, (-1, *shape.in_shape))


def _add_plain_norm(
    graph: GraphBuilder, norm: LocalResponseNorm, shape: LayerShape, towers: int, x: str
) -> str:
    """Add the norm by arithmetic: k + alpha * (sum over channels) is a convolution of 1 x 1."""
    name = norm.name
    channels = shape.in_shape[0]
    index = np.arange(channels)
    tower = index // (channels // towers)
    near = np.abs(index[:, None] - index) <= norm.n // 2
    band = norm.alpha * (near & (tower[:, None] == tower))
    kernels = graph.constant(f"{name}.band", band.astype(np.float32)[:, :, None, None])
    k = graph.constant(f"{name}.k", np.full(channels, norm.k, np.float32))
    squares = graph.add(f"{name}.squares", "Mul", [x, x])
    base = graph.add(f"{name}.base", "Conv", [squares, kernels, k])
    return graph.add(name, "Div", [x, _add_power(graph, name, base, norm.beta)])


def _add_spatial_norm(graph: GraphBuilder, norm: SpatialResponseNorm, x: str) -> str:
    """Add the norm over pixels: their sum is an average over the whole window, times its size."""
    name = norm.name
    attributes = {
        "kernel_shape": [norm.n, norm.n],
        "pads": [norm.n // 2] * 4,
        "count_include_pad": 1,
    }
    squares = graph.add(f"{name}.squares", "Mul", [x, x])
    means = graph.add(f"{name}.means", "AveragePool", [squares], attributes)
    alpha = graph.constant(f"{name}.alpha", np.float32(norm.alpha * norm.n**2))
    scaled = graph.add(f"{name}.scaled", "Mul", [means, alpha])
    k = graph.constant(f"{name}.k", np.float32(norm.k))
    base = graph.add(f"{name}.base", "Add", [scaled, k])
    return graph.add(name, "Div", [x, _add_power(graph, name, base, norm.beta)])


def _add_power(graph: GraphBuilder, name: str, base: str, beta: float) -> str:
    """Add base ** beta; for the paper's 3/4 by two square roots, several times faster than Pow."""
    if beta != 0.75:
        exponent = graph.constant(f"{name}.beta", np.float32(beta))
        return graph.add(f"{name}.power", "Pow", [base, exponent])
    root = graph.add(f"{name}.root", "Sqrt", [base])
    fourth_root = graph.add(f"{name}.fourth_root", "Sqrt", [root])
    return graph.add(f"{name}.power", "Mul", [root, fourth_root])


def _add_reshape(graph: GraphBuilder, name: str, x: str, shape: tuple[int, ...]) -> str:
    target = graph.constant(f"{name}.shape", np.array(shape, np.int64))
    return graph.add(name, "Reshape", [x, target])
