"""What a network costs, from its description alone: parameters and their memory in float32, neurons, multiply-adds.

`multiply_adds` are those of one picture's forward pass. `seed_operations` counts as the popular hand calculation does: kernel
elements plus one for the bias, per output; it is kept beside the true count because readers meet both.
"""

from dataclasses import dataclass
from math import prod

from alexnet.network.geometry import Planned, bias_shape, inputs_of_a_unit, plan, weight_shape
from alexnet.recipes.layers import Shape, Weighted
from alexnet.recipes.recipe import Network


@dataclass(frozen=True)
class Cost:
    """One layer: output shape (C, H, W), parameters, neurons (outputs of weighted layers), operations per picture."""

    name: str
    kind: str
    shape: Shape
    parameters: int
    neurons: int
    multiply_adds: int
    seed_operations: int


def costs(network: Network, classes: int) -> tuple[Cost, ...]:
    """The cost of every layer, in order; sums over them are the network's."""
    return tuple(_cost(step) for step in plan(network, classes))


def totals(layers: tuple[Cost, ...]) -> dict[str, int]:
    """The sums over all layers."""
    counted = ("parameters", "neurons", "multiply_adds", "seed_operations")
    sums = {name: sum(getattr(cost, name) for cost in layers) for name in counted}
    return sums | {"parameter_bytes": 4 * sums["parameters"]}


def _cost(step: Planned) -> Cost:
    layer, kind = step.layer, type(step.layer).__name__.lower()
    if not isinstance(layer, Weighted):
        return Cost(getattr(layer, "name", kind), kind, step.gives, 0, 0, 0, 0)
    outputs, inputs = prod(step.gives), inputs_of_a_unit(step)
    return Cost(
        layer.name,
        kind,
        step.gives,
        parameters=prod(weight_shape(step)) + prod(bias_shape(step)),
        neurons=outputs,
        multiply_adds=outputs * inputs,
        seed_operations=outputs * (inputs + 1),
    )
