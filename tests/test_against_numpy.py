"""Whole nets of full size against the second implementation in NumPy: every station, the loss and every gradient.

The weights are wider than the recipes start them, so that the two pictures are still told apart at the last layer, and no two
biases are alike, so that none can stand in another's place. Differences are norms of tensors, relative to the reference.

In float32 a value that the formulas put next to zero, or next to its neighbour in a pool, can fall on the other side, and one
of a million units so decided otherwise moves a gradient by a thousandth. So there the reference computes the gradients from the
net's own stations, where both see the same decisions; the stations themselves are compared without such help.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.network.alexnet import AlexNet
from alexnet.recipes.named import CAFFE, FASHION, ORIGINAL, PAPER, POOL_NORM
from alexnet.recipes.recipe import Recipe
from tests.numpy_net import Tensors, forward_backward

CLASSES, PICTURES = 10, 2


@dataclass(frozen=True)
class Case:
    """A net in float32, two views with their labels, and the weights as the reference takes them."""

    net: AlexNet
    views: Tensor  # (2, C, H, W)
    labels: Tensor  # (2,)
    weights: Tensors


@pytest.fixture(scope="module", params=[ORIGINAL, PAPER, CAFFE, POOL_NORM, FASHION], ids=lambda recipe: recipe.name)
def case(request: pytest.FixtureRequest) -> Case:
    recipe: Recipe = request.param
    generator = torch.Generator().manual_seed(0)
    net = AlexNet(recipe.network, CLASSES).eval()
    widen(net, generator)
    grey_levels = 60.0 if recipe.views.scale == 1 else 1.0  # about their deviation, where the recipe does not scale them
    views = torch.randn(PICTURES, *recipe.network.input, generator=generator) * grey_levels
    labels = torch.randint(CLASSES, (PICTURES,), generator=generator)
    return Case(net, views, labels, {name: exact(parameter) for name, parameter in net.named_parameters()})


@torch.no_grad()
def widen(net: AlexNet, generator: torch.Generator) -> None:
    """Weights of deviation sqrt(2 / inputs), the head's .03 of that so that no probability is near 1; biases of 1/2."""
    for name, parameter in net.named_parameters():
        deviation = 0.5 if name.endswith("bias") else sqrt(2 / parameter[0].numel()) * (0.03 if name.startswith("fc8") else 1)
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)


def exact(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().double().numpy())


def passed(net: AlexNet, views: Tensor, labels: Tensor) -> tuple[Tensors, float, Tensors]:
    """The net's stations, mean loss, and gradients of `input` and every parameter."""
    views = views.clone().requires_grad_()
    net.zero_grad()
    loss = F.cross_entropy(net(views), labels)
    loss.backward()
    found = {name: parameter.grad for name, parameter in net.named_parameters()} | {"input": views.grad}
    stations = {name: exact(station) for name, station in net.stations(views.detach()).items()}
    return stations, loss.item(), {name: exact(gradient) for name, gradient in found.items() if gradient is not None}


def must_be_near(found: Tensors, reference: Tensors, bound: float) -> None:
    assert found.keys() == reference.keys()
    for name, right in reference.items():
        assert found[name].shape == right.shape, name
        difference = np.linalg.norm(found[name] - right) / np.linalg.norm(right)
        assert difference <= bound, f"{name}: {difference:.1e} from the reference"


def test_float64_is_the_formulas_to_their_rounding(case: Case) -> None:
    net = case.net.double()
    stations, loss, gradients = passed(net, case.views.double(), case.labels)
    network, labels = net.description, case.labels.numpy()
    right_stations, right_loss, right_gradients = forward_backward(network, case.weights, exact(case.views), labels)
    must_be_near({"prob": stations.pop("prob")}, {"prob": right_stations.pop("prob")}, 1e-6)  # the net gives it in float32
    must_be_near(stations, right_stations, 1e-12)
    must_be_near(gradients, right_gradients, 1e-12)
    assert loss == pytest.approx(right_loss, rel=1e-12)


def test_float32_stays_near_the_formulas(case: Case) -> None:
    net = case.net.float()
    stations, loss, gradients = passed(net, case.views, case.labels)
    network, labels = net.description, case.labels.numpy()
    right_stations, right_loss, _ = forward_backward(network, case.weights, exact(case.views), labels)
    must_be_near(stations, right_stations, 5e-6)
    assert loss == pytest.approx(right_loss, rel=5e-6)
    *_, right_gradients = forward_backward(network, case.weights, exact(case.views), labels, given=stations)
    must_be_near(gradients, right_gradients, 1e-4)
