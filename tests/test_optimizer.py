"""Fifty updates against the formula of the paper's section 5 in float64 NumPy, whatever the net computes in.

For every weight w with gradient g: v <- momentum v - decay rate w - rate g, then w <- w + v. The rate is cut twice, biases go
at twice the rate, the last layer has a rate and a decay of its own, and the first is frozen for a while: it does not move,
and goes on afterwards with the velocity it had.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alexnet.network.alexnet import AlexNet, start
from alexnet.recipes.layers import CLASSES, RELU, Conv, Full
from alexnet.recipes.recipe import Apart, Network, Training
from alexnet.recipes.schedules import PlateauState, Steps
from alexnet.training.optimizer import Optimizer

Tensors = dict[str, np.ndarray]

NETWORK = Network(
    input=(3, 8, 8),
    layers=(
        *(Conv("conv1", 16, 3, pad=1, std=0.2), RELU),  # 16 x 8 x 8
        *(Full("fc6", 300, std=0.05, bias=0.1), RELU),  # 307,200 weights: more than are updated in one go
        Full("fc7", CLASSES, std=0.1),
    ),
)
TRAINING = Training(
    rate=Steps(((0, 0.02), (20, 0.002), (40, 2e-4))),
    momentum=0.9,
    decay=0.05,  # a hundred times the paper's, to be seen within fifty steps
    bias_rate=2,
    apart=(
        Apart("conv1.weight", Steps(((0, 0.02), (15, 0.0), (30, 0.002)))),
        Apart("conv1.bias", Steps(((0, 0.01), (15, 0.0), (30, 0.01)))),
        Apart("fc7.weight", Steps(((0, 0.01), (30, 0.001))), decay=0.3),
    ),
)
RATES = {  # step by step, an epoch each
    "conv1.weight": [0.02] * 15 + [0.0] * 15 + [0.002] * 20,
    "conv1.bias": [0.01] * 15 + [0.0] * 15 + [0.01] * 20,  # named apart: not doubled
    "fc6.weight": [0.02] * 20 + [0.002] * 20 + [2e-4] * 10,
    "fc6.bias": [0.04] * 20 + [0.004] * 20 + [4e-4] * 10,
    "fc7.weight": [0.01] * 30 + [0.001] * 20,
    "fc7.bias": [0.04] * 20 + [0.004] * 20 + [4e-4] * 10,
}
DECAYS = {"conv1.weight": 0.05, "fc6.weight": 0.05, "fc7.weight": 0.3}


def gradients_at(net: AlexNet, step: int) -> Tensors:
    """Those of the loss of four random pictures, left in the net for the optimizer and copied for the formula."""
    generator = torch.Generator().manual_seed(step)
    pictures = torch.randn(4, *NETWORK.input, generator=generator).to(net.get_parameter("fc7.bias").dtype)
    F.cross_entropy(net(pictures), torch.randint(5, (4,), generator=generator)).backward()
    return copied({name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None})


def copied(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The same numbers in float64, which holds those of float32 and bf16 exactly."""
    return {name: tensor.detach().double().numpy().copy() for name, tensor in tensors.items()}


def must_be_near(found: Mapping[str, torch.Tensor], expected: Tensors, bound: float) -> None:
    for name, tensor in copied(found).items():
        assert np.linalg.norm(tensor - expected[name]) <= bound * np.linalg.norm(expected[name]), name


@pytest.mark.usefixtures("each_form")
@pytest.mark.parametrize("decay_biases", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 3e-6)])
def test_fifty_updates_are_the_formulas(dtype: torch.dtype, bound: float, decay_biases: bool) -> None:
    net = start(AlexNet(NETWORK, classes=5), seed=0).to(dtype).train()
    training = replace(TRAINING, decay_biases=decay_biases)
    optimizer = Optimizer(net, training)
    weights = copied(optimizer.masters)
    velocities = {name: np.zeros_like(weight) for name, weight in weights.items()}
    for step in range(50):
        for name, g in gradients_at(net, step).items():
            rate, decay = RATES[name][step], DECAYS.get(name, 0.05 if decay_biases else 0.0)
            if rate:
                velocities[name] = 0.9 * velocities[name] - decay * rate * weights[name] - rate * g
                weights[name] = weights[name] + velocities[name]
        optimizer.update(training.rates(RATES, step, PlateauState()))
        must_be_near(optimizer.masters, weights, bound)
        must_be_near(optimizer.velocities, velocities, bound)
        assert all(torch.equal(parameter, optimizer.masters[name].to(dtype)) for name, parameter in net.named_parameters())


def test_a_rate_of_zero_holds_weight_and_velocity_to_the_bit() -> None:
    net = start(AlexNet(NETWORK, classes=5), seed=0).train()
    optimizer = Optimizer(net, TRAINING)
    for step in range(16):
        gradients_at(net, step)
        weights, velocities = copied(optimizer.masters), copied(optimizer.velocities)  # before the last step, the frozen one
        optimizer.update(TRAINING.rates(RATES, step, PlateauState()))
    for name in RATES:
        frozen = name.startswith("conv1")
        assert velocities[name].any()
        assert np.array_equal(copied(optimizer.masters)[name], weights[name]) == frozen
        assert np.array_equal(copied(optimizer.velocities)[name], velocities[name]) == frozen
