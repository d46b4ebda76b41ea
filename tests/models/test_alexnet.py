"""The network against numbers worked out here, and its layers against plain definitions."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet import create_model
from alexnet.core.errors import UsageError
from alexnet.models.alexnet import AlexNet, init_weights, load_matching
from alexnet.models.flops import layer_costs, totals
from alexnet.models.layers import dropout_train
from alexnet.models.shapes import infer_shapes
from alexnet.recipes.layers import Activation, Conv, Dropout, Linear, LocallyConnected, Pool
from alexnet.recipes.presets import MODERN, ORIGINAL, PAPER, RECIPES, get_recipe
from alexnet.recipes.recipe import Network, Recipe
from tests.conftest import shrunk_layer, tiny

# weights per output, channels, positions: the paper's layers (section 3.5, figure 2)
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
NETWORKS_OF_2012 = (
    "original original-2012 original-dexp paper no-norm no-overlap half separate six single "
    "single-prenorm pool-norm"
)
OTHER_NETWORKS = (
    "modern caffe caffenet owt fashion cifar-18pct cifar-11pct figure1 figure1-tanh figure1-sigmoid"
)


@pytest.mark.parametrize("recipe", [ORIGINAL, PAPER, MODERN], ids=lambda recipe: recipe.name)
def test_costs_are_those_of_the_paper(recipe: Recipe) -> None:
    layers = layer_costs(recipe.network, 1000)
    weighted = {cost.name: cost for cost in layers if cost.parameters}
    assert list(weighted) == list(LAYERS)
    for name, (fan_in, channels, positions) in LAYERS.items():
        assert weighted[name].parameters == (fan_in + 1) * channels
        assert weighted[name].neurons == channels * positions
        assert weighted[name].multiply_adds == fan_in * channels * positions
        assert weighted[name].parameter_positions == (fan_in + 1) * channels * positions
    sums = totals(layers)
    assert sums["parameters"] == 60_965_224
    assert sums["neurons"] == 659_272
    assert sums["multiply_adds"] == 724_406_816


def test_all_recipes_exist() -> None:
    expected = {*NETWORKS_OF_2012.split(), *OTHER_NETWORKS.split()}
    assert {recipe.name for recipe in RECIPES.values()} == expected


@pytest.mark.parametrize("function", ["relu", "tanh", "sigmoid"])
def test_activation_function_is_set_in_the_spec(
    function: Literal["relu", "tanh", "sigmoid"],
) -> None:
    layers = (Activation(function), Linear("fc8", 0, init_std=1.0))
    model = AlexNet(Network((2, 3, 3), layers), 18)
    with torch.no_grad():
        model.get_parameter("fc8.weight").copy_(torch.eye(18))
        model.get_parameter("fc8.bias").zero_()
    x = torch.randn(2, 2, 3, 3)
    torch.testing.assert_close(model.eval()(x), getattr(torch, function)(x).flatten(1))


def test_locally_connected_layer_with_equal_kernels_is_a_convolution() -> None:
    layer = LocallyConnected("local3", 4, 3, padding=1, init_std=1.0)
    model = init_weights(AlexNet(Network((3, 5, 5), (layer,)), 2), seed=0).double()
    weight = model.get_parameter("local3.weight")
    with torch.no_grad():
        weight.copy_(weight[:, 2:3, 2:3].expand_as(weight).clone())
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(model(x), F.conv2d(x, weight[:, 0, 0], padding=1))


def test_groups_of_a_linear_layer_read_their_own_inputs() -> None:
    layer = Linear("fc6", 6, groups=2, init_std=1.0, init_bias=1)
    model = init_weights(AlexNet(Network((4, 2, 2), (layer,)), 2), seed=0).double()
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    inputs = x.chunk(2, 1)
    weights = model.get_parameter("fc6.weight").chunk(2)
    outputs = [part.flatten(1) @ w.T for part, w in zip(inputs, weights, strict=True)]
    torch.testing.assert_close(model(x), torch.cat(outputs, 1) + 1)


def test_average_pooling_in_ceil_mode_divides_by_the_values_inside() -> None:
    layer = Pool("pool1", 3, stride=2, mode="avg")
    model = AlexNet(Network((1, 4, 4), (layer,), pool_ceil_mode=True), 2)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    expected = [[x[0, 0, r : r + 3, c : c + 3].mean().item() for c in (0, 2)] for r in (0, 2)]
    assert model(x)[0, 0].tolist() == expected


def test_ceil_mode_changes_the_shapes() -> None:
    up = infer_shapes(ORIGINAL.network, 10)[0]
    assert up.out_shape == (96, 55, 55)
    assert up.extra_padding == (3, 3)
    network = replace(ORIGINAL.network, conv_ceil_mode=False, pool_ceil_mode=False)
    down = infer_shapes(network, 10)[0]
    assert down.out_shape == (96, 54, 54)
    assert down.extra_padding == (0, 0)


def test_too_small_input_is_an_error_with_the_smallest_size() -> None:
    with pytest.raises(UsageError, match="32x32 is too small.*67x67"):
        infer_shapes(replace(PAPER.network, input=(3, 32, 32)), 10)
    assert infer_shapes(replace(PAPER.network, input=(3, 67, 67)), 10)


def test_groups_must_divide_the_channels() -> None:
    odd = Conv("conv1", 95, 11, groups=2)
    network = replace(PAPER.network, layers=(odd, *PAPER.network.layers[1:]))
    with pytest.raises(UsageError, match="conv1: 3 -> 95 channels cannot be split into 2 groups"):
        infer_shapes(network, 10)


def original_in_torch(parameters: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return fc7 (after relu and dropout) and fc8 of `original`, written with torch's functions."""

    def conv(name: str, h: Tensor, **settings: int) -> Tensor:
        return F.conv2d(h, parameters[f"{name}.weight"], parameters[f"{name}.bias"], **settings)

    def linear(name: str, h: Tensor) -> Tensor:
        return F.linear(h, parameters[f"{name}.weight"], parameters[f"{name}.bias"])

    def norm(h: Tensor) -> Tensor:  # torch divides alpha by n, as the 2012 program does
        towers = [F.local_response_norm(t, 5, alpha=1e-4, beta=0.75, k=2) for t in h.chunk(2, 1)]
        return torch.cat(towers, 1)

    def spatial_norm(h: Tensor) -> Tensor:
        return h * (1 + 1e-3 * F.avg_pool2d(h**2, 5, 1, 2)) ** -0.75

    h = conv("conv1", F.pad(x, (0, 2, 0, 2)), stride=4)
    h = F.relu(F.max_pool2d(norm(h), 3, 2))
    h = F.relu(conv("conv2", h, padding=2, groups=2))
    h = F.max_pool2d(spatial_norm(norm(h)), 3, 2)
    h = F.relu(conv("conv3", h, padding=1))
    h = F.relu(conv("conv4", h, padding=1, groups=2))
    h = F.relu(F.max_pool2d(conv("conv5", h, padding=1, groups=2), 3, 2)).flatten(1)
    for name in ("fc6", "fc7"):
        h = F.relu(linear(name, h)) * 0.5
    return h, linear("fc8", h)


def test_original_equals_torch_functions_in_float64() -> None:
    network = replace(tiny(ORIGINAL).network, input=(3, 97, 97))
    model = init_weights(AlexNet(network, 7), seed=3).double().eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 97, 97, dtype=torch.float64, generator=generator) * 60
    fc7, fc8 = original_in_torch(dict(model.named_parameters()), x)
    torch.testing.assert_close(model(x), fc8, rtol=1e-12, atol=1e-12)
    intermediates = model.forward_intermediates(x)
    torch.testing.assert_close(intermediates["fc7"], fc7, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(intermediates["fc8"], fc8, rtol=1e-12, atol=1e-12)
    assert [name for name in intermediates if name[:4] in ("conv", "pool", "norm")] == (
        "conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool3".split()
    )


def test_adaptive_pooling_accepts_smaller_crops() -> None:
    network = replace(tiny(MODERN).network, input=(3, 131, 131))
    model = init_weights(AlexNet(network, 7), seed=0).eval()
    assert model(torch.randn(2, 3, 67, 67)).shape == (2, 7)
    assert model(torch.randn(2, 3, 131, 131)).shape == (2, 7)


@pytest.mark.parametrize("rescale", ["test", "train"])
def test_dropout_is_a_function_of_image_layer_and_unit(rescale: Literal["test", "train"]) -> None:
    x = torch.ones(64, 4096)
    keys = torch.randint(-(2**31), 2**31, (64,), dtype=torch.int32)
    dropped = dropout_train(x, keys, 0.3, rescale, index=5)
    assert torch.equal(dropped[10:20], dropout_train(x[10:20], keys[10:20], 0.3, rescale, index=5))
    assert not torch.equal(dropped, dropout_train(x, keys, 0.3, rescale, index=6))
    zeros = (dropped == 0).float()
    assert abs(zeros.mean() - 0.3) < 0.005
    assert abs(zeros.mean(1) - 0.3).max() < 0.05
    correlation = np.corrcoef(zeros.numpy()) - np.eye(64)
    assert abs(correlation).max() < 0.1
    assert dropped.max() == pytest.approx(1.0 if rescale == "test" else 1 / 0.7)


def test_dropout_of_feature_maps_is_that_of_the_flattened_units() -> None:
    keys = torch.arange(5, dtype=torch.int32)
    maps = dropout_train(torch.ones(5, 8, 3, 3), keys, 0.5, "test", index=2)
    units = dropout_train(torch.ones(5, 72), keys, 0.5, "test", index=2)
    assert torch.equal(maps.flatten(1), units)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_network_has_finite_gradients(recipe: Recipe) -> None:
    channels, side, _ = recipe.network.input
    side = min(side, 99)
    layers = tuple(shrunk_layer(layer) for layer in recipe.network.layers)
    network = replace(recipe.network, layers=layers, input=(channels, side, side))
    model = init_weights(AlexNet(network, 7), seed=0).train()
    x = torch.randn(3, channels, side, side)
    keys = torch.arange(3, dtype=torch.int32)
    F.cross_entropy(model(x, keys), torch.tensor([0, 1, 6])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_initial_weights_follow_the_spec_and_the_seed() -> None:
    model = create_model("original", num_classes=10, seed=0)
    for name, std, bias in (
        ("conv1", 0.01, 0),
        ("conv3", 0.03, 0),
        ("conv5", 0.03, 1),
        ("fc6", 0.01, 1),
        ("fc8", 0.01, 0),
    ):
        weight = model.get_parameter(f"{name}.weight").detach()
        assert weight.std().item() == pytest.approx(std, rel=0.02)
        assert model.get_parameter(f"{name}.bias").unique().tolist() == [bias]
    same_seed = create_model("original", num_classes=10, seed=0)
    pairs = zip(model.parameters(), same_seed.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    other_seed = create_model("original", 10, seed=1)
    weight = model.get_parameter("fc8.weight")
    assert not torch.equal(weight, other_seed.get_parameter("fc8.weight"))


def test_kaiming_initialization_keeps_the_scale_of_activations() -> None:
    model = create_model("modern", num_classes=10, seed=0).eval()
    intermediates = model.forward_intermediates(torch.randn(8, 3, 227, 227))
    assert 0.3 < float(intermediates["fc7"].detach().pow(2).mean().sqrt()) < 3


def test_training_without_dropout_keys_draws_them() -> None:
    layers = (Linear("fc6", 64), Dropout(0.5), Linear("fc8", 0))
    model = init_weights(AlexNet(Network((3, 4, 4), layers), 5), seed=0).train()
    torch.manual_seed(0)
    x = torch.randn(4, 3, 4, 4)
    assert not torch.equal(model(x), model(x))


def test_load_matching_copies_all_layers_but_a_different_head() -> None:
    network = tiny(ORIGINAL).network
    source = init_weights(AlexNet(network, 9), seed=1)
    model = init_weights(AlexNet(network, 7), seed=2)
    head = model.get_parameter("fc8.weight").clone()
    load_matching(model, source)
    assert torch.equal(model.get_parameter("conv1.weight"), source.get_parameter("conv1.weight"))
    assert torch.equal(model.get_parameter("fc8.weight"), head)
    narrower = init_weights(AlexNet(tiny(get_recipe("half")).network, 7), seed=0)
    with pytest.raises(UsageError, match="--init-from: conv1.weight is"):
        load_matching(model, narrower)


def test_load_matching_names_the_setting_that_makes_layers_fit() -> None:
    recipe = tiny(ORIGINAL)
    larger = replace(recipe.network, input=(3, 131, 131))
    source = init_weights(AlexNet(larger, 9), seed=1)
    model = init_weights(AlexNet(recipe.network, 7), seed=2)
    with pytest.raises(UsageError, match=r"fc6.weight is .*; use --set network.input=3,131,131$"):
        load_matching(model, source, "original")
    load_matching(AlexNet(larger, 7), source)
    other = init_weights(AlexNet(tiny(get_recipe("owt")).network, 7), seed=0)
    with pytest.raises(UsageError, match="conv1.weight is .*; use --recipe owt$"):
        load_matching(model, other, "owt")
    with pytest.raises(UsageError, match="use the model's own recipe$"):
        load_matching(model, other, "custom")


@pytest.mark.parametrize(
    "recipe", [ORIGINAL, MODERN, get_recipe("separate")], ids=lambda recipe: recipe.name
)
def test_dense_logits_are_those_of_each_crop(recipe: Recipe) -> None:
    model = init_weights(AlexNet(tiny(recipe).network, 7), seed=1).double().eval()
    x = torch.randn(2, 3, 131, 131, dtype=torch.float64)
    assert model.dense(x).shape == (2, 7, 2, 2)
    crop = x[:, :, :99, :99]
    torch.testing.assert_close(model.dense(crop)[:, :, 0, 0], model(crop), rtol=1e-12, atol=1e-12)
