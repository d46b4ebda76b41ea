"""The shape of every layer's output, worked out before anything is built.

An image too small for the network is an error here, at build time, that names the smallest side
that fits, instead of a failure deep inside a layer. What a single layer gives is said by its spec.
"""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from alexnet.core.errors import UsageError, require
from alexnet.recipes.layers import Conv, Layer, Shape, WeightedLayer
from alexnet.recipes.recipe import Network

LARGEST_SIDE = 4096  # where the search for the smallest input that fits a network ends


@dataclass(frozen=True)
class LayerShape:
    """A layer with the shapes of its input and output (channels, height, width).

    `index`: its number in the whole network. `shard`: (which, of how many) equal parts of its
    outputs these are, where a network is partitioned among devices.
    """

    layer: Layer
    in_shape: Shape
    out_shape: Shape
    index: int = 0
    shard: tuple[int, int] = (0, 1)

    @property
    def name(self) -> str:
        """The layer's name; empty for those without one, as activations are."""
        return str(getattr(self.layer, "name", ""))

    @property
    def extra_padding(self) -> tuple[int, int]:
        """Zeros needed past the bottom and the right edge by a convolution that rounds up."""
        if not isinstance(self.layer, Conv):
            return 0, 0
        return self.layer.extra_padding(self.in_shape, self.out_shape)


def infer_shapes(network: Network, num_classes: int) -> tuple[LayerShape, ...]:
    """Return every layer's shapes; UsageError where a side vanishes or groups do not divide."""
    require_num_classes(num_classes)
    shapes = _shapes_or_none(network, num_classes)
    if shapes is not None:
        return shapes
    channels, height, width = network.input
    for side in range(1, LARGEST_SIDE + 1):
        if _shapes_or_none(replace(network, input=(channels, side, side)), num_classes):
            raise UsageError(
                f"input {height}x{width} is too small for this network; "
                f"the smallest it can see is {side}x{side}"
            )
    raise UsageError(
        f"input {channels}x{height}x{width}: no side up to {LARGEST_SIDE} fits this network; "
        "expected smaller kernels, and 1 or more outputs of every layer"
    )


def require_num_classes(num_classes: Any) -> None:
    """UsageError unless a number of classes is a whole number, 1 or more."""
    is_integer = isinstance(num_classes, Integral) and not isinstance(num_classes, bool)
    require(
        is_integer and num_classes >= 1,
        f"num_classes={num_classes!r}: expected a whole number, 1 or more",
    )


def module_names(shapes: tuple[LayerShape, ...]) -> tuple[str, ...]:
    """Return what each layer's module is called: its own name, or relu6 and drop6 after fc6."""
    names: list[str] = []
    block = ""
    for shape in shapes:
        if isinstance(shape.layer, WeightedLayer):
            block = shape.name.lstrip("abcdefghijklmnopqrstuvwxyz")
        name = shape.layer.module_name(block)
        names.append(name if name not in names else f"{name}_{names.count(name) + 1}")
    return tuple(names)


def weight_shape(shape: LayerShape) -> tuple[int, ...]:
    """Return the shape of a layer's weight; () without parameters."""
    return shape.layer.weight_shape(shape.in_shape, shape.out_shape)


def bias_shape(shape: LayerShape) -> tuple[int, ...]:
    """Return the shape of a layer's bias; () without parameters."""
    return shape.layer.bias_shape(shape.out_shape)


def fan_in(shape: LayerShape) -> int:
    """Return how many values each output of a weighted layer is computed from."""
    return shape.layer.fan_in(shape.in_shape)


def _shapes_or_none(network: Network, num_classes: int) -> tuple[LayerShape, ...] | None:
    """Return the shapes; None where the input is too small."""
    shapes: list[LayerShape] = []
    in_shape = network.input
    for index, layer in enumerate(network.layers):
        out_shape = layer.out_shape(in_shape, network, num_classes)
        if min(out_shape) < 1:
            return None
        shapes.append(LayerShape(layer, in_shape, out_shape, index))
        in_shape = out_shape
    return tuple(shapes)
