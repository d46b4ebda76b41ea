"""How weights begin: each layer as its spec says, from a generator named by (seed, layer)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from alexnet.core.rng import key
from alexnet.models.shapes import LayerShape, fan_in
from alexnet.recipes.layers import KAIMING, TORCH, WeightedLayer

if TYPE_CHECKING:
    from alexnet.models.alexnet import AlexNet


def init_weights(model: "AlexNet", seed: int) -> "AlexNet":
    """Fill a model's weights as its specs say; returns the same model."""
    for name, shape in zip(model.names, model.shapes, strict=True):
        init_layer(model.get_submodule(name), shape, seed)
    return model


@torch.no_grad()
def init_layer(module: nn.Module, shape: LayerShape, seed: int) -> None:
    """Fill a layer's weight and bias as its spec says; do nothing without parameters."""
    spec = shape.layer
    if not isinstance(spec, WeightedLayer):
        return
    weight = module.get_parameter("weight")
    bias = module.get_parameter("bias")
    generator = torch.Generator().manual_seed(int(key(seed, "start", spec.name)[0] >> 1))
    if spec.init_std == TORCH:
        for tensor in (weight, bias):
            tensor.copy_(_uniform(tensor, fan_in(shape) ** -0.5, generator))
        return
    std = (2 / fan_in(shape)) ** 0.5 if spec.init_std == KAIMING else float(spec.init_std)
    weight.copy_(torch.randn(weight.shape, generator=generator) * std)
    bias.fill_(spec.init_bias)


def _uniform(like: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(like.shape, generator=generator) * 2 - 1) * bound
