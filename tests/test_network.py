"""The network against numbers worked out here, and its layers against plain definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alexnet import create
from alexnet.errors import UsageError
from alexnet.network.accounting import costs, totals
from alexnet.network.alexnet import AlexNet, adopt, drop, start
from alexnet.network.geometry import plan
from alexnet.recipes.layers import Activation, Conv, Dropout, Full, Local, Pool
from alexnet.recipes.named import MODERN, ORIGINAL, PAPER, RECIPES, named
from alexnet.recipes.recipe import Network
from tests.conftest import shrunk_layer, tiny

# kernel elements per output, bias, outputs: the paper's layers (section 3.5, figure 2)
LAYERS = {
    "conv1": (11 * 11 * 3, 96, 55 * 55),
    "conv2": (5 * 5 * 48, 256, 27 * 27),
    "conv3": (3 * 3 * 256, 384, 13 * 13),
    "conv4": (3 * 3 * 192, 384, 13 * 13),
    "conv5": (3 * 3 * 192, 256, 13 * 13),
    "fc6": (6 * 6 * 256, 4096, 1),
    "fc7": (4096, 4096, 1),
    "fc8": (4096, 1000, 1),
}


@pytest.mark.parametrize("recipe", [ORIGINAL, PAPER, MODERN], ids=lambda recipe: recipe.name)
def test_the_arithmetic_of_the_paper(recipe) -> None:  # type: ignore[no-untyped-def]
    found = {cost.name: cost for cost in costs(recipe.network, 1000) if cost.parameters}
    assert list(found) == list(LAYERS)
    for name, (kernel, maps, places) in LAYERS.items():
        assert found[name].parameters == (kernel + 1) * maps
        assert found[name].neurons == maps * places
        assert found[name].multiply_adds == kernel * maps * places
        assert found[name].seed_operations == (kernel + 1) * maps * places
    whole = totals(costs(recipe.network, 1000))
    assert (whole["parameters"], whole["neurons"], whole["multiply_adds"]) == (60_965_224, 659_272, 724_406_816)


def test_every_recipe_of_the_design_is_there() -> None:
    of_2012 = "original original-2012 original-dexp paper no-norm no-overlap half separate six single single-prenorm pool-norm"
    others = "modern caffe caffenet owt fashion cifar-18pct cifar-11pct figure1 figure1-tanh figure1-sigmoid"
    assert {recipe.name for recipe in RECIPES} == {*of_2012.split(), *others.split()}


@pytest.mark.parametrize("function", ["relu", "tanh", "sigmoid"])
def test_an_activation_is_a_value(function) -> None:  # type: ignore[no-untyped-def]
    net = AlexNet(Network((2, 3, 3), (Activation(function), Full("fc8", 0, std=1.0))), 18)
    with torch.no_grad():
        net.get_parameter("fc8.weight").copy_(torch.eye(18))
        net.get_parameter("fc8.bias").zero_()
    x = torch.randn(2, 2, 3, 3)
    torch.testing.assert_close(net.eval()(x), getattr(torch, function)(x).flatten(1))


def test_a_local_layer_with_the_same_kernel_everywhere_is_a_convolution() -> None:
    local = start(AlexNet(Network((3, 5, 5), (Local("local3", 4, 3, pad=1, std=1.0),)), 2), seed=0).double()
    weight = local.get_parameter("local3.weight")
    with torch.no_grad():
        weight.copy_(weight[:, 2:3, 2:3].expand_as(weight).clone())
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(local(x), F.conv2d(x, weight[:, 0, 0], padding=1))


def test_full_groups_see_their_own_share() -> None:
    grouped = start(AlexNet(Network((4, 2, 2), (Full("fc6", 6, groups=2, std=1.0, bias=1),)), 2), seed=0).double()
    x, p = torch.randn(3, 4, 2, 2, dtype=torch.float64), dict(grouped.named_parameters())
    halves = [h.flatten(1) @ w.T for h, w in zip(x.chunk(2, 1), p["fc6.weight"].chunk(2), strict=True)]
    torch.testing.assert_close(grouped(x), torch.cat(halves, 1) + 1)


def test_mean_pooling_rounding_up_divides_by_what_is_inside() -> None:
    net = AlexNet(Network((1, 4, 4), (Pool("pool1", 3, stride=2, takes="mean"),), round_pool="up"), 2)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    expected = [[x[0, 0, r : r + 3, c : c + 3].mean().item() for c in (0, 2)] for r in (0, 2)]
    assert net(x)[0, 0].tolist() == expected


def test_rounding_is_a_value() -> None:
    assert plan(ORIGINAL.network, 10)[0].gives == (96, 55, 55) and plan(ORIGINAL.network, 10)[0].overhang == (3, 3)
    down = replace(ORIGINAL.network, round_conv="down", round_pool="down")
    assert plan(down, 10)[0].gives == (96, 54, 54) and plan(down, 10)[0].overhang == (0, 0)


def test_a_picture_too_small_is_an_error_that_names_the_smallest() -> None:
    with pytest.raises(UsageError, match="32x32 is too small.*67x67"):
        plan(replace(PAPER.network, input=(3, 32, 32)), 10)
    assert plan(replace(PAPER.network, input=(3, 67, 67)), 10)


def test_groups_must_divide() -> None:
    with pytest.raises(UsageError, match="conv1: 3 -> 95 maps cannot be cut into 2 groups"):
        odd = Conv("conv1", 95, 11, groups=2)
        plan(replace(PAPER.network, layers=(odd, *PAPER.network.layers[1:])), 10)


def test_original_equals_torch_layer_by_layer() -> None:
    """The walk along the description against the same net written out with torch's own functions, in float64."""
    recipe = tiny(ORIGINAL)
    net = start(AlexNet(replace(recipe.network, input=(3, 97, 97)), 7), seed=3).double().eval()
    x = torch.randn(2, 3, 97, 97, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 60
    p = dict(net.named_parameters())

    def conv(name: str, h: torch.Tensor, **how: int) -> torch.Tensor:
        return F.conv2d(h, p[f"{name}.weight"], p[f"{name}.bias"], **how)

    def halves(h: torch.Tensor) -> torch.Tensor:  # torch divides alpha by n, as the program does
        return torch.cat([F.local_response_norm(half, 5, alpha=1e-4, beta=0.75, k=2) for half in h.chunk(2, 1)], 1)

    def over_space(h: torch.Tensor) -> torch.Tensor:
        return h * (1 + 1e-3 * F.avg_pool2d(h**2, 5, 1, 2)) ** -0.75

    h = conv("conv1", F.pad(x, (0, 2, 0, 2)), stride=4)
    h = F.relu(F.max_pool2d(halves(h), 3, 2))
    h = F.max_pool2d(over_space(halves(F.relu(conv("conv2", h, padding=2, groups=2)))), 3, 2)
    h = F.relu(conv("conv3", h, padding=1))
    h = F.relu(conv("conv4", h, padding=1, groups=2))
    h = F.relu(F.max_pool2d(conv("conv5", h, padding=1, groups=2), 3, 2)).flatten(1)
    for name in ("fc6", "fc7"):
        h = F.relu(F.linear(h, p[f"{name}.weight"], p[f"{name}.bias"])) * 0.5
    expected = F.linear(h, p["fc8.weight"], p["fc8.bias"])
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)
    stations = net.stations(x)
    torch.testing.assert_close(stations["fc7"], h, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stations["fc8"], expected, rtol=1e-12, atol=1e-12)
    assert [name for name in stations if name[:4] in ("conv", "pool", "norm")] == (
        ["conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool3"]
    )


def test_a_fit_changes_nothing_at_the_planned_size_and_lets_smaller_views_in() -> None:
    net = start(AlexNet(replace(tiny(MODERN).network, input=(3, 131, 131)), 7), seed=0).eval()
    assert net(torch.randn(2, 3, 67, 67)).shape == net(torch.randn(2, 3, 131, 131)).shape == (2, 7)


@pytest.mark.parametrize("rescale", ["test", "train"])
def test_dropout_is_a_function_of_picture_layer_and_unit(rescale) -> None:  # type: ignore[no-untyped-def]
    x, keys = torch.ones(64, 4096), torch.randint(-(2**31), 2**31, (64,), dtype=torch.int32)
    dropped = drop(x, Dropout(0.3, rescale), keys, layer=5)
    assert torch.equal(dropped[10:20], drop(x[10:20], Dropout(0.3, rescale), keys[10:20], layer=5))
    assert not torch.equal(dropped, drop(x, Dropout(0.3, rescale), keys, layer=6))
    share = (dropped == 0).float()
    assert abs(share.mean() - 0.3) < 0.005 and abs(share.mean(1) - 0.3).max() < 0.05
    correlation = np.corrcoef(share.numpy()) - np.eye(64)
    assert abs(correlation).max() < 0.1
    assert dropped.max() == pytest.approx(1.0 if rescale == "test" else 1 / 0.7)


def test_dropout_before_the_first_full_layer_draws_for_every_unit_of_every_map() -> None:
    keys = torch.arange(5, dtype=torch.int32)
    maps = drop(torch.ones(5, 8, 3, 3), Dropout(0.5), keys, layer=2)
    assert torch.equal(maps.flatten(1), drop(torch.ones(5, 72), Dropout(0.5), keys, layer=2))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_net_can_take_a_step_of_training(recipe) -> None:  # type: ignore[no-untyped-def]
    side = min(recipe.network.input[1], 99)
    shape = replace(recipe.network, layers=tuple(shrunk_layer(layer) for layer in recipe.network.layers))
    net = start(AlexNet(replace(shape, input=(shape.input[0], side, side)), 7), seed=0).train()
    x = torch.randn(3, shape.input[0], side, side)
    F.cross_entropy(net(x, torch.arange(3, dtype=torch.int32)), torch.tensor([0, 1, 6])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_start_follows_the_description_and_the_seed() -> None:
    net = create("original", classes=10, seed=0)
    for name, std, bias in (("conv1", 0.01, 0), ("conv3", 0.03, 0), ("conv5", 0.03, 1), ("fc6", 0.01, 1), ("fc8", 0.01, 0)):
        assert net.get_parameter(f"{name}.weight").detach().std().item() == pytest.approx(std, rel=0.02)
        assert net.get_parameter(f"{name}.bias").unique().tolist() == [bias]
    again = create("original", classes=10, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert not torch.equal(net.get_parameter("fc8.weight"), create("original", 10, seed=1).get_parameter("fc8.weight"))


def test_a_kaiming_start_keeps_the_scale_of_activations() -> None:
    net = create("modern", classes=10, seed=0).eval()
    stations = net.stations(torch.randn(8, 3, 227, 227))
    assert 0.3 < float(stations["fc7"].pow(2).mean().sqrt()) < 3


def test_training_without_keys_draws_them() -> None:
    net = start(AlexNet(Network((3, 4, 4), (Full("fc6", 64), Dropout(0.5), Full("fc8", 0))), 5), seed=0).train()
    torch.manual_seed(0)
    x = torch.randn(4, 3, 4, 4)
    assert not torch.equal(net(x), net(x))


def test_layers_are_adopted_and_the_head_is_new() -> None:
    shape = tiny(ORIGINAL).network
    other, net = start(AlexNet(shape, 9), seed=1), start(AlexNet(shape, 7), seed=2)
    head = net.get_parameter("fc8.weight").clone()
    adopt(net, other)
    assert torch.equal(net.get_parameter("conv1.weight"), other.get_parameter("conv1.weight"))
    assert torch.equal(net.get_parameter("fc8.weight"), head)
    with pytest.raises(UsageError, match="--init: conv1.weight is"):
        adopt(net, start(AlexNet(tiny(named("half")).network, 7), seed=0))


@pytest.mark.parametrize("recipe", [ORIGINAL, MODERN, named("separate")], ids=lambda recipe: recipe.name)
def test_full_layers_are_convolutions(recipe) -> None:  # type: ignore[no-untyped-def]
    net = start(AlexNet(tiny(recipe).network, 7), seed=1).double().eval()
    x = torch.randn(2, 3, 131, 131, dtype=torch.float64)
    found = net.dense(x)
    assert found.shape == (2, 7, 2, 2)
    torch.testing.assert_close(net.dense(x[:, :, :99, :99])[:, :, 0, 0], net(x[:, :, :99, :99]), rtol=1e-12, atol=1e-12)
