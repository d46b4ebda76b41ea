"""The network, built from its description: a walk along the layers in the order in which data flows.

`network(batch)` gives fc8, the logits; `network.stations(batch)` the named intermediates: conv1...conv5 raw, norms and pools as
they come out, fc6 and fc7 after relu and at test scaling, fc8, prob. Parameters are called conv1.weight, conv1.bias ... fc8.bias,
grouped layers in torch's layout with the towers' halves in order. Dropout is counted: a unit's draw is a hash of (the
picture's key, layer, unit), so it does not depend on who computes it. It knows nothing of pictures, rates or files.
"""

from collections.abc import Callable
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.errors import UsageError
from alexnet.network.blocks import Block, Fitted, Placed, joined
from alexnet.network.geometry import Planned, bias_shape, inputs_of_a_unit, plan, weight_shape
from alexnet.network.response_norm import norm_across_maps, norm_over_space
from alexnet.randomness import key
from alexnet.recipes.layers import (
    KAIMING,
    TORCH,
    Activation,
    Conv,
    Dropout,
    Fit,
    Full,
    Local,
    Norm,
    Pool,
    Shape,
    SpatialNorm,
    Weighted,
)
from alexnet.recipes.recipe import Network

Rewritable = Conv | Full | Pool  # their gradients need no output of theirs, so a relu behind them may write over it
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class Weights(nn.Module):
    """The weight and bias of one layer, not yet filled."""

    def __init__(self, shape: tuple[int, ...], bias: tuple[int, ...]) -> None:
        super().__init__()
        layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format  # pictures arrive as rows of pixels
        self.weight = nn.Parameter(torch.empty(shape, memory_format=layout))
        self.bias = nn.Parameter(torch.empty(bias))


class AlexNet(nn.Module):
    """The net of a description, for a number of classes; `start` or a model file fills its weights.

    `planned`: only these layers or shares of layers, where a net is cut among several devices; None: the whole net.
    """

    def __init__(self, description: Network, classes: int, planned: tuple[Planned, ...] | None = None) -> None:
        super().__init__()
        self.description = description
        self.classes = classes
        self.planned = plan(description, classes) if planned is None else planned
        self.joined = joined(self.planned)
        for step in self.planned:
            if isinstance(step.layer, Weighted):
                self.add_module(step.layer.name, Weights(weight_shape(step), bias_shape(step)))

    def forward(self, batch: Tensor, keys: Tensor | None = None) -> Tensor:
        """Logits (N, classes) of views (N, C, H, W). While training, `keys` (N,) int32 name the pictures' dropout draws."""
        if self.training and keys is None:
            keys = torch.randint(-(2**31), 2**31, (len(batch),), dtype=torch.int32, device=batch.device)
        x = batch
        for placed in self.joined:
            x = self.compute(placed, x, keys)
        return x

    def dense(self, batch: Tensor) -> Tensor:
        """Logits (N, classes, rows, columns) of pictures larger than the input: every full layer works as a convolution.

        The first one's weights are a kernel as large as the map it was planned for, the others' are 1 x 1.
        """
        x = batch
        for step in self.planned:
            if isinstance(step.layer, Full):
                weights, (channels, height, width) = self._weights(step.layer.name), step.takes
                kernel = weights.weight.view(-1, channels // step.layer.groups, height, width)
                x = F.conv2d(x, kernel, weights.bias, groups=step.layer.groups)
            elif isinstance(step.layer, Dropout):
                x = keep_all(x, step.layer)
            elif not isinstance(step.layer, Fit):
                x = self._apply_layer(step, x)
        return x

    @torch.no_grad()
    def stations(self, batch: Tensor) -> dict[str, Tensor]:
        """The named intermediates of views (N, C, H, W), at test scaling, in the order in which they arise."""
        found: dict[str, Tensor] = {}
        current = ""
        x = batch
        for step in self.planned:
            x = keep_all(x, step.layer) if isinstance(step.layer, Dropout) else self._apply_layer(step, x)
            name = getattr(step.layer, "name", "")
            if name or current in ("fc6", "fc7"):  # a hidden full layer's station lies behind its relu and dropout
                current = name or current
                found[current] = x
        found["prob"] = x.float().softmax(1)
        return found

    def compute(self, placed: Placed, x: Tensor, keys: Tensor | None) -> Tensor:
        """A layer or a block of them, for the output alone: nobody looks at what lies between."""
        match placed.does:
            case Block(norm, relu_before, pool, relu_after):
                window = None if pool is None else (pool.size, pool.stride, self.description.round_pool == "up")
                rule = norm.n, norm.k, norm.alpha, norm.beta, self._norm_towers(norm)
                return norm_across_maps(x, *rule, relu_before=relu_before, pool=window, relu_after=relu_after)
            case Fitted(full, planned):
                weights = self._weights(full.name)
                return F.linear(x.flatten(1), shrunk(weights.weight, planned, x.shape[2:]), weights.bias)
            case Planned(Dropout() as dropout, place=place, share=share):
                return drop(x, dropout, keys, place, share) if self.training else keep_all(x, dropout)
            case Planned(Activation("relu")) if placed.place and isinstance(self.planned[placed.place - 1].layer, Rewritable):
                return F.relu_(x)
            case step:
                return self._apply_layer(step, x)

    def _norm_towers(self, norm: Norm) -> int:
        return self.description.towers if norm.within == "tower" else 1

    def _weights(self, name: str) -> Weights:
        return cast(Weights, self.get_submodule(name))

    def _apply_layer(self, step: Planned, x: Tensor) -> Tensor:
        match step.layer:
            case Conv(name=name) as conv:
                weights = self._weights(name)
                down, right = step.overhang
                x = F.pad(x, (0, right, 0, down)) if right or down else x
                return F.conv2d(x, weights.weight, weights.bias, conv.stride, conv.pad, groups=conv.groups)
            case Full(name=name) as full:
                weights = self._weights(name)
                return grouped_linear(x.flatten(1), weights.weight, weights.bias, full.groups)
            case Local(name=name) as local:
                weights = self._weights(name)
                return locally_connected(x, weights.weight, weights.bias, local.pad)
            case Norm() as norm:
                return norm_across_maps(x, norm.n, norm.k, norm.alpha, norm.beta, self._norm_towers(norm))
            case SpatialNorm() as norm:
                return norm_over_space(x, norm.n, norm.k, norm.alpha, norm.beta)
            case Pool(takes="max") as pool:
                return F.max_pool2d(x, pool.size, pool.stride, ceil_mode=self.description.round_pool == "up")
            case Pool(takes="mean") as pool:  # of the part of a window that lies inside the maps, as in 2012
                return F.avg_pool2d(x, pool.size, pool.stride, ceil_mode=self.description.round_pool == "up")
            case Activation(function=function):
                return ACTIVATIONS[function](x)
            case Fit():
                return x if x.shape[1:] == step.gives else F.adaptive_avg_pool2d(x, step.gives[1:])
            case other:
                raise TypeError(f"no computation for the layer {other}")


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """x (N, inputs) through weight (units, inputs / groups): each share of the units sees its share of the inputs."""
    if groups == 1:
        return F.linear(x, weight, bias)
    parts = torch.einsum("ngi,gui->ngu", x.unflatten(1, (groups, -1)), weight.unflatten(0, (groups, -1)))
    return parts.flatten(1) + bias


def shrunk(weight: Tensor, planned: Shape, found: tuple[int, ...]) -> Tensor:
    """The weight (units, C H W) of a full layer for maps (h, w) where (H, W) are planned: (units, C h w).

    The same as to stretch the maps, which is a product with a matrix, but it is the weights that are multiplied: of the
    growing views' 3 x 3 pixels a map, each is then used once instead of four times.
    """
    wanted = planned[1:]
    if wanted == tuple(found):
        return weight
    pixels = torch.eye(prod(found), dtype=weight.dtype, device=weight.device).view(-1, 1, *found)
    stretched = F.adaptive_avg_pool2d(pixels, wanted).flatten(1)  # (h w, H W): what becomes of each pixel
    return (weight.view(-1, prod(wanted)) @ stretched.T).view(len(weight), -1)


def locally_connected(x: Tensor, weight: Tensor, bias: Tensor, pad: int) -> Tensor:
    """x (N, C, H, W) through weight (maps, rows, columns, C, k, k) and bias (maps, rows, columns)."""
    _, rows, columns, _, size, _ = weight.shape
    windows = F.unfold(x, size, padding=pad).unflatten(2, (rows, columns))  # (N, C k k, rows, columns)
    return torch.einsum("nirc,mrci->nmrc", windows, weight.flatten(3)) + bias


def keep_all(x: Tensor, dropout: Dropout) -> Tensor:
    """What a dropout layer does at test: every unit works, scaled by 1 - p if training did not make up for it."""
    return x * (1 - dropout.p) if dropout.rescale == "test" else x


def drop(x: Tensor, dropout: Dropout, keys: Tensor | None, layer: int, share: tuple[int, int] = (0, 1)) -> Tensor:
    """x (N, ...) with each unit silenced with probability p; the draw is a hash of (key, layer, unit).

    Where x holds only one of several equal `share`s of a layer's units, they are numbered as in the whole layer.
    """
    if keys is None:
        raise ValueError("dropout while training needs the pictures' keys")
    count = x[0].numel()
    (index, of) = share
    units = _mix32(torch.arange(count, dtype=torch.int32, device=x.device) + (layer * of + index) * count)
    draws = _mix32(units ^ keys[:, None])  # (N, units), uniform over all int32
    kept = (draws >= int(dropout.p * 2**32) - 2**31).view(x.shape)
    return x * kept if dropout.rescale == "test" else x * kept / (1 - dropout.p)


def _mix32(word: Tensor) -> Tensor:
    """A 32-bit finaliser with two multiplications (constants by C. Wellons' search); shifts are made unsigned by masks."""
    word = (word ^ ((word >> 16) & 0xFFFF)) * 0x7FEB352D
    word = (word ^ ((word >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return word ^ ((word >> 16) & 0xFFFF)


@torch.no_grad()
def start(network: AlexNet, seed: int) -> AlexNet:
    """The same network, started as its description asks; every layer has a generator of its own, named by (seed, layer)."""
    for step in network.planned:
        layer = step.layer
        if isinstance(layer, Weighted):
            weight, bias = network.get_parameter(f"{layer.name}.weight"), network.get_parameter(f"{layer.name}.bias")
            inputs = inputs_of_a_unit(step)
            generator = torch.Generator().manual_seed(int(key(seed, "start", layer.name)[0] >> 1))
            if layer.std == TORCH:
                for tensor in (weight, bias):
                    tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * inputs**-0.5)
            else:
                std = (2 / inputs) ** 0.5 if layer.std == KAIMING else layer.std
                weight.copy_(torch.randn(weight.shape, generator=generator) * std)
                bias.fill_(layer.bias)
    return network


@torch.no_grad()
def adopt(network: AlexNet, other: AlexNet) -> None:
    """Take over another net's layers of the same names; a new head, and layers the other does not have, stay as they started.

    UsageError where a layer other than the head has another shape, or none is shared.
    """
    theirs = dict(other.named_parameters())
    head = [step.layer.name for step in network.planned if isinstance(step.layer, Weighted)][-1]
    shared = [name for name, _ in network.named_parameters() if name in theirs]
    if not shared:
        raise UsageError(f"--init: the model shares no layer with this recipe; it has {', '.join(theirs)}")
    for name in shared:
        mine, found = network.get_parameter(name), theirs[name]
        if mine.shape == found.shape:
            mine.copy_(found)
        elif not name.startswith(f"{head}."):
            raise UsageError(
                f"--init: {name} is {tuple(found.shape)} in the model, {tuple(mine.shape)} in this recipe; use the model's"
            )
