"""Neighbours as one operation - a norm with its relus and pool, a full layer with its fit - against the layers one by one."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.network import norm_kernels
from alexnet.network.alexnet import AlexNet, shrunk, start
from alexnet.network.blocks import Block, Fitted, joined
from alexnet.network.geometry import Planned, plan
from alexnet.network.response_norm import norm_across_maps, norm_over_space
from alexnet.recipes.layers import Fit, Norm
from alexnet.recipes.named import RECIPES, named
from tests.conftest import shrunk_layer

NEIGHBOURS = [  # relu before, pool (size, stride, rounding up), relu after
    (True, None, False),
    (False, None, True),
    (False, (3, 2, True), True),  # layer 1 of `original`
    (True, (3, 2, False), False),  # layers 1 and 2 of `paper`
    (True, (2, 2, True), True),
    (False, (4, 3, True), False),
]
SHAPES = [(2, 12, 9, 7), (1, 96, 8, 11), (3, 20, 5, 5)]


def gradients(x: Tensor, *how) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """The block's output, and the gradient in x of a fixed weighted sum of it."""
    towers, relu_before, pool, relu_after = how
    x = x.clone().requires_grad_()
    y = norm_across_maps(x, 5, 2.0, 0.3, 0.75, towers, relu_before=relu_before, pool=pool, relu_after=relu_after)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    (y * weights).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize(("relu_before", "pool", "relu_after"), NEIGHBOURS, ids=str)
def test_a_block_is_its_layers(each_form, shape, towers, relu_before, pool, relu_after) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    how = towers, relu_before, pool, relu_after
    for found, exact in zip(gradients(x, *how), gradients(x.double(), *how), strict=True):  # float64 takes the plain form
        assert (found - exact).norm() <= 1e-6 * exact.norm()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_lost(each_form: str, value: float) -> None:
    x = torch.ones(1, 8, 5, 5)
    x[0, 3, 2, 2] = value
    y = norm_across_maps(x, 5, 2.0, 0.3, 0.75, relu_before=True, pool=(3, 2, False), relu_after=True)
    assert y[0, 3].isnan().all()


def test_minus_infinity_is_nothing_behind_a_relu(each_form: str) -> None:
    x = torch.ones(1, 8, 1, 1)
    x[0, 3] = -float("inf")
    assert torch.equal(norm_across_maps(x, 5, 2.0, 0.3, 0.75, relu_before=True) == 0, x < 0)


def test_results_do_not_depend_on_the_number_of_threads(each_form: str) -> None:
    x, threads, found = torch.randn(3, 24, 13, 13), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(gradients(x, 2, True, (3, 2, False), False) + (norm_over_space(x, 5, 1.0, 0.1, 0.75),))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(found[0] + found[0], found[1] + found[2], strict=True))


def test_torch_knows_the_operations() -> None:
    x = torch.randn(2, 6, 5, 5, requires_grad=True)
    if not norm_kernels.takes(x, 5):
        pytest.skip("there is no C++ compiler here")
    torch.library.opcheck(norm_kernels.norm, (x, 5, 2.0, 0.1, 0.75, 2, True, 3, 2, False, False))
    torch.library.opcheck(norm_kernels.space, (x, 5, 2.0, 0.1, 0.75))
    net = start(AlexNet(replace(named("paper").network, layers=named("paper").network.layers[:4], input=(3, 67, 67)), 2), 0)
    pictures = torch.randn(2, 3, 67, 67)
    assert torch.equal(torch.compile(net.eval(), backend="eager", fullgraph=True)(pictures), net(pictures))
    exported = torch.export.export(net.eval(), (pictures,))
    assert any("alexnet.norm" in str(node.target) for node in exported.graph.nodes)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch.compile itself does
@pytest.mark.parametrize("norm", [norm_across_maps, norm_over_space], ids=lambda norm: norm.__name__)
def test_a_norm_is_one_graph_in_every_form(each_form: str, norm) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(2, 100, 7, 7, requires_grad=True)  # more maps than one product takes
    graph = torch.compile(partial(norm, n=5, k=2.0, alpha=0.1, beta=0.75), backend="aot_eager", fullgraph=True)
    exact = twice(partial(norm, n=5, k=2.0, alpha=0.1, beta=0.75), x)  # first: a graph takes the form that was last found
    torch.testing.assert_close(twice(graph, x), exact)


def twice(norm: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward, and the gradient of the sum."""
    y = norm(x)
    return y, torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_net_of_blocks_is_the_net_of_its_layers(recipe) -> None:  # type: ignore[no-untyped-def]
    side = min(recipe.network.input[1], 99)
    layers = tuple(shrunk_layer(layer) for layer in recipe.network.layers)
    net = start(AlexNet(replace(recipe.network, layers=layers, input=(recipe.network.input[0], side, side)), 7), seed=0).eval()
    x = torch.randn(2, recipe.network.input[0], side, side)
    with torch.no_grad():
        # the last station is prob
        torch.testing.assert_close(net(x), list(net.stations(x).values())[-2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("found", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (2, 5)], ids=str)
def test_shrunk_weights_see_what_stretched_maps_show(found: tuple[int, int]) -> None:
    maps, weight = torch.randn(3, 5, *found, dtype=torch.float64), torch.randn(7, 5 * 36, dtype=torch.float64)
    stretched = F.adaptive_avg_pool2d(maps, (6, 6)).flatten(1)
    torch.testing.assert_close(F.linear(maps.flatten(1), shrunk(weight, (5, 6, 6), found)), F.linear(stretched, weight))


def test_a_full_layer_is_joined_to_the_fit_before_it() -> None:
    for recipe in RECIPES:
        planned = plan(recipe.network, 10)
        assert [placed.place for placed in joined(planned) if isinstance(placed.does, Fitted)] == fits_of(planned)
    modern = plan(named("modern").network, 10)
    alone = joined(modern[: fits_of(modern)[0] + 1])  # a net cut behind its fit, as over two devices
    assert alone[-1].does == modern[fits_of(modern)[0]]


def fits_of(planned: tuple[Planned, ...]) -> list[int]:
    """The places of all fits."""
    return [step.place for step in planned if isinstance(step.layer, Fit)]


def test_every_norm_is_joined_to_what_stands_beside_it() -> None:
    found = {name: joined(plan(named(name).network, 10)) for name in ("original", "paper", "modern", "cifar-11pct")}
    around = {
        name: [
            (block.relu_before, block.pool is not None, block.relu_after)
            for block in (placed.does for placed in placed_all)
            if isinstance(block, Block)
        ]
        for name, placed_all in found.items()
    }
    assert around["original"] == [(False, True, True), (True, False, False)]  # in layer 2 the spatial norm stands between
    assert around["paper"] == [(True, True, False)] * 2
    assert around["modern"] == [(True, False, False)] * 2
    assert around["cifar-11pct"] == [(False, False, False), (True, True, False)]
    for name, placed_all in found.items():
        taken = [placed.place for placed in placed_all]
        assert taken == sorted(taken) and sum(isinstance(layer, Norm) for layer in named(name).network.layers) == len(
            around[name]
        )
