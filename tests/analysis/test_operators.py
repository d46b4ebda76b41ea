"""Operator listings: equal to the published one of Caffe2, and to the network when executed.

Executing a listing, name by name, shows whether it is complete: its forward operators must give the
network's own output, and its gradient operators what autograd computes through the forward ones,
although they know nothing but the names they read.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.nn import functional as F

from alexnet.__main__ import cli
from alexnet.analysis.caffe2_operators import (
    Operator,
    forward_operators,
    gradient_operators,
    list_operators,
    loss_operators,
)
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.layers import grouped_linear, locally_connected
from alexnet.models.response_norm import response_norm, spatial_response_norm
from alexnet.recipes.layers import RELU, SIGMOID, WeightedLayer
from alexnet.recipes.presets import MODERN, RECIPES, get_recipe
from alexnet.recipes.recipe import Network, Recipe, Training
from alexnet.recipes.schedules import PlateauState
from tests.conftest import tiny

# Caffe2's own printing of Caffe's bvlc_alexnet, as reference text 004 gives it.
PUBLISHED = """\
net: ------------- AlexNet -------------
op: Conv (data conv1_w conv1_b)->(conv1) stride:4 pad:0 kernel:11 order:NCHW
op: Relu (conv1)->(conv1)
op: LRN (conv1)->(norm1 _norm1_scale) size:5 alpha:0.0001 beta:0.75 bias:1 order:NCHW
op: MaxPool (norm1)->(pool1) stride:2 pad:0 kernel:3 order:NCHW legacy_pad:3
op: Conv (pool1 conv2_w conv2_b)->(conv2) stride:1 pad:2 kernel:5 order:NCHW group:2
op: Relu (conv2)->(conv2)
op: LRN (conv2)->(norm2 _norm2_scale) size:5 alpha:0.0001 beta:0.75 bias:1 order:NCHW
op: MaxPool (norm2)->(pool2) stride:2 pad:0 kernel:3 order:NCHW legacy_pad:3
op: Conv (pool2 conv3_w conv3_b)->(conv3) stride:1 pad:1 kernel:3 order:NCHW
op: Relu (conv3)->(conv3)
op: Conv (conv3 conv4_w conv4_b)->(conv4) stride:1 pad:1 kernel:3 order:NCHW group:2
op: Relu (conv4)->(conv4)
op: Conv (conv4 conv5_w conv5_b)->(conv5) stride:1 pad:1 kernel:3 order:NCHW group:2
op: Relu (conv5)->(conv5)
op: MaxPool (conv5)->(pool5) stride:2 pad:0 kernel:3 order:NCHW legacy_pad:3
op: FC (pool5 fc6_w fc6_b)->(fc6)
op: Relu (fc6)->(fc6)
op: Dropout (fc6)->(fc6 _fc6_mask) ratio:0.5 is_test:1
op: FC (fc6 fc7_w fc7_b)->(fc7)
op: Relu (fc7)->(fc7)
op: Dropout (fc7)->(fc7 _fc7_mask) ratio:0.5 is_test:1
op: FC (fc7 fc8_w fc8_b)->(fc8)
op: Softmax (fc8)->(prob)
"""

ALL = pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)


def describe(*arguments: str) -> str:
    """Return what `alexnet describe` prints on a terminal of eighty columns."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(
        cli, ["describe", *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.output


# ---- what is printed


def test_caffe_is_listed_as_published() -> None:
    assert describe("caffe", "--ops") == PUBLISHED


def test_training_step_is_forward_pass_gradients_and_updates() -> None:
    lines = describe("caffe", "--backward").splitlines()
    assert lines[:24] == PUBLISHED.replace("is_test:1", "is_test:0").splitlines()
    assert lines[24:32] == [
        "op: LabelCrossEntropy (prob label)->(xent)",
        "op: AveragedLoss (xent)->(loss)",
        "op: ConstantFill (loss)->(loss_grad) value:1",
        "op: AveragedLossGradient (xent loss_grad)->(xent_grad)",
        "op: LabelCrossEntropyGradient (prob label xent_grad)->(prob_grad)",
        "op: SoftmaxGradient (prob prob_grad)->(fc8_grad)",
        "op: FCGradient (fc7 fc8_w fc8_grad)->(fc8_w_grad fc8_b_grad fc7_grad)",
        "op: DropoutGrad (fc7_grad _fc7_mask)->(fc7_grad) ratio:0.5 is_test:0",
    ]
    conv1 = "op: ConvGradient (data conv1_w conv1_grad)->(conv1_w_grad conv1_b_grad)"
    assert f"{conv1} stride:4 pad:0 kernel:11 order:NCHW" in lines
    names = "fc8_b_grad fc8_b_momentum fc8_b"
    update = f"op: MomentumSGDUpdate ({names})->({names})"
    assert lines[-1] == f"{update} momentum:0.9 lr:0.02 weight_decay:0"


def test_json_has_the_same_operators() -> None:
    result = json.loads(describe("caffe", "--ops", "--json"))
    assert result["recipe"] == "caffe"
    operators = [Operator(**operator) for operator in result["operators"]]
    lines = [operator.line() for operator in operators]
    assert lines == PUBLISHED.splitlines()[1:]


@ALL
def test_tables_fit_eighty_columns_and_have_both_counts(recipe: Recipe) -> None:
    lines = describe(recipe.name).splitlines()
    assert max(map(len, lines)) <= 80
    end = next(layer_index for layer_index, line in enumerate(lines) if line.startswith(" total"))
    assert end == 5 + len(recipe.network.layers), "a row of numbers was folded"
    if recipe.name == "paper":  # reference text 002's sums, and its operations of conv1
        assert lines[end].split()[1:] == ["60,965,224", "659,272", "724,406,816", "725,066,088"]
        assert lines[5].split()[-2:] == ["105,415,200", "105,705,600"]
        assert "float32 parameters take 232.56 MiB" in lines


def test_describe_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from alexnet.__main__ import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    for arguments in (["describe", "original"], ["describe", "original", "--backward"]):
        command = [sys.executable, "-c", code, *arguments]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        assert ended.returncode == 0


# ---- every recipe


@ALL
def test_names_are_written_before_they_are_read(recipe: Recipe) -> None:
    names = [layer.name for layer in recipe.network.layers if isinstance(layer, WeightedLayer)]
    parameters = [f"{name}_{part}" for name in names for part in "wb"]
    operators = list_operators(recipe, 1000, training=True)
    weighted = [operator for operator in operators if operator.kind in ("Conv", "LC", "FC")]
    assert [operator.outputs[0] for operator in weighted] == names
    written = {"data", "label", *parameters, *(f"{name}_momentum" for name in parameters)}
    for operator in operators:
        assert written.issuperset(operator.inputs), operator.line()
        written.update(operator.outputs)
    gradients = [
        name
        for operator in operators
        if operator.kind.endswith(("Gradient", "Grad"))
        for name in operator.outputs
        if name.removesuffix("_grad") in parameters
    ]
    assert sorted(gradients) == sorted(f"{name}_grad" for name in parameters), "one each"


@ALL
def test_updates_have_lr_and_weight_decay_of_the_optimizer(recipe: Recipe) -> None:
    updates = [
        operator
        for operator in list_operators(recipe, 1000, training=True)
        if operator.kind == "MomentumSGDUpdate"
    ]
    names = [layer.name for layer in recipe.network.layers if isinstance(layer, WeightedLayer)]
    parameters = [f"{name}.{part}" for name in names for part in ("weight", "bias")]
    result = [(update.attributes["lr"], update.attributes["weight_decay"]) for update in updates]
    training = recipe.training
    first = training.lrs(parameters, 0, PlateauState())
    assert result == [(first[name], training.weight_decay_of(name)) for name in parameters]


# ---- listings, executed name by name

TINY = ("original", "single-prenorm", "pool-norm", "modern", "separate", "caffenet", "owt")
FULL_SIZE = ("cifar-18pct", "cifar-11pct", "figure1-tanh", "figure1-sigmoid")


def sigmoid_after_relu() -> Network:
    """Return a network in which the sigmoid must not overwrite the relu's output.

    After a sigmoid every value is positive, so that the relu's gradient could not be computed.
    """
    layers = tiny(MODERN).network.layers
    return replace(tiny(MODERN).network, layers=(*layers[:5], RELU, SIGMOID, *layers[5:]))


NETWORKS = {
    **{name: tiny(get_recipe(name)).network for name in TINY},
    **{name: get_recipe(name).network for name in FULL_SIZE},
    "sigmoid after relu": sigmoid_after_relu(),
}
EACH = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@EACH
def test_executed_forward_listing_equals_the_network(network: Network) -> None:
    net = init_weights(AlexNet(network, 7), seed=0).double().eval()
    result = execute(
        forward_operators(network, 7, training=False), {"data": images(network), **blobs(net)}
    )
    torch.testing.assert_close(
        result["prob"], net(images(network)).softmax(1), rtol=1e-12, atol=1e-12
    )


@EACH
def test_executed_gradient_listing_equals_autograd(network: Network) -> None:
    parameters = blobs(init_weights(AlexNet(network, 7), seed=0).double())
    listing = forward_operators(network, 7, training=True)
    listing += loss_operators(Training(label_smoothing=0.1))
    result = execute(
        listing, {"data": images(network), "label": torch.tensor([3, 5]), **parameters}
    )
    expected = torch.autograd.grad(result["loss"], list(parameters.values()))
    detached = {name: blob.detach() for name, blob in result.items()}
    result = execute(gradient_operators(listing), detached)
    for name, gradient in zip(parameters, expected, strict=True):
        size = gradient.abs().max()
        assert size > 0, f"{name} has no gradient to compare"
        torch.testing.assert_close(
            result[f"{name}_grad"] / size, gradient / size, rtol=0, atol=1e-10
        )


def images(network: Network) -> Tensor:
    """Return two random inputs with the spread of gray levels, large enough for the norms."""
    return 60 * torch.randn(
        2, *network.input, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )


def blobs(net: AlexNet) -> dict[str, Tensor]:
    """Return the network's parameters by the names of a listing: conv1_w, conv1_b, ..."""
    parts = ((name.split("."), parameter) for name, parameter in net.named_parameters())
    return {f"{layer}_{part[0]}": parameter for (layer, part), parameter in parts}


def execute(operators: tuple[Operator, ...], known: dict[str, Tensor]) -> dict[str, Tensor]:
    """Execute operators; return every name's last value.

    The scale of a norm is never read, and not computed here.
    """
    known = dict(known)
    for operator in operators:
        run = gradients if "Grad" in operator.kind else outputs
        values = run(operator, *(known[name] for name in operator.inputs))
        known.update(zip(operator.outputs, values, strict=False))
    return known


def outputs(operator: Operator, *x: Tensor) -> tuple[Tensor, ...]:
    """Execute a forward operator, from its inputs and attributes alone."""
    a = cast(dict[str, Any], operator.attributes)
    if operator.kind != "Dropout":
        return (value(operator.kind, a, *x),)
    if a["is_test"]:
        return (x[0] * (1 - a["ratio"] if "rescale" in a else 1),)
    mask = torch.rand(x[0].shape, generator=torch.Generator().manual_seed(1)) >= a["ratio"]
    return x[0] * mask / (1 if "rescale" in a else 1 - a["ratio"]), mask


def value(kind: str, a: dict[str, Any], *x: Tensor) -> Tensor:
    """Compute the output of an operator of this kind with these attributes."""
    match kind:
        case "Conv":
            sides = [a.get(f"pad_{side}", a.get("pad", 0)) for side in "lrtb"]
            return F.conv2d(F.pad(x[0], sides), x[1], x[2], a["stride"], groups=a.get("group", 1))
        case "LC":
            return locally_connected(x[0], x[1], x[2], a["pad"])
        case "FC":
            return grouped_linear(x[0].flatten(1), x[1], x[2], a.get("group", 1))
        case "LRN" if "norm_region" in a:
            return spatial_response_norm(
                x[0], a["size"], a["bias"], a["alpha"] / a["size"] ** 2, a["beta"]
            )
        case "LRN":
            return response_norm(
                x[0], a["size"], a["bias"], a["alpha"] / a["size"], a["beta"], a.get("towers", 1)
            )
        case "MaxPool":
            return F.max_pool2d(
                x[0], a["kernel"], a["stride"], a["pad"], ceil_mode="legacy_pad" in a
            )
        case "AveragePool":
            return F.avg_pool2d(
                x[0], a["kernel"], a["stride"], a["pad"], ceil_mode="legacy_pad" in a
            )
        case "LabelCrossEntropy":
            return F.cross_entropy(
                x[0].log(), x[1], label_smoothing=a.get("smoothing", 0.0), reduction="none"
            )
        case "ConstantFill":
            return torch.full_like(x[0], a["value"])
        case "AdaptivePool":
            return F.adaptive_avg_pool2d(x[0], (a["height"], a["width"]))
        case "Softmax":
            return x[0].softmax(1)
        case "AveragedLoss":
            return x[0].mean()
    activation: Callable[[Tensor], Tensor] = getattr(torch, kind.lower())  # relu, tanh, sigmoid
    return activation(x[0])


def gradients(operator: Operator, *read: Tensor) -> tuple[Tensor, ...]:
    """Execute a gradient operator, from what it reads.

    Where the gradient is not 0, an output that it reads must not have been overwritten.
    """
    kind = operator.kind.removesuffix("Gradient")
    a = cast(dict[str, Any], operator.attributes)
    g = read[-1]
    y = read[0]  # the output, of operators that read nothing else
    match kind:
        case "DropoutGrad":
            return (read[0] * read[1] / (1 if "rescale" in a else 1 - a["ratio"]),)
        case "Relu":
            return (g * (y > 0),)
        case "Tanh":
            return (g * (1 - y**2),)
        case "Sigmoid":
            return (g * y * (1 - y),)
        case "Softmax":
            return (y * (g - (y * g).sum(1, keepdim=True)),)
        case "Conv" | "LC" | "FC":
            x, weight = (tensor.clone().requires_grad_() for tensor in read[:2])
            bias = torch.zeros(
                weight.shape[: 3 if kind == "LC" else 1], dtype=x.dtype, requires_grad=True
            )
            return torch.autograd.grad(value(kind, a, x, weight, bias), (weight, bias, x), g)[
                : len(operator.outputs)
            ]
    x = read[0].clone().requires_grad_()
    written = value(kind, a, x, *read[1:-1])
    if kind in ("LRN", "MaxPool", "AveragePool"):
        torch.testing.assert_close(
            torch.where(g != 0, read[1], 0), torch.where(g != 0, written.detach(), 0)
        )
    return torch.autograd.grad(written, x, g)
