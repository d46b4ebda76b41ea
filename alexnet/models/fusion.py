"""Rewrite a model so that neighboring layers run as one operation: the same sums, in fewer passes.

`fuse(model)` joins a response norm with the relu before it, the max pool and the relu after it; a
fully connected layer with the resizing of feature maps before it; and lets a relu write over its
input where nothing else needs it. The fused module holds the model's own modules and parameters,
so it can be made at any time and costs nothing to keep; the model stays as it is, for hooks and for
eyes.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import Dropout, LocalResponseNorm
from alexnet.models.response_norm import response_norm

WIDEST_POOL = 15  # positions in its window still fit into a byte, with one to spare for "none"
# Their gradients need no output of theirs, so a relu after them may write over it.
OVERWRITABLE = nn.Conv2d | nn.Linear | nn.MaxPool2d | nn.AvgPool2d

torch.fx.wrap("response_norm")


class FusedResponseNorm(nn.Module):
    """[relu,] response norm [, max pool] [, relu] as one operation."""

    def __init__(
        self,
        norm: LocalResponseNorm,
        relu_before: bool = False,
        pool: nn.MaxPool2d | None = None,
        relu_after: bool = False,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.relu_before = relu_before
        self.pool = pool
        self.relu_after = relu_after

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        return response_norm(
            x,
            norm.n,
            norm.k,
            norm.alpha,
            norm.beta,
            norm.towers,
            relu_before=self.relu_before,
            pool=self._window(),
            relu_after=self.relu_after,
        )

    def _window(self) -> tuple[int, int, bool] | None:
        """The pool's kernel size, stride and ceil mode."""
        if self.pool is None:
            return None
        return _integer(self.pool.kernel_size), _integer(self.pool.stride), self.pool.ceil_mode


class FusedLinear(nn.Module):
    """[resizing of feature maps to `map_size`,] flattening, a fully connected layer."""

    def __init__(self, linear: Any, map_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.linear = linear
        self.map_size = map_size

    def forward(self, x: Tensor) -> Tensor:
        if self.map_size is None or x.shape[2:] == self.map_size:
            return self.linear(x.flatten(1))
        weight = fold_resize(self.linear.weight, self.map_size, tuple(x.shape[2:]))
        return F.linear(x.flatten(1), weight, self.linear.bias)


def fold_resize(weight: Tensor, built_size: tuple[int, int], map_size: tuple[int, ...]) -> Tensor:
    """Return a linear layer's weight (units, C H W), built for H x W maps, for (h, w) maps.

    The same as to resize the maps, which is a product with a matrix, but it is the weights that are
    multiplied: (units, C h w). Of the 3 x 3 pixels of small maps, each is then used once instead of
    four times.
    """
    pixels = torch.eye(prod(map_size), dtype=weight.dtype, device=weight.device).view(
        -1, 1, *map_size
    )
    resized = F.adaptive_avg_pool2d(pixels, built_size).flatten(
        1
    )  # (h w, H W): where each pixel goes
    return (weight.view(-1, prod(built_size)) @ resized.T).view(len(weight), -1)


class FusedAlexNet(nn.Module):
    """A model as fused steps; `starts`: the index of each step's first layer in the network."""

    def __init__(self, steps: Sequence[nn.Module], starts: Sequence[int]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.starts = tuple(starts)

    def forward(self, images: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits (N, num_classes) of images (N, C, H, W); `keys`: see AlexNet.forward."""
        x = images
        for step in self.steps:
            x = run_step(step, x, keys)
        return x


def run_step(step: nn.Module, x: Tensor, keys: Tensor | None) -> Tensor:
    """Run one fused step; only dropout needs the images' keys."""
    return step(x, keys) if isinstance(step, Dropout) else step(x)


def fuse(model: AlexNet) -> FusedAlexNet:
    """Return the model as fused steps over its own modules and parameters, in the same mode."""
    indices = {name: shape.index for name, shape in zip(model.names, model.shapes, strict=True)}
    children = list(model.named_children())
    steps: list[nn.Module] = []
    starts: list[int] = []
    position = 0
    while position < len(children):
        names, modules = zip(*children[position:], strict=True)
        before = children[position - 1][1] if position else None
        step, count = _first_step(modules, before)
        steps.append(step)
        starts.append(min(indices[name] for name in names[:count] if name in indices))
        position += count
    return FusedAlexNet(steps, starts).train(model.training)


def _first_step(modules: tuple[nn.Module, ...], before: nn.Module | None) -> tuple[nn.Module, int]:
    """Return the step that these modules begin with, and how many of them it takes."""
    norm, count = _response_norm(modules)
    if norm is not None:
        return norm, count
    match modules:
        case (nn.AdaptiveAvgPool2d() as resize, nn.Flatten(), nn.Linear() as linear, *_):
            return FusedLinear(linear, _map_size(resize)), 3
        case (nn.Flatten(), linear, *_):
            return FusedLinear(linear), 2
        case (nn.ReLU(), *_) if isinstance(before, OVERWRITABLE):
            return nn.ReLU(inplace=True), 1
    return modules[0], 1


def _response_norm(modules: tuple[nn.Module, ...]) -> tuple[FusedResponseNorm | None, int]:
    """Return the norm with its neighbors that these modules begin with, and how many it takes."""
    count = 0
    relu_before = isinstance(modules[0], nn.ReLU)
    count += relu_before
    if count == len(modules) or not isinstance(modules[count], LocalResponseNorm):
        return None, 0
    norm: Any = modules[count]
    count += 1
    pool: Any = modules[count] if count < len(modules) else None
    if not (isinstance(pool, nn.MaxPool2d) and _integer(pool.kernel_size) <= WIDEST_POOL):
        pool = None
    count += pool is not None
    relu_after = count < len(modules) and isinstance(modules[count], nn.ReLU)
    count += relu_after
    return FusedResponseNorm(norm, relu_before, pool, relu_after), count


def _map_size(resize: nn.AdaptiveAvgPool2d) -> tuple[int, int]:
    """Return the (height, width) that feature maps are resized to; torch allows one number."""
    size: Any = resize.output_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _integer(size: int | tuple[int, ...] | None) -> int:
    """Return a square window's side; torch allows a pair."""
    if isinstance(size, tuple):
        return size[0]
    return int(size or 0)
