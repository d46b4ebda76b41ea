"""The update rule of the paper's section 5: v <- momentum v - decay rate w - rate g; w <- w + v.

The rate stands inside the velocity, so velocity gathered before a cut keeps its size, as in the 2012 program and unlike
torch's SGD. Weights are float32 masters; a network that computes in bf16 gets its copy after each update: on a CPU with a
compiler in the same pass over memory, for the update is all reading and writing. Which rate a parameter follows is decided by
the recipe: weights, biases, and those it names apart. A rate of 0 freezes: no decay, no momentum.
"""

import ctypes
from collections.abc import Mapping

import torch
from torch import Tensor

from alexnet.native.arguments import KINDS, at
from alexnet.native.library import library
from alexnet.network.alexnet import AlexNet
from alexnet.recipes.recipe import Training

CHUNK = 2**18  # elements updated at a time by the plain form on a CPU


class Optimizer:
    """Float32 masters and velocities of the parameters of a network, or of a part of one, by name."""

    def __init__(self, network: AlexNet, training: Training) -> None:
        self.training = training
        self.parameters = dict(network.named_parameters())
        self.masters = {
            name: parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))  # a float64 network keeps float64
            for name, parameter in self.parameters.items()
        }
        self.velocities = {name: torch.zeros_like(master) for name, master in self.masters.items()}

    @torch.no_grad()
    def update(self, rates: Mapping[str, float]) -> None:
        """One step with these rates, from the gradients the parameters hold; the gradients are then forgotten."""
        for name, parameter in self.parameters.items():
            if rates[name] and parameter.grad is not None:
                weight, velocity = self.masters[name], self.velocities[name]
                rule = self.training.momentum, self.training.decay_of(name) * rates[name], rates[name]
                if not _in_one_pass(rule, weight, velocity, parameter.grad, parameter):
                    _in_chunks(rule, weight, velocity, parameter.grad.to(weight.dtype))
                    self._publish(name)
            parameter.grad = None

    def publish(self) -> None:
        """Give the network its copy of all masters, once they have been set from elsewhere."""
        for name in self.parameters:
            self._publish(name)

    @torch.no_grad()
    def _publish(self, name: str) -> None:
        if self.parameters[name].dtype != self.masters[name].dtype:  # otherwise it computes with the masters themselves
            self.parameters[name].copy_(self.masters[name])


class _Rule(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("momentum", "decay_rate", "rate")]


def _in_one_pass(rule: tuple[float, float, float], weight: Tensor, velocity: Tensor, gradient: Tensor, copy: Tensor) -> bool:
    """The rule by the C++ kernel, which also writes a bf16 `copy` of the weight; False where it does not apply."""
    found = library() if weight.device.type == "cpu" and weight.dtype == torch.float32 else None
    if found is None or gradient.dtype not in KINDS or not _alike(weight, velocity, copy):
        return False
    if not _alike(weight, gradient):
        gradient = torch.empty_like(weight, dtype=gradient.dtype).copy_(gradient)
    addresses = at(weight), at(velocity), at(gradient), at(None if copy.dtype == torch.float32 else copy)
    getattr(found, f"update_{KINDS[gradient.dtype]}")(ctypes.byref(_Rule(*rule)), *addresses, ctypes.c_int64(weight.numel()))
    return True


def _in_chunks(rule: tuple[float, float, float], weight: Tensor, velocity: Tensor, gradient: Tensor) -> None:
    """The rule in torch's own operations; on a CPU a piece at a time, so that its four passes find the piece in cache."""
    momentum, decay_rate, rate = rule
    tensors = weight, velocity, gradient
    in_pieces = weight.device.type == "cpu" and _alike(*tensors)  # a GPU would spend its time on beginning them
    pieces = zip(*(_flat(tensor).split(CHUNK) for tensor in tensors), strict=True) if in_pieces else [tensors]
    for w, v, g in pieces:
        w.add_(v.mul_(momentum).add_(w, alpha=-decay_rate).add_(g, alpha=-rate))


def _alike(*tensors: Tensor) -> bool:
    """Whether tensors lie in memory in the same order, without gaps."""
    return all(
        tensor.stride() == tensors[0].stride() and tensor.nbytes == tensor.untyped_storage().nbytes() for tensor in tensors
    )


def _flat(tensor: Tensor) -> Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))
