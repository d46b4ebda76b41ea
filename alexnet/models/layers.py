"""The modules that torch does not have: response normalization, dropout by counted draws, others.

Everything else in the network is torch's own. Shapes are (N, C, H, W) for feature maps and
(N, features) for the fully connected layers.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.models.response_norm import response_norm, spatial_response_norm
from alexnet.recipes.layers import Conv

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

# torch.fx records these as one call each: they look at devices and draw random numbers.
torch.fx.wrap("response_norm")
torch.fx.wrap("spatial_response_norm")
torch.fx.wrap("dropout_train")
torch.fx.wrap("locally_connected")


class Conv2dCeil(nn.Conv2d):
    """Convolution with zeros past the bottom and the right edge, so that its size rounds up."""

    extra_padding: tuple[int, int] = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = self.extra_padding
        return super().forward(F.pad(x, (0, right, 0, bottom)))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, extra_padding={self.extra_padding}"


def conv2d(spec: Conv, in_channels: int, extra_padding: tuple[int, int]) -> nn.Conv2d:
    """Build the convolution of a spec; `extra_padding`: zeros past the bottom and right edge."""
    kind = Conv2dCeil if any(extra_padding) else nn.Conv2d
    conv = kind(
        in_channels,
        spec.out_channels,
        spec.kernel_size,
        stride=spec.stride,
        padding=spec.padding,
        groups=spec.groups,
    )
    if isinstance(conv, Conv2dCeil):
        conv.extra_padding = extra_padding
    return conv


class GroupedLinear(nn.Module):
    """Fully connected layer whose groups of units see their own share of the inputs only."""

    def __init__(self, in_features: int, out_features: int, groups: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_features, in_features // groups))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, x: Tensor) -> Tensor:
        return grouped_linear(x, self.weight, self.bias, self.groups)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"groups={self.groups}"
        )


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Return x (N, inputs) @ weight (units, inputs / groups): each group sees its share of x."""
    if groups == 1:
        return F.linear(x, weight, bias)
    shares = x.unflatten(1, (groups, -1))  # (N, groups, inputs / groups)
    weights = weight.unflatten(0, (groups, -1))
    return torch.einsum("ngi,gui->ngu", shares, weights).flatten(1) + bias


def linear(in_features: int, out_features: int, groups: int) -> nn.Module:
    """Build a fully connected layer; torch's own unless its units are grouped."""
    if groups == 1:
        return nn.Linear(in_features, out_features)
    return GroupedLinear(in_features, out_features, groups)


class LocallyConnected2d(nn.Module):
    """Convolution without shared weights, stride 1.

    Weight: (channels, rows, columns, input channels, kernel rows, kernel columns); bias: one number
    for each output.
    """

    def __init__(self, weight_shape: tuple[int, ...], padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = nn.Parameter(torch.empty(weight_shape[:3]))

    def forward(self, x: Tensor) -> Tensor:
        return locally_connected(x, self.weight, self.bias, self.padding)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, padding={self.padding}"


def locally_connected(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """Return x (N, C, H, W) through weight (channels, rows, columns, C, k, k) and its bias."""
    _, rows, columns, _, size, _ = weight.shape
    windows = F.unfold(x, size, padding=padding)  # (N, C k k, rows columns)
    windows = windows.unflatten(2, (rows, columns))
    return torch.einsum("nirc,mrci->nmrc", windows, weight.flatten(3)) + bias


class LocalResponseNorm(nn.Module):
    """Response normalization across channels (paper, section 3.3), within each of `towers` parts.

    Unlike torch's, alpha is not divided by n.
    """

    def __init__(self, n: int, k: float, alpha: float, beta: float, towers: int = 1) -> None:
        super().__init__()
        self.n = n
        self.k = k
        self.alpha = alpha
        self.beta = beta
        self.towers = towers

    def forward(self, x: Tensor) -> Tensor:
        return response_norm(x, self.n, self.k, self.alpha, self.beta, self.towers)

    def extra_repr(self) -> str:
        return (
            f"n={self.n}, k={self.k:g}, alpha={self.alpha:g}, beta={self.beta:g}, "
            f"towers={self.towers}"
        )


class SpatialResponseNorm(nn.Module):
    """The same formula over the n x n pixels around each, in its own channel (the 2012 program)."""

    def __init__(self, n: int, k: float, alpha: float, beta: float) -> None:
        super().__init__()
        self.n = n
        self.k = k
        self.alpha = alpha
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return spatial_response_norm(x, self.n, self.k, self.alpha, self.beta)

    def extra_repr(self) -> str:
        return f"n={self.n}, k={self.k:g}, alpha={self.alpha:g}, beta={self.beta:g}"


class Dropout(nn.Module):
    """Dropout (paper, section 4.2) whose draws are a hash of (the image's key, layer, unit).

    `rescale`: outputs are multiplied by 1 - p at "test", as in 2012, or divided by it in "train".
    `index`: the layer's number in the network. `shard`: which of how many equal parts of the
    layer's units these are, so that they are numbered as in the whole layer.
    """

    def __init__(
        self,
        p: float,
        rescale: Literal["test", "train"] = "test",
        index: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.p = p
        self.rescale = rescale
        self.index = index
        self.shard = shard

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Map x (N, ...) to the same shape; `keys` (N,) int32 name the draws: None is random."""
        if not self.training:
            return self.at_test(x)
        return dropout_train(x, keys, self.p, self.rescale, self.index, self.shard)

    def at_test(self, x: Tensor) -> Tensor:
        """Return x with every unit working, scaled by 1 - p if training did not make up for it."""
        return x * (1 - self.p) if self.rescale == "test" else x

    def extra_repr(self) -> str:
        return f"p={self.p}, rescale at {self.rescale}"


def dropout_train(
    x: Tensor,
    keys: Tensor | None,
    p: float,
    rescale: Literal["test", "train"],
    index: int,
    shard: tuple[int, int] = (0, 1),
) -> Tensor:
    """Set each unit of x (N, ...) to zero with probability p, by a hash of (key, layer, unit)."""
    if keys is None:
        size = (x.shape[0],)
        keys = torch.randint(-(2**31), 2**31, size, dtype=torch.int32, device=x.device)
    count = x[0].numel()
    part, parts = shard
    first = (index * parts + part) * count
    units = _hash32(torch.arange(count, dtype=torch.int32, device=x.device) + first)
    draws = _hash32(units ^ keys[:, None])  # (N, units), uniform over all int32
    mask = (draws >= int(p * 2**32) - 2**31).view(x.shape)
    return x * mask if rescale == "test" else x * mask / (1 - p)


def _hash32(word: Tensor) -> Tensor:
    """Mix 32 bits with two multiplications (constants found by C. Wellons' search).

    Shifts are made unsigned by masks.
    """
    word = (word ^ ((word >> 16) & 0xFFFF)) * 0x7FEB352D
    word = (word ^ ((word >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return word ^ ((word >> 16) & 0xFFFF)
