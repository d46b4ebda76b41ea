"""What a network costs, from its specs alone: parameters, neurons and multiply-adds of an image.

`multiply_adds` are those of one image's forward pass. `parameter_positions` counts as the popular
hand calculation does: kernel elements plus one for the bias, per output; it is kept beside the true
count because readers meet both.
"""

from dataclasses import dataclass
from math import prod

from alexnet.models.shapes import (
    LayerShape,
    bias_shape,
    fan_in,
    infer_shapes,
    module_names,
    weight_shape,
)
from alexnet.recipes.layers import Shape, WeightedLayer
from alexnet.recipes.recipe import Network


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer, by its module's name; neurons are the outputs of weighted layers."""

    name: str
    kind: str
    shape: Shape
    parameters: int
    neurons: int
    multiply_adds: int
    parameter_positions: int


def layer_costs(network: Network, num_classes: int) -> tuple[LayerCost, ...]:
    """Return the cost of every layer, in order; sums over them are the network's."""
    shapes = infer_shapes(network, num_classes)
    names = module_names(shapes)
    return tuple(_cost(name, shape) for name, shape in zip(names, shapes, strict=True))


def totals(costs: tuple[LayerCost, ...]) -> dict[str, int]:
    """Return the sums over all layers, and the parameters' bytes in float32."""
    counted = ("parameters", "neurons", "multiply_adds", "parameter_positions")
    sums = {name: sum(getattr(cost, name) for cost in costs) for name in counted}
    return sums | {"parameter_bytes": 4 * sums["parameters"]}


def _cost(name: str, shape: LayerShape) -> LayerCost:
    kind = type(shape.layer).__name__.lower()
    if not isinstance(shape.layer, WeightedLayer):
        return LayerCost(name, kind, shape.out_shape, 0, 0, 0, 0)
    outputs = prod(shape.out_shape)
    return LayerCost(
        name,
        kind,
        shape.out_shape,
        parameters=prod(weight_shape(shape)) + prod(bias_shape(shape)),
        neurons=outputs,
        multiply_adds=outputs * fan_in(shape),
        parameter_positions=outputs * (fan_in(shape) + 1),
    )
