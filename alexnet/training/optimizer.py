"""The update rule of the paper's section 5 as a torch optimizer.

    v <- momentum v - weight_decay lr w - lr g
    w <- w + v

The learning rate stands inside the velocity, so velocity gathered before a cut of the rate keeps
its size, as in the 2012 program and unlike `torch.optim.SGD`. Weights in bf16 or fp16 are updated
through float32 masters. On a CPU with a compiler the whole update is one pass over memory (a C++
kernel); elsewhere it is torch's own operations. A group whose lr is 0 is frozen: no decay, no
momentum.
"""

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from alexnet.core.errors import require
from alexnet.core.kernels.library import load_library
from alexnet.core.kernels.pointers import DTYPE_SUFFIX, data_pointer
from alexnet.recipes.recipe import Training
from alexnet.recipes.schedules import PlateauState

NOT_REDUCED = PlateauState()  # a plateau schedule at its first learning rate
CHUNK = 2**18  # elements that the plain form updates at a time on a CPU


class Constants(NamedTuple):
    """The numbers of one update."""

    momentum: float
    scaled_decay: float  # weight_decay * lr
    lr: float


class SGD2012(torch.optim.Optimizer):
    """Stochastic gradient descent with momentum and weight decay as the paper's section 5 has it.

    Use it as any torch optimizer; the defaults are the paper's. `params`: parameters, named
    parameters, or groups of either with an `lr`, `momentum` or `weight_decay` of their own.
    `state[p]` holds `velocity` and, for a parameter of lower precision than float32, `master`.
    UsageError where a setting is negative.

    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = SGD2012(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0005)
    >>> model(torch.ones(4, 2)).mean().backward()
    >>> optimizer.step()
    >>> optimizer.zero_grad()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        for name, value in defaults.items():
            require(value >= 0, f"{name}={value}: expected 0 or more")
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; return what `closure`, if given, returns.

        The closure computes the loss and its gradients again, as with torch's optimizers.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr = float(group["lr"])
            if lr == 0:
                continue
            constants = Constants(float(group["momentum"]), group["weight_decay"] * lr, lr)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, constants)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; velocities and masters keep their precision.

        torch would round them to that of the parameters.
        """
        super().load_state_dict(state_dict)
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        for index, parameter in zip(saved, self._parameters(), strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                dtype = master_dtype(parameter)
                self.state[parameter][key] = value.to(parameter.device, dtype, copy=True)

    def keep_masters(self) -> None:
        """Keep the present weights as masters, for a model that is cast to bf16 or fp16 next.

        Masters made only after the cast would begin with rounded weights.
        """
        for parameter in self._parameters():
            self.state[parameter]["master"] = parameter.detach()

    def named_masters(self) -> dict[str, Tensor]:
        """Return the weights by parameter name, in float32 or more: what checkpoints keep.

        They are the optimizer's own tensors: after writing to them, call `copy_masters_to_model`.
        """
        return {name: self._master(parameter) for name, parameter in self._named_parameters()}

    def named_velocities(self) -> dict[str, Tensor]:
        """Return the velocities by parameter name; the optimizer's own tensors."""
        return {name: self._velocity(parameter) for name, parameter in self._named_parameters()}

    @torch.no_grad()
    def copy_masters_to_model(self) -> None:
        """Copy the float32 master weights to the model."""
        for parameter in self._parameters():
            _copy_master(self._master(parameter), parameter)

    def _update(self, parameter: Tensor, constants: Constants) -> None:
        weight = self._master(parameter)
        velocity = self._velocity(parameter)
        gradient = parameter.grad
        assert gradient is not None
        if not _update_native(constants, weight, velocity, gradient, parameter):
            _update_plain(constants, weight, velocity, gradient.to(weight.dtype))
            _copy_master(weight, parameter)

    def _master(self, parameter: Tensor) -> Tensor:
        """Return the float32 master of a parameter: the parameter's own storage where it is one."""
        state = self.state[parameter]
        if "master" in state:
            return state["master"]
        weight = parameter.detach().to(master_dtype(parameter))
        if weight.dtype != parameter.dtype:
            state["master"] = weight
        return weight

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(self._master(parameter))
        return state["velocity"]

    def _parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    def _named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        for group in self.param_groups:
            yield from zip(group["param_names"], group["params"], strict=True)


def make_optimizer(model: nn.Module, training: Training) -> SGD2012:
    """Return the optimizer of a model, or of a part of one, with a recipe's groups.

    A group holds the parameters to which the same of the recipe's rules apply, and so the same
    learning rate and weight decay at any time. `set_lr` sets the rates.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        own = tuple(group for group in training.param_groups if name.endswith(group.suffix))
        rules = (name.endswith(".bias"), own)
        group = groups.setdefault(
            rules, {"params": [], "weight_decay": training.weight_decay_of(name)}
        )
        group["params"].append((name, parameter))
    return SGD2012(list(groups.values()), lr=0.0, momentum=training.momentum)


def set_lr(
    optimizer: SGD2012, training: Training, epoch: float, plateau: PlateauState = NOT_REDUCED
) -> None:
    """Set every group's learning rate to the recipe's at an epoch (a fraction inside one)."""
    for group in optimizer.param_groups:
        group["lr"] = training.lr_of(group["param_names"][0], epoch, plateau)


def master_dtype(parameter: Tensor) -> torch.dtype:
    """Return the precision in which a parameter is updated: float32, or its own if higher."""
    return torch.promote_types(parameter.dtype, torch.float32)


def _copy_master(master: Tensor, parameter: Tensor) -> None:
    """Round a master to its parameter; a parameter that is its own master needs no copy."""
    if parameter.dtype != master.dtype:
        parameter.copy_(master)


class _Rule(ctypes.Structure):
    """`Constants` as the C++ kernel takes them."""

    _fields_ = [(name, ctypes.c_float) for name in Constants._fields]


def _update_native(
    constants: Constants,
    weight: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    parameter: Tensor,
) -> bool:
    """Update by the C++ kernel, which also writes a bf16 parameter; False where it cannot."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    library = load_library()
    if library is None or gradient.dtype not in DTYPE_SUFFIX or parameter.dtype not in DTYPE_SUFFIX:
        return False
    if not _same_layout(weight, velocity, parameter):
        return False
    if not _same_layout(weight, gradient):
        gradient = torch.empty_like(weight, dtype=gradient.dtype).copy_(gradient)
    update = getattr(library, f"sgd_update_{DTYPE_SUFFIX[gradient.dtype]}")
    update(
        ctypes.byref(_Rule(*constants)),
        data_pointer(weight),
        data_pointer(velocity),
        data_pointer(gradient),
        data_pointer(None if parameter.dtype == torch.float32 else parameter),
        ctypes.c_int64(weight.numel()),
    )
    return True


def _update_plain(constants: Constants, weight: Tensor, velocity: Tensor, gradient: Tensor) -> None:
    """Update by torch's own operations; on a CPU chunk by chunk, so that four passes hit the cache.

    On a GPU, launching many small kernels would cost more than it saves.
    """
    momentum, scaled_decay, lr = constants
    chunks: Any = [(weight, velocity, gradient)]
    if weight.device.type == "cpu" and _same_layout(weight, velocity, gradient):
        flat = [_flatten(tensor).split(CHUNK) for tensor in (weight, velocity, gradient)]
        chunks = zip(*flat, strict=True)
    for w, v, g in chunks:
        w.add_(v.mul_(momentum).add_(w, alpha=-scaled_decay).add_(g, alpha=-lr))


def _same_layout(*tensors: Tensor) -> bool:
    """Whether tensors lie in memory in the same order, without gaps."""
    return all(
        tensor.stride() == tensors[0].stride()
        and tensor.nbytes == tensor.untyped_storage().nbytes()
        for tensor in tensors
    )


def _flatten(tensor: Tensor) -> Tensor:
    """Return a dense tensor as one axis, in its order in memory."""
    return tensor.as_strided((tensor.numel(),), (1,))
