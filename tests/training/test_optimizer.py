"""The update rule: fifty steps against the paper's formula, and as an ordinary torch optimizer.

The formula of section 5, in float64 NumPy whatever the network computes in: for every weight w
with gradient g, v <- momentum v - weight_decay lr w - lr g, then w <- w + v. The learning rate is
cut twice, biases have twice the rate, the last layer has a rate and a decay of its own, and the
first is frozen for a while: it does not move, and continues with the velocity it had.
"""

import io
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import StepLR

from alexnet.core.errors import UsageError
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.recipes.layers import NUM_CLASSES, RELU, Conv, Linear
from alexnet.recipes.recipe import Network, ParamGroup, Training
from alexnet.recipes.schedules import PiecewiseConstant
from alexnet.training.optimizer import SGD2012, make_optimizer, set_lr

Tensors = dict[str, np.ndarray]

NETWORK = Network(
    input=(3, 8, 8),
    layers=(
        Conv("conv1", 16, 3, padding=1, init_std=0.2),  # 16 x 8 x 8
        RELU,
        # 307,200 weights: more than one chunk of the plain form
        Linear("fc6", 300, init_std=0.05, init_bias=0.1),
        RELU,
        Linear("fc7", NUM_CLASSES, init_std=0.1),
    ),
)
TRAINING = Training(
    lr=PiecewiseConstant(((0, 0.02), (20, 0.002), (40, 2e-4))),
    momentum=0.9,
    weight_decay=0.05,  # a hundred times the paper's, to be visible within fifty steps
    bias_lr_mult=2,
    param_groups=(
        ParamGroup("conv1.weight", PiecewiseConstant(((0, 0.02), (15, 0.0), (30, 0.002)))),
        ParamGroup("conv1.bias", PiecewiseConstant(((0, 0.01), (15, 0.0), (30, 0.01)))),
        ParamGroup("fc7.weight", PiecewiseConstant(((0, 0.01), (30, 0.001))), weight_decay=0.3),
    ),
)
LRS = {  # step by step, an epoch each
    "conv1.weight": [0.02] * 15 + [0.0] * 15 + [0.002] * 20,
    "conv1.bias": [0.01] * 15 + [0.0] * 15 + [0.01] * 20,  # a group of its own: not doubled
    "fc6.weight": [0.02] * 20 + [0.002] * 20 + [2e-4] * 10,
    "fc6.bias": [0.04] * 20 + [0.004] * 20 + [4e-4] * 10,
    "fc7.weight": [0.01] * 30 + [0.001] * 20,
    "fc7.bias": [0.04] * 20 + [0.004] * 20 + [4e-4] * 10,
}
DECAYS = {"conv1.weight": 0.05, "fc6.weight": 0.05, "fc7.weight": 0.3}


def backward(net: AlexNet, step: int) -> Tensors:
    """Compute gradients from four random images; return copies by name."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(4, *NETWORK.input, generator=generator)
    images = images.to(net.get_parameter("fc7.bias").dtype)
    F.cross_entropy(net(images), torch.randint(5, (4,), generator=generator)).backward()
    return copied(
        {
            name: parameter.grad
            for name, parameter in net.named_parameters()
            if parameter.grad is not None
        }
    )


def copied(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the same numbers in float64, which holds those of float32 and bf16 exactly."""
    return {name: tensor.detach().double().numpy().copy() for name, tensor in tensors.items()}


def require_near(actual: Mapping[str, torch.Tensor], expected: Tensors, bound: float) -> None:
    for name, tensor in copied(actual).items():
        difference = np.linalg.norm(tensor - expected[name])
        assert difference <= bound * np.linalg.norm(expected[name]), name


def make_net(dtype: torch.dtype = torch.float32) -> AlexNet:
    return init_weights(AlexNet(NETWORK, 5), seed=0).to(dtype).train()


@pytest.mark.usefixtures("each_form")
@pytest.mark.parametrize("decay_biases", [False, True])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 3e-6)]
)
def test_fifty_updates_are_the_formulas(
    dtype: torch.dtype, bound: float, decay_biases: bool
) -> None:
    net = make_net(dtype)
    training = replace(TRAINING, decay_biases=decay_biases)
    optimizer = make_optimizer(net, training)
    weights = copied(optimizer.named_masters())
    velocities = {name: np.zeros_like(weight) for name, weight in weights.items()}
    for step in range(50):
        for name, g in backward(net, step).items():
            lr = LRS[name][step]
            expected_decay = DECAYS.get(name, 0.05 if decay_biases else 0.0)
            if lr:
                velocities[name] = (
                    0.9 * velocities[name] - expected_decay * lr * weights[name] - lr * g
                )
                weights[name] = weights[name] + velocities[name]
        set_lr(optimizer, training, epoch=step)
        optimizer.step()
        optimizer.zero_grad()
        require_near(optimizer.named_masters(), weights, bound)
        require_near(optimizer.named_velocities(), velocities, bound)
        masters = optimizer.named_masters()
        assert all(
            torch.equal(parameter, masters[name].to(dtype))
            for name, parameter in net.named_parameters()
        )


def test_an_lr_of_zero_keeps_weight_and_velocity_to_the_bit() -> None:
    net = make_net()
    optimizer = make_optimizer(net, TRAINING)
    for step in range(16):
        backward(net, step)
        weights = copied(optimizer.named_masters())  # before the last step, the frozen one
        velocities = copied(optimizer.named_velocities())
        set_lr(optimizer, TRAINING, epoch=step)
        optimizer.step()
        optimizer.zero_grad()
    for name in LRS:
        frozen = name.startswith("conv1")
        assert velocities[name].any()
        assert np.array_equal(copied(optimizer.named_masters())[name], weights[name]) == frozen
        velocity = copied(optimizer.named_velocities())[name]
        assert np.array_equal(velocity, velocities[name]) == frozen


def test_groups_hold_the_parameters_with_the_same_rules() -> None:
    groups = make_optimizer(make_net(), TRAINING).param_groups
    assert [group["param_names"] for group in groups] == [
        ["conv1.weight"],
        ["conv1.bias"],
        ["fc6.weight"],
        ["fc6.bias", "fc7.bias"],
        ["fc7.weight"],
    ]
    assert [group["weight_decay"] for group in groups] == [0.05, 0, 0.05, 0, 0.3]


# ---- as any torch optimizer


def linear(dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 4).to(dtype)


def train_steps(model: nn.Linear, optimizer: SGD2012, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        images = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(images.to(model.weight.dtype)).square().mean().backward()
        optimizer.step()


def test_without_decay_and_at_one_lr_it_is_torchs_sgd() -> None:
    ours, theirs = linear(), linear()
    train_steps(ours, SGD2012(ours.parameters(), lr=0.1, weight_decay=0), 10)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    train_steps(theirs, optimizer, 10)  # type: ignore[arg-type]
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_torchs_schedulers_set_the_lr() -> None:
    model = linear()
    optimizer = SGD2012(model.parameters(), lr=0.1, momentum=0.5, weight_decay=0.01)
    scheduler = StepLR(optimizer, step_size=2, gamma=0.1)
    weight = model.weight.detach().double().numpy().copy()
    velocity = np.zeros_like(weight)
    for step, lr in enumerate([0.1, 0.1, 0.01, 0.01, 0.001]):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(lr)
        train_steps(model, optimizer, 1, first=step)
        assert model.weight.grad is not None
        velocity = 0.5 * velocity - 0.01 * lr * weight - lr * model.weight.grad.double().numpy()
        weight = weight + velocity
        scheduler.step()
    np.testing.assert_allclose(model.weight.detach().numpy(), weight, rtol=1e-5)


def test_named_groups_have_settings_of_their_own() -> None:
    model = linear()
    weight = {"params": [("weight", model.weight)], "lr": 0.0}
    bias = {"params": [("bias", model.bias)], "weight_decay": 0.0}
    optimizer = SGD2012([weight, bias], lr=0.1)
    before = model.weight.detach().clone()
    train_steps(model, optimizer, 2)
    assert torch.equal(model.weight, before)
    assert optimizer.named_velocities()["bias"].any()
    assert not optimizer.named_velocities()["weight"].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_saved_optimizer_continues_with_the_same_bits(dtype: torch.dtype) -> None:
    model = linear(dtype)
    optimizer = SGD2012(model.named_parameters(), lr=0.1)
    train_steps(model, optimizer, 3)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    model_state, optimizer_state = torch.load(file, weights_only=True)
    other = linear(dtype)
    continued = SGD2012(other.named_parameters(), lr=0.5)
    other.load_state_dict(model_state)
    continued.load_state_dict(optimizer_state)
    for parameter in other.parameters():
        state = continued.state[parameter]
        assert state["velocity"].dtype == torch.promote_types(dtype, torch.float32)
        assert ("master" in state) == (dtype == torch.bfloat16)
    train_steps(model, optimizer, 3, first=3)
    train_steps(other, continued, 3, first=3)
    assert torch.equal(model.weight, other.weight)
    masters = continued.named_masters()
    assert torch.equal(masters["weight"], optimizer.named_masters()["weight"])


def test_masters_kept_before_a_cast_are_not_rounded() -> None:
    model = linear()
    exact = model.weight.detach().clone()
    optimizer = SGD2012(model.named_parameters(), lr=0.1)
    optimizer.keep_masters()
    model.to(torch.bfloat16)
    assert torch.equal(optimizer.named_masters()["weight"], exact)
    assert torch.equal(model.weight, exact.to(torch.bfloat16))
    train_steps(model, optimizer, 1)
    assert torch.equal(model.weight, optimizer.named_masters()["weight"].to(torch.bfloat16))


def test_a_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    model = linear()
    optimizer = SGD2012(model.parameters(), lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(2, 6)).square().mean()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.step(closure).item() < first.item()


def test_negative_settings_are_refused() -> None:
    for name in ("lr", "momentum", "weight_decay"):
        with pytest.raises(UsageError, match=f"{name}=-1: expected 0 or more"):
            SGD2012(linear().parameters(), **{name: -1})
