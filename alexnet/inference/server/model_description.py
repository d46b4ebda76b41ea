"""What the service tells of a model: its input, its layers in order, where it comes from."""

from math import prod
from typing import Any

from alexnet.models.model_file import ModelInfo
from alexnet.models.shapes import (
    LayerShape,
    bias_shape,
    infer_shapes,
    module_names,
    weight_shape,
)
from alexnet.recipes.layers import (
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Layer,
    Linear,
    LocallyConnected,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
)

KINDS: dict[type, str] = {
    Conv: "conv",
    LocallyConnected: "local",
    Linear: "linear",
    LocalResponseNorm: "norm",
    SpatialResponseNorm: "norm",
    Pool: "pool",
    Dropout: "dropout",
    AdaptiveAvgPool: "avgpool",
}


def describe_model(name: str, info: ModelInfo) -> dict[str, Any]:
    """Return a model as JSON data: name, recipe, classes, input, record, crops, layers, origin."""
    shapes = infer_shapes(info.recipe.network, len(info.classes))
    names = module_names(shapes)
    return {
        "name": name,
        "recipe": info.recipe.name,
        "classes": list(info.classes),
        "input": list(info.recipe.network.input),
        "record": info.decode_config.size,
        "crops": info.recipe.augmentation.test_crops,
        "layers": [
            describe_layer(layer, shape) for layer, shape in zip(names, shapes, strict=True)
        ],
        "provenance": dict(info.provenance),
    }


def describe_layer(name: str, shape: LayerShape) -> dict[str, Any]:
    """Return a layer as JSON data: its name, kind, output's shape, parameters and description."""
    return {
        "name": name,
        "kind": layer_kind(shape.layer),
        "shape": list(shape.out_shape),
        "parameters": _size(weight_shape(shape)) + _size(bias_shape(shape)),
        "text": shape.layer.describe(),
    }


def layer_kind(layer: Layer) -> str:
    """Return the kind of a layer in a word: conv, norm, pool, relu, linear, ..."""
    return layer.function if isinstance(layer, Activation) else KINDS[type(layer)]


def _size(shape: tuple[int, ...]) -> int:
    """Return the number of values of a shape; none for ()."""
    return prod(shape) if shape else 0
