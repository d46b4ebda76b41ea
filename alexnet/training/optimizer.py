"""The update rule of the paper's section 5: v <- momentum v - decay rate w - rate g; w <- w + v.

The rate stands inside the velocity, so velocity gathered before a cut keeps its size, as in the 2012 program and unlike
torch's SGD. Weights are float32 masters; a network that computes in bf16 gets its copy after each update. Which rate a
parameter follows is decided by the recipe: weights, biases, and those it names apart. A rate of 0 freezes: no decay, no momentum.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from alexnet.network.alexnet import AlexNet
from alexnet.recipes.recipe import Training
from alexnet.recipes.schedules import PlateauState, rate_at

CHUNK = 2**18  # elements updated at a time, so that the four passes of the rule find them in cache


class Optimizer:
    """Float32 masters and velocities of a network's parameters, by name."""

    def __init__(self, network: AlexNet, training: Training) -> None:
        self.training = training
        self.parameters = dict(network.named_parameters())
        self.masters = {name: parameter.detach().float() for name, parameter in self.parameters.items()}
        self.velocities = {name: torch.zeros_like(master) for name, master in self.masters.items()}

    @torch.no_grad()
    def update(self, rates: Mapping[str, float]) -> None:
        """One step with these rates, from the gradients the parameters hold; the gradients are then forgotten."""
        for name, parameter in self.parameters.items():
            if rates[name] and parameter.grad is not None:
                decay = decay_of(self.training, name)
                tensors = self.masters[name], self.velocities[name], parameter.grad.to(self.masters[name].dtype)
                for weight, velocity, gradient in _together(*tensors):
                    velocity.mul_(self.training.momentum).add_(weight, alpha=-decay * rates[name]).add_(
                        gradient, alpha=-rates[name]
                    )
                    weight.add_(velocity)
                self._publish(name)
            parameter.grad = None

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor], velocities: Mapping[str, Tensor]) -> None:
        """Take back the masters and velocities of a checkpoint."""
        for name in self.parameters:
            self.masters[name].copy_(weights[name])
            self.velocities[name].copy_(velocities[name])
            self._publish(name)

    def _publish(self, name: str) -> None:
        if self.parameters[name].dtype != torch.float32:  # a float32 network computes with the masters themselves
            self.parameters[name].copy_(self.masters[name])


def rates(training: Training, names: list[str], epoch: float, plateau: PlateauState) -> dict[str, float]:
    """The rate of every parameter at an epoch (a fraction inside one)."""
    return {name: _rate(training, name, epoch, plateau) for name in names}


def decay_of(training: Training, name: str) -> float:
    """The decay of a parameter."""
    if name.endswith(".bias") and not training.decay_biases:
        return 0.0
    own = [apart.decay for apart in training.apart if apart.decay is not None and name.endswith(apart.suffix)]
    return own[-1] if own else training.decay


def _rate(training: Training, name: str, epoch: float, plateau: PlateauState) -> float:
    own = [apart.rate for apart in training.apart if apart.rate is not None and name.endswith(apart.suffix)]
    if own:
        return rate_at(own[-1], epoch, plateau)
    rate = rate_at(training.rate, epoch, plateau)
    return rate * training.bias_rate if name.endswith(".bias") else rate


def _together(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors cut alike into pieces, in the order they lie in memory where they all lie alike; else whole."""
    if any(tensor.stride() != tensors[0].stride() or tensor.nbytes != tensor.untyped_storage().nbytes() for tensor in tensors):
        return iter([tensors])
    return zip(*(tensor.as_strided((tensor.numel(),), (1,)).split(CHUNK) for tensor in tensors), strict=True)
