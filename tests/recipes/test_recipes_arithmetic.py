"""The arithmetic of every recipe: shapes and counts computed here, from `layer_costs`, and built.

The formulas are written a second time, as one would work them out on paper.
"""

from dataclasses import dataclass
from math import ceil, floor, prod

import pytest
import torch

from alexnet.models.alexnet import AlexNet
from alexnet.models.flops import layer_costs, totals
from alexnet.recipes.layers import Conv, Layer, Linear, LocallyConnected, Pool
from alexnet.recipes.presets import RECIPES, get_recipe
from alexnet.recipes.recipe import Network, Recipe

NUM_CLASSES = 1000
Shape = tuple[int, int, int]
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)


@dataclass(frozen=True)
class Expected:
    """What a layer should have: its output's shape and its counts."""

    layer: Layer
    shape: Shape
    parameters: int
    neurons: int
    multiply_adds: int
    parameter_positions: int  # the popular count, with the bias as one more operation

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return self.parameters, self.neurons, self.multiply_adds, self.parameter_positions


def windows(size: int, kernel_size: int, stride: int, ceil_mode: bool) -> int:
    """Return the number of windows along a side: one, and one more for every stride left.

    In ceil mode a part of a stride counts as well.
    """
    strides = (size - kernel_size) / stride
    return 1 + (ceil(strides) if ceil_mode else floor(strides))


def output_shape(layer: Layer, shape: Shape, network: Network) -> Shape:
    """Return (channels, height, width) after a layer."""
    channels, height, width = shape
    match layer:
        case Conv(kernel_size=kernel_size, stride=stride, padding=padding):
            ceil_mode = network.conv_ceil_mode
            rows = windows(height + 2 * padding, kernel_size, stride, ceil_mode)
            columns = windows(width + 2 * padding, kernel_size, stride, ceil_mode)
            return layer.out_channels, rows, columns
        case LocallyConnected(kernel_size=kernel_size, padding=padding):
            smaller = kernel_size - 1 - 2 * padding
            return layer.out_channels, height - smaller, width - smaller
        case Pool(kernel_size=kernel_size, stride=stride):
            ceil_mode = network.pool_ceil_mode
            rows = windows(height, kernel_size, stride, ceil_mode)
            columns = windows(width, kernel_size, stride, ceil_mode)
            return channels, rows, columns
        case Linear():
            return layer.out_features or NUM_CLASSES, 1, 1
    return shape


def expected_layer(layer: Layer, in_shape: Shape, out_shape: Shape) -> Expected:
    """Return the counts of a layer: kernels of `fan_in` weights and one bias each."""
    outputs = prod(out_shape)
    match layer:
        case Conv():
            fan_in = in_shape[0] // layer.groups * layer.kernel_size**2
            kernels = layer.out_channels
        case Linear():
            fan_in = prod(in_shape) // layer.groups
            kernels = outputs
        case LocallyConnected():
            fan_in = in_shape[0] * layer.kernel_size**2
            kernels = outputs  # one for each position
        case _:
            return Expected(layer, out_shape, 0, 0, 0, 0)
    return Expected(
        layer,
        out_shape,
        parameters=(fan_in + 1) * kernels,
        neurons=outputs,
        multiply_adds=fan_in * outputs,
        parameter_positions=(fan_in + 1) * outputs,
    )


def expected_layers(network: Network) -> list[Expected]:
    """Return the expected shape and counts of every layer."""
    layers = []
    shape = network.input
    for layer in network.layers:
        out_shape = output_shape(layer, shape, network)
        layers.append(expected_layer(layer, shape, out_shape))
        shape = out_shape
    return layers


@each_recipe
def test_costs_equal_those_computed_here(recipe: Recipe) -> None:
    costs = layer_costs(recipe.network, NUM_CLASSES)
    expected_costs = expected_layers(recipe.network)
    for cost, expected in zip(costs, expected_costs, strict=True):
        assert cost.shape == expected.shape, cost.name
        assert (
            cost.parameters,
            cost.neurons,
            cost.multiply_adds,
            cost.parameter_positions,
        ) == expected.counts, cost.name
    sums = totals(costs)
    columns = zip(*(expected.counts for expected in expected_costs), strict=True)
    names = ("parameters", "neurons", "multiply_adds", "parameter_positions")
    assert [sums[name] for name in names] == [sum(column) for column in columns]
    assert sums["parameter_bytes"] == 4 * sums["parameters"]


@each_recipe
def test_built_model_has_the_expected_shapes_and_parameters(recipe: Recipe) -> None:
    model = AlexNet(recipe.network, NUM_CLASSES).eval()
    expected_shapes: dict[str, tuple[int, ...]] = {}
    for expected in expected_layers(recipe.network):
        name = getattr(expected.layer, "name", "")
        is_linear = isinstance(expected.layer, Linear)
        if name:
            expected_shapes[name] = expected.shape[:1] if is_linear else expected.shape
    intermediates = model.forward_intermediates(torch.zeros(1, *recipe.network.input))
    shapes = {name: tuple(output.shape[1:]) for name, output in intermediates.items()}
    assert shapes == expected_shapes | {"prob": (NUM_CLASSES,)}
    for expected in expected_layers(recipe.network):
        built = 0
        if isinstance(expected.layer, Conv | LocallyConnected | Linear):
            parameters = model.get_submodule(expected.layer.name).parameters()
            built = sum(parameter.numel() for parameter in parameters)
        assert built == expected.parameters


@pytest.mark.parametrize("name", ["original", "paper", "caffe"])
def test_totals_of_the_networks_of_2012(name: str) -> None:
    costs = layer_costs(get_recipe(name).network, NUM_CLASSES)
    assert costs[0].multiply_adds == 105_415_200
    assert costs[0].parameter_positions == 105_705_600
    sums = totals(costs)
    assert sums["parameters"] == 60_965_224
    assert sums["neurons"] == 659_272
    assert sums["multiply_adds"] == 724_406_816


@pytest.mark.parametrize(
    ("name", "parameters"), [("owt", 61_100_840), ("caffenet", 60_965_224), ("single", 62_378_344)]
)
def test_published_parameter_counts_of_other_networks(name: str, parameters: int) -> None:
    costs = layer_costs(get_recipe(name).network, NUM_CLASSES)
    assert totals(costs)["parameters"] == parameters
