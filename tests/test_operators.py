"""Operator listings against the published one of Caffe2, and against the network itself: a listing is run, name by name.

Running one says whether it tells everything: its forward operators must give the network's own output, its gradient operators
what autograd finds through the forward ones, although they know nothing but the names they read.
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
from alexnet.insight.operators import Operator, backward, forward, graph, loss
from alexnet.network.alexnet import AlexNet, grouped_linear, locally_connected, start
from alexnet.network.response_norm import norm_across_maps, norm_over_space
from alexnet.recipes.layers import RELU, SIGMOID, Weighted
from alexnet.recipes.named import MODERN, RECIPES, named
from alexnet.recipes.recipe import Network, Recipe, Training
from alexnet.recipes.schedules import PlateauState
from tests.conftest import tiny

# Caffe2's own printing of Caffe's bvlc_alexnet, as seed 004 gives it.
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

ALL = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def said(*words: str) -> str:
    """What `alexnet describe` with these words prints on a terminal of eighty columns."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(cli, ["describe", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


# ---- what is printed


def test_caffe_is_listed_as_published() -> None:
    assert said("caffe", "--ops") == PUBLISHED


def test_a_step_of_training_is_the_forward_pass_and_its_way_back() -> None:
    lines = said("caffe", "--backward").splitlines()
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
    assert "op: ConvGradient (data conv1_w conv1_grad)->(conv1_w_grad conv1_b_grad) stride:4 pad:0 kernel:11 order:NCHW" in lines
    kept = "fc8_b_grad fc8_b_momentum fc8_b"
    assert lines[-1] == f"op: MomentumSGDUpdate ({kept})->({kept}) momentum:0.9 rate:0.02 decay:0"


def test_a_program_gets_the_same_operators() -> None:
    found = json.loads(said("caffe", "--ops", "--json"))
    assert found["recipe"] == "caffe"
    operators = [Operator(**operator) for operator in found["operators"]]
    assert [replace(operator, inputs=tuple(operator.inputs)).line() for operator in operators] == PUBLISHED.splitlines()[1:]


@ALL
def test_the_tables_fit_eighty_columns_and_count_both_ways(recipe: Recipe) -> None:
    lines = said(recipe.name).splitlines()
    assert max(map(len, lines)) <= 80
    end = next(place for place, line in enumerate(lines) if line.startswith(" in all"))
    assert end == 4 + len(recipe.network.layers), "a row of numbers was folded"
    if recipe.name == "paper":  # seed 002's sums, with the last layer's biases, and its operations of conv1
        assert lines[end].split()[2:] == ["60,965,224", "659,272", "724,406,816", "725,066,088"]
        assert lines[4].split()[-2:] == ["105,415,200", "105,705,600"] and "232.56 MiB" in lines[-2]


def test_describing_needs_no_torch() -> None:
    code = (
        "import sys; from alexnet.__main__ import cli; cli(sys.argv[1:], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    for words in (["describe", "original"], ["describe", "original", "--backward"]):
        assert subprocess.run([sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL).returncode == 0


# ---- every recipe


@ALL
def test_every_name_is_written_before_it_is_read_and_every_parameter_gets_one_gradient(recipe: Recipe) -> None:
    names = [layer.name for layer in recipe.network.layers if isinstance(layer, Weighted)]
    parameters = [f"{name}_{part}" for name in names for part in "wb"]
    operators = graph(recipe, 1000, training=True)
    assert [operator.outputs[0] for operator in operators if operator.kind in ("Conv", "LC", "FC")] == names
    written = {"data", "label", *parameters, *(f"{name}_momentum" for name in parameters)}
    for operator in operators:
        assert written.issuperset(operator.inputs), operator.line()
        written.update(operator.outputs)
    ways_back = [operator for operator in operators if operator.kind.endswith(("Gradient", "Grad"))]
    taken = [name for operator in ways_back for name in operator.outputs if name.removesuffix("_grad") in parameters]
    assert sorted(taken) == sorted(f"{name}_grad" for name in parameters)


@ALL
def test_an_update_has_the_rate_and_decay_the_optimizer_takes(recipe: Recipe) -> None:
    updates = [operator for operator in graph(recipe, 1000, training=True) if operator.kind == "MomentumSGDUpdate"]
    names = [layer.name for layer in recipe.network.layers if isinstance(layer, Weighted)]
    own = [f"{name}.{part}" for name in names for part in ("weight", "bias")]
    found = [(update.attributes["rate"], update.attributes["decay"]) for update in updates]
    first = recipe.training.rates(own, 0, PlateauState())
    assert found == [(first[name], recipe.training.decay_of(name)) for name in own]


# ---- run, name by name

TINY = ("original", "single-prenorm", "pool-norm", "modern", "separate", "caffenet", "owt")
WHOLE = ("cifar-18pct", "cifar-11pct", "figure1-tanh", "figure1-sigmoid")


def sigmoid_behind_relu() -> Network:
    """A net in which the sigmoid must not overwrite what the relu wrote: behind it every value is positive."""
    layers = tiny(MODERN).network.layers
    return replace(tiny(MODERN).network, layers=(*layers[:5], RELU, SIGMOID, *layers[5:]))


NETWORKS = {
    **{name: tiny(named(name)).network for name in TINY},
    **{name: named(name).network for name in WHOLE},
    "sigmoid behind relu": sigmoid_behind_relu(),
}
EACH = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@EACH
def test_run_forward_a_listing_gives_what_the_network_gives(network: Network) -> None:
    net = start(AlexNet(network, 7), seed=0).double().eval()
    found = run(forward(network, 7, training=False), {"data": pictures(network), **blobs(net)})
    torch.testing.assert_close(found["prob"], net(pictures(network)).softmax(1), rtol=1e-12, atol=1e-12)


@EACH
def test_run_backward_a_listing_gives_what_autograd_gives(network: Network) -> None:
    parameters = blobs(start(AlexNet(network, 7), seed=0).double())
    ahead = forward(network, 7, training=True) + loss(Training(smoothing=0.1))
    found = run(ahead, {"data": pictures(network), "label": torch.tensor([3, 5]), **parameters})
    wanted = torch.autograd.grad(found["loss"], list(parameters.values()))
    found = run(backward(ahead), {name: blob.detach() for name, blob in found.items()})
    for name, gradient in zip(parameters, wanted, strict=True):
        size = gradient.abs().max()
        assert size > 0, f"{name} has no gradient to compare"
        torch.testing.assert_close(found[f"{name}_grad"] / size, gradient / size, rtol=0, atol=1e-10)


def pictures(network: Network) -> Tensor:
    """Two views of its size, in grey levels, so that the norms have something to do."""
    return 60 * torch.randn(2, *network.input, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def blobs(net: AlexNet) -> dict[str, Tensor]:
    """The network's parameters by the names of a listing: conv1_w, conv1_b, ..."""
    parts = ((name.split("."), parameter) for name, parameter in net.named_parameters())
    return {f"{layer}_{part[0]}": parameter for (layer, part), parameter in parts}


def run(operators: tuple[Operator, ...], known: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every name's last value after the operators have run; a scale of a norm is never read, nor written here."""
    known = dict(known)
    for operator in operators:
        execute = gradients if "Grad" in operator.kind else outputs
        known.update(zip(operator.outputs, execute(operator, *(known[name] for name in operator.inputs)), strict=False))
    return known


def outputs(operator: Operator, *x: Tensor) -> tuple[Tensor, ...]:
    """What a forward operator writes, from its inputs and attributes alone."""
    a = cast(dict[str, Any], operator.attributes)
    if operator.kind != "Dropout":
        return (value(operator.kind, a, *x),)
    if a["is_test"]:
        return (x[0] * (1 - a["ratio"] if "rescale" in a else 1),)
    mask = torch.rand(x[0].shape, generator=torch.Generator().manual_seed(1)) >= a["ratio"]
    return x[0] * mask / (1 if "rescale" in a else 1 - a["ratio"]), mask


def value(kind: str, a: dict[str, Any], *x: Tensor) -> Tensor:
    """The one output of an operator of this kind with these attributes."""
    match kind:
        case "Conv":
            sides = [a.get(f"pad_{side}", a.get("pad", 0)) for side in "lrtb"]
            return F.conv2d(F.pad(x[0], sides), x[1], x[2], a["stride"], groups=a.get("group", 1))
        case "LC":
            return locally_connected(x[0], x[1], x[2], a["pad"])
        case "FC":
            return grouped_linear(x[0].flatten(1), x[1], x[2], a.get("group", 1))
        case "LRN" if "norm_region" in a:
            return norm_over_space(x[0], a["size"], a["bias"], a["alpha"] / a["size"] ** 2, a["beta"])
        case "LRN":
            return norm_across_maps(x[0], a["size"], a["bias"], a["alpha"] / a["size"], a["beta"], a.get("towers", 1))
        case "MaxPool":
            return F.max_pool2d(x[0], a["kernel"], a["stride"], a["pad"], ceil_mode="legacy_pad" in a)
        case "AveragePool":
            return F.avg_pool2d(x[0], a["kernel"], a["stride"], a["pad"], ceil_mode="legacy_pad" in a)
        case "LabelCrossEntropy":
            return F.cross_entropy(x[0].log(), x[1], label_smoothing=a.get("smoothing", 0.0), reduction="none")
        case "ConstantFill":
            return torch.full_like(x[0], a["value"])
        case "Fit":
            return F.adaptive_avg_pool2d(x[0], (a["height"], a["width"]))
        case "Softmax":
            return x[0].softmax(1)
        case "AveragedLoss":
            return x[0].mean()
    activation: Callable[[Tensor], Tensor] = getattr(torch, kind.lower())  # relu, tanh, sigmoid
    return activation(x[0])


def gradients(operator: Operator, *read: Tensor) -> tuple[Tensor, ...]:
    """What a gradient operator writes, from what it reads; where a gradient arrives, an output it reads must be what it was."""
    kind, a, g = operator.kind.removesuffix("Gradient"), cast(dict[str, Any], operator.attributes), read[-1]
    y = read[0]  # what the operators that keep nothing else have written
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
            bias = torch.zeros(weight.shape[: 3 if kind == "LC" else 1], dtype=x.dtype, requires_grad=True)
            return torch.autograd.grad(value(kind, a, x, weight, bias), (weight, bias, x), g)[: len(operator.outputs)]
    x = read[0].clone().requires_grad_()
    written = value(kind, a, x, *read[1:-1])
    if kind in ("LRN", "MaxPool", "AveragePool"):
        torch.testing.assert_close(torch.where(g != 0, read[1], 0), torch.where(g != 0, written.detach(), 0))
    return torch.autograd.grad(written, x, g)
