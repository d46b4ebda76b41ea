"""The arithmetic of every recipe: sizes and counts worked out here by hand's formulas, reported by `costs`, and really built."""

from math import ceil, floor, prod

import pytest
import torch

from alexnet.network.accounting import costs, totals
from alexnet.network.alexnet import AlexNet
from alexnet.recipes.layers import Conv, Full, Layer, Local, Pool
from alexnet.recipes.named import RECIPES, named
from alexnet.recipes.recipe import Network, Recipe

CLASSES = 1000
Shape = tuple[int, int, int]
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def shape_behind(layer: Layer, shape: Shape, network: Network) -> Shape:
    """(channels, height, width) behind a layer: a window more for every stride that fits, or is begun, past the first."""
    up = {"up": ceil, "down": floor}
    channels, *sides = shape
    if isinstance(layer, Conv):
        high, wide = (1 + up[network.round_conv]((side + 2 * layer.pad - layer.size) / layer.stride) for side in sides)
        return layer.maps, high, wide
    if isinstance(layer, Local):
        high, wide = (side + 2 * layer.pad - layer.size + 1 for side in sides)
        return layer.maps, high, wide
    if isinstance(layer, Pool):
        high, wide = (1 + up[network.round_pool]((side - layer.size) / layer.stride) for side in sides)
        return channels, high, wide
    return (layer.units or CLASSES, 1, 1) if isinstance(layer, Full) else shape


def counts(layer: Layer, takes: Shape, gives: Shape) -> tuple[int, int, int, int]:
    """Parameters, neurons, multiply-adds and the seeds' operations, which count a bias as one more, of a layer."""
    outputs = prod(gives)
    match layer:
        case Conv():
            kernel, kernels = takes[0] // layer.groups * layer.size**2, layer.maps
        case Full():
            kernel, kernels = prod(takes) // layer.groups, outputs
        case Local():
            kernel, kernels = takes[0] * layer.size**2, outputs  # one for each place
        case _:
            return 0, 0, 0, 0
    return (kernel + 1) * kernels, outputs, kernel * outputs, (kernel + 1) * outputs


def walked(network: Network) -> list[tuple[Layer, Shape, tuple[int, int, int, int]]]:
    """Every layer with the shape behind it and its counts."""
    found, shape = [], network.input
    for layer in network.layers:
        gives = shape_behind(layer, shape, network)
        found.append((layer, gives, counts(layer, shape, gives)))
        shape = gives
    return found


@each_recipe
def test_costs_are_those_worked_out_here(recipe: Recipe) -> None:
    found = costs(recipe.network, CLASSES)
    for cost, (_, shape, numbers) in zip(found, walked(recipe.network), strict=True):
        assert cost.shape == shape, cost.name
        assert (cost.parameters, cost.neurons, cost.multiply_adds, cost.seed_operations) == numbers, cost.name
    whole = totals(found)
    columns = zip(*(numbers for _, _, numbers in walked(recipe.network)), strict=True)
    assert [whole[name] for name in ("parameters", "neurons", "multiply_adds", "seed_operations")] == [sum(c) for c in columns]
    assert whole["parameter_bytes"] == 4 * whole["parameters"]


@each_recipe
def test_the_built_net_has_these_sizes(recipe: Recipe) -> None:
    net = AlexNet(recipe.network, CLASSES).eval()
    expected = {
        getattr(layer, "name", ""): shape[:1] if isinstance(layer, Full) else shape for layer, shape, _ in walked(recipe.network)
    }
    stations = net.stations(torch.zeros(1, *recipe.network.input))
    assert {name: tuple(x.shape[1:]) for name, x in stations.items()} == {
        name: shape for name, shape in expected.items() if name
    } | {"prob": (CLASSES,)}
    for layer, _, (parameters, *_) in walked(recipe.network):
        built = net.get_submodule(layer.name).parameters() if isinstance(layer, Conv | Local | Full) else []
        assert sum(parameter.numel() for parameter in built) == parameters


@pytest.mark.parametrize("name", ["original", "paper", "caffe"])
def test_the_totals_of_2012(name: str) -> None:
    layers = costs(named(name).network, CLASSES)
    assert (layers[0].multiply_adds, layers[0].seed_operations) == (105_415_200, 105_705_600)
    whole = totals(layers)
    assert (whole["parameters"], whole["neurons"], whole["multiply_adds"]) == (60_965_224, 659_272, 724_406_816)


@pytest.mark.parametrize(("name", "parameters"), [("owt", 61_100_840), ("caffenet", 60_965_224), ("single", 62_378_344)])
def test_the_published_parameters_of_other_nets(name: str, parameters: int) -> None:
    assert totals(costs(named(name).network, CLASSES))["parameters"] == parameters
