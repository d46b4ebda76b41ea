"""A network as Caffe's layers: what a deploy.prototxt lists, and what a .caffemodel has weights of.

Caffe's pooling always rounds up, its convolutions always round down and pad all sides alike, its
fully connected layers have no groups, and it has no layer of unshared weights. What it cannot
express is refused. A norm within towers is written as a slice, a norm for each tower and a
concatenation; dropout that is made up for at test, and a scaled input, as a `Power` layer. LRN's
alpha is divided by the size of its window in Caffe.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from alexnet.core.errors import UsageError, require
from alexnet.models.shapes import LayerShape, infer_shapes, module_names
from alexnet.recipes.layers import (
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Linear,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
    output_size,
)
from alexnet.recipes.recipe import Network

ACTIVATIONS = {"relu": "ReLU", "tanh": "TanH", "sigmoid": "Sigmoid"}
DATA = "data"
PROBABILITIES = "prob"


@dataclass(frozen=True)
class EnumValue:
    """A value that a prototxt writes without quotes."""

    name: str


@dataclass(frozen=True)
class CaffeLayer:
    """A layer of a deploy net: its blobs by name, and its parameters as nested fields."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)


def caffe_layers(network: Network, num_classes: int, scale: float) -> list[CaffeLayer]:
    """Return a network's layers, from pixels less their mean (B, G, R) to probabilities.

    `scale` multiplies the input. UsageError for a layer that Caffe does not have.
    """
    channels, height, width = network.input
    first = network.layers[0]
    require(
        channels == 1 or (isinstance(first, Conv) and first.groups == 1),
        "Caffe's colors are in the order B, G, R, for which the first layer's weights are "
        "reordered: expected a convolution without groups; export this network in another format",
    )
    shape = {"dim": [1, channels, height, width]}
    layers = [CaffeLayer(DATA, "Input", (), (DATA,), {"input_param": {"shape": shape}})]
    bottom = DATA
    if scale != 1:
        layers.append(_power("scale", bottom, "scaled", scale))
        bottom = "scaled"
    shapes = infer_shapes(network, num_classes)
    for name, step in zip(module_names(shapes), shapes, strict=True):
        for layer in _layers_of(name, step, bottom, network):
            layers.append(layer)
            bottom = layer.tops[0]
    layers.append(CaffeLayer(PROBABILITIES, "Softmax", (bottom,), (PROBABILITIES,)))
    return layers


def _layers_of(name: str, step: LayerShape, bottom: str, network: Network) -> Iterator[CaffeLayer]:
    """Yield the layers that a layer of ours becomes: mostly one."""
    match step.layer:
        case Conv():
            yield _convolution(name, step, bottom)
        case Pool():
            yield _pooling(name, step, bottom)
        case Linear(groups=1):
            params = {"num_output": step.out_shape[0]}
            yield CaffeLayer(
                name, "InnerProduct", (bottom,), (name,), {"inner_product_param": params}
            )
        case LocalResponseNorm(scope="tower") if network.towers > 1:
            yield from _norm_by_tower(name, step.layer, bottom, network.towers)
        case LocalResponseNorm():
            yield _norm(name, step.layer, bottom, name)
        case SpatialResponseNorm(k=1):
            yield _spatial_norm(name, step.layer, bottom)
        case Activation(function=function):
            yield CaffeLayer(name, ACTIVATIONS[function], (bottom,), (bottom,))
        case Dropout(p=p, rescale="test"):
            yield _power(name, bottom, bottom, 1 - p)
        case Dropout(p=p):
            ratio = {"dropout_ratio": p}
            yield CaffeLayer(name, "Dropout", (bottom,), (bottom,), {"dropout_param": ratio})
        case AdaptiveAvgPool():  # the maps of the network's own input have that size already
            return
        case layer:
            raise UsageError(
                f"{name}: Caffe has no {layer.describe()}; export this network in another format"
            )


def _convolution(name: str, step: LayerShape, bottom: str) -> CaffeLayer:
    layer = step.layer
    assert isinstance(layer, Conv)
    if any(step.extra_padding):
        raise UsageError(
            f"{name}: this network's convolution rounds up, with zeros past the right and bottom "
            "edge only; Caffe's rounds down: export it in another format"
        )
    params = {
        "num_output": layer.out_channels,
        "pad": layer.padding,
        "kernel_size": layer.kernel_size,
        "group": layer.groups,
        "stride": layer.stride,
    }
    return CaffeLayer(name, "Convolution", (bottom,), (name,), {"convolution_param": params})


def _pooling(name: str, step: LayerShape, bottom: str) -> CaffeLayer:
    layer = step.layer
    assert isinstance(layer, Pool)
    sides = [
        output_size(side, layer.kernel_size, layer.stride, ceil_mode=True)
        for side in step.in_shape[1:]
    ]
    if sides != list(step.out_shape[1:]):
        raise UsageError(
            f"{name}: this network's pooling rounds {step.in_shape[1]} pixels down to "
            f"{step.out_shape[1]}, Caffe's up to {sides[0]}; export it in another format"
        )
    params = {
        "pool": EnumValue("MAX" if layer.mode == "max" else "AVE"),
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
    }
    return CaffeLayer(name, "Pooling", (bottom,), (name,), {"pooling_param": params})


def _norm_by_tower(
    name: str, norm: LocalResponseNorm, bottom: str, towers: int
) -> Iterator[CaffeLayer]:
    """Yield a slice, a norm for each tower, and what puts them together again."""
    parts = tuple(f"{name}_tower{tower}" for tower in range(towers))
    inputs = tuple(f"{part}_in" for part in parts)
    yield CaffeLayer(f"{name}_slice", "Slice", (bottom,), inputs, {"slice_param": {"axis": 1}})
    for part, top in zip(inputs, parts, strict=True):
        yield _norm(top, norm, part, top)
    yield CaffeLayer(name, "Concat", parts, (name,), {"concat_param": {"axis": 1}})


def _norm(name: str, norm: LocalResponseNorm, bottom: str, top: str) -> CaffeLayer:
    params = {
        "local_size": norm.n,
        "alpha": norm.alpha * norm.n,
        "beta": norm.beta,
        "k": norm.k,
    }
    return CaffeLayer(name, "LRN", (bottom,), (top,), {"lrn_param": params})


def _spatial_norm(name: str, norm: SpatialResponseNorm, bottom: str) -> CaffeLayer:
    params = {
        "local_size": norm.n,
        "alpha": norm.alpha * norm.n**2,
        "beta": norm.beta,
        "norm_region": EnumValue("WITHIN_CHANNEL"),
    }
    return CaffeLayer(name, "LRN", (bottom,), (name,), {"lrn_param": params})


def _power(name: str, bottom: str, top: str, scale: float) -> CaffeLayer:
    return CaffeLayer(name, "Power", (bottom,), (top,), {"power_param": {"scale": scale}})


# ---- as text


def to_prototxt(name: str, layers: list[CaffeLayer]) -> str:
    """Return a deploy.prototxt: a NetParameter in protobuf's text format."""
    lines = [f"name: {_scalar(name)}"]
    for layer in layers:
        fields: dict[str, Any] = {"name": layer.name, "type": layer.type}
        fields |= {"bottom": list(layer.bottoms), "top": list(layer.tops), **layer.params}
        lines += ["layer {", *(f"  {line}" for line in _field_lines(fields)), "}"]
    return "\n".join(lines) + "\n"


def _field_lines(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                yield f"{name} {{"
                yield from (f"  {line}" for line in _field_lines(each))
                yield "}"
            else:
                yield f"{name}: {_scalar(each)}"


def _scalar(value: Any) -> str:
    """Return a value as protobuf's text format has it; its escapes of texts are also JSON's."""
    return value.name if isinstance(value, EnumValue) else json.dumps(value, ensure_ascii=False)
