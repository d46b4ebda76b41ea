"""The notation of a network: one frozen value per layer, listed in the order in which data flows.

A network is a plain tuple of these specs, so two configurations can be compared by eye, printed,
hashed and stored with their weights. Each spec says everything about its type of layer in one
place: the shape of its output, the shapes of its parameters, the module that computes it, and how
it is described. Nothing here imports torch until a module is built. Shapes are channels x height x
width.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal, NamedTuple

from alexnet.core.errors import UsageError, require

if TYPE_CHECKING:
    from torch import nn

    from alexnet.models.shapes import LayerShape
    from alexnet.recipes.recipe import Network

Shape = tuple[int, int, int]  # channels, height, width
InitStd = float | Literal["kaiming", "torch"]

NUM_CLASSES = 0  # out_features of the last layer: as many as there are classes
# Normal with standard deviation sqrt(2 / fan_in), He et al. 2015
KAIMING: Literal["kaiming"] = "kaiming"
# PyTorch's own: weights and biases uniform within 1 / sqrt(fan_in)
TORCH: Literal["torch"] = "torch"


def output_size(side: int, kernel_size: int, stride: int, ceil_mode: bool) -> int:
    """Return how many windows `stride` apart fit along a side; 0 where not even one does.

    With `ceil_mode` the last window may run past the edge, but none begins outside.
    """
    rest = side - kernel_size
    if rest < 0:
        return 0
    if not ceil_mode:
        return 1 + rest // stride
    return 1 + min(-(-rest // stride), (side - 1) // stride)


class Window(NamedTuple):
    """The rectangle of a layer's input that one output sees, and how the next one is placed."""

    height: int = 1
    width: int = 1
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class LayerSpec(ABC):
    """What a layer says of itself; by default no parameters, the output shaped as the input."""

    def module_name(self, block: str) -> str:
        """Return what the module is called; `block`: the number of the last weighted layer."""
        return str(getattr(self, "name", ""))

    def out_shape(self, in_shape: Shape, network: "Network", num_classes: int) -> Shape:
        """Return the output's shape; a side of 0 where the input is too small. UsageError."""
        return in_shape

    def weight_shape(self, in_shape: Shape, out_shape: Shape) -> tuple[int, ...]:
        """Return the weight's shape; () without parameters."""
        return ()

    def bias_shape(self, out_shape: Shape) -> tuple[int, ...]:
        """Return the bias's shape: one number a channel or unit; () without parameters."""
        return ()

    def fan_in(self, in_shape: Shape) -> int:
        """Return how many values each output is computed from; 0 without parameters."""
        return 0

    def window(self, in_shape: Shape) -> Window:
        """Return the positions that an output sees; by default only its own."""
        return Window()

    @abstractmethod
    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        """Build the module that computes this layer, its parameters not yet filled."""

    @abstractmethod
    def describe(self) -> str:
        """Describe the layer in a few words."""


@dataclass(frozen=True)
class Conv(LayerSpec):
    """Convolution: `out_channels` kernels, each seeing 1/groups of the input channels.

    The weights begin as N(0, init_std), the biases as the constant init_bias.
    """

    name: str
    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    init_std: InitStd = 0.01
    init_bias: float = 0.0

    def __post_init__(self) -> None:
        least = min(self.out_channels, self.kernel_size, self.stride, self.groups, self.padding + 1)
        require(
            least >= 1,
            f"{self.name}: out_channels={self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, groups={self.groups}, padding={self.padding}: "
            "expected 1 or more of each, padding 0 or more",
        )

    def out_shape(self, in_shape: Shape, network: "Network", num_classes: int) -> Shape:
        channels, height, width = in_shape
        if channels % self.groups or self.out_channels % self.groups:
            raise UsageError(
                f"{self.name}: {channels} -> {self.out_channels} channels cannot be split into "
                f"{self.groups} groups; choose numbers that {self.groups} divides"
            )
        rows, columns = (self._output_side(side, network) for side in (height, width))
        return self.out_channels, rows, columns

    def _output_side(self, side: int, network: "Network") -> int:
        padded = side + 2 * self.padding
        return output_size(padded, self.kernel_size, self.stride, network.conv_ceil_mode)

    def extra_padding(self, in_shape: Shape, out_shape: Shape) -> tuple[int, int]:
        """Return the zeros needed past the bottom and the right edge: rounding up needs some."""
        bottom, right = (
            max(0, (out - 1) * self.stride + self.kernel_size - side - 2 * self.padding)
            for out, side in zip(out_shape[1:], in_shape[1:], strict=True)
        )
        return bottom, right

    def weight_shape(self, in_shape: Shape, out_shape: Shape) -> tuple[int, ...]:
        return self.out_channels, in_shape[0] // self.groups, self.kernel_size, self.kernel_size

    def bias_shape(self, out_shape: Shape) -> tuple[int, ...]:
        return out_shape[:1]

    def fan_in(self, in_shape: Shape) -> int:
        return in_shape[0] // self.groups * self.kernel_size**2

    def window(self, in_shape: Shape) -> Window:
        return Window(self.kernel_size, self.kernel_size, self.stride, self.padding)

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from alexnet.models import layers

        extra_padding = self.extra_padding(shape.in_shape, shape.out_shape)
        return layers.conv2d(self, shape.in_shape[0], extra_padding)

    def describe(self) -> str:
        kernels = f"{self.out_channels} kernels of {self.kernel_size} × {self.kernel_size}"
        extras = [f"stride {self.stride}"] if self.stride > 1 else []
        extras += [f"padding {self.padding}"] if self.padding else []
        extras += [f"{self.groups} groups"] if self.groups > 1 else []
        return ", ".join([f"convolution, {kernels}", *extras])


@dataclass(frozen=True)
class LocallyConnected(LayerSpec):
    """Convolution without shared weights: every position of the output has its own; stride 1."""

    name: str
    out_channels: int
    kernel_size: int
    padding: int = 0
    init_std: InitStd = 0.01
    init_bias: float = 0.0

    def __post_init__(self) -> None:
        require(
            min(self.out_channels, self.kernel_size, self.padding + 1) >= 1,
            f"{self.name}: out_channels={self.out_channels}, kernel_size={self.kernel_size}, "
            f"padding={self.padding}: expected 1 or more, padding 0 or more",
        )

    def out_shape(self, in_shape: Shape, network: "Network", num_classes: int) -> Shape:
        rows, columns = (
            output_size(side + 2 * self.padding, self.kernel_size, 1, network.conv_ceil_mode)
            for side in in_shape[1:]
        )
        return self.out_channels, rows, columns

    def weight_shape(self, in_shape: Shape, out_shape: Shape) -> tuple[int, ...]:
        """(channels, rows, columns of the output, channels of the input, kernel rows, columns)."""
        return *out_shape, in_shape[0], self.kernel_size, self.kernel_size

    def bias_shape(self, out_shape: Shape) -> tuple[int, ...]:
        return out_shape  # positions share nothing

    def fan_in(self, in_shape: Shape) -> int:
        return in_shape[0] * self.kernel_size**2

    def window(self, in_shape: Shape) -> Window:
        return Window(self.kernel_size, self.kernel_size, 1, self.padding)

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from alexnet.models import layers

        weight_shape = self.weight_shape(shape.in_shape, shape.out_shape)
        return layers.LocallyConnected2d(weight_shape, self.padding)

    def describe(self) -> str:
        kernels = f"{self.out_channels} kernels of {self.kernel_size} × {self.kernel_size}"
        padding = f", padding {self.padding}" if self.padding else ""
        return f"locally connected, {kernels} at each position{padding}"


@dataclass(frozen=True)
class Linear(LayerSpec):
    """Fully connected layer on the flattened input, in the order channels, rows, columns.

    With groups, each group of units sees the same share of the inputs only. It begins as a Conv.
    """

    name: str
    out_features: int
    groups: int = 1
    init_std: InitStd = 0.01
    init_bias: float = 0.0

    def out_shape(self, in_shape: Shape, network: "Network", num_classes: int) -> Shape:
        units = num_classes if self.out_features == NUM_CLASSES else self.out_features
        if prod(in_shape) % self.groups or self.out_features % self.groups:
            raise UsageError(
                f"{self.name}: {prod(in_shape)} inputs, {units} units cannot be split into "
                f"{self.groups} groups; choose numbers that {self.groups} divides"
            )
        return units, 1, 1

    def weight_shape(self, in_shape: Shape, out_shape: Shape) -> tuple[int, ...]:
        return out_shape[0], prod(in_shape) // self.groups

    def bias_shape(self, out_shape: Shape) -> tuple[int, ...]:
        return out_shape[:1]

    def fan_in(self, in_shape: Shape) -> int:
        return prod(in_shape) // self.groups

    def window(self, in_shape: Shape) -> Window:
        return Window(*in_shape[1:])

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from alexnet.models import layers

        return layers.linear(prod(shape.in_shape), shape.out_shape[0], self.groups)

    def describe(self) -> str:
        return "fully connected" + (f", {self.groups} groups" if self.groups > 1 else "")


@dataclass(frozen=True)
class LocalResponseNorm(LayerSpec):
    """Response normalization across channels (paper, section 3.3).

    x / (k + alpha * sum of squares of the n channels centered on x's own) ** beta; alpha is not
    divided by n. `scope` says whose channels count: those of the same `tower`, or of the `layer`.
    """

    name: str
    n: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    scope: Literal["tower", "layer"] = "layer"

    def __post_init__(self) -> None:
        require(
            self.n % 2 == 1, f"{self.name}: n={self.n}: expected an odd n, to center the window"
        )

    def out_shape(self, in_shape: Shape, network: "Network", num_classes: int) -> Shape:
        if self.scope == "tower" and in_shape[0] % network.towers:
            raise UsageError(
                f"{self.name}: {in_shape[0]} channels cannot be shared by {network.towers} towers"
            )
        return in_shape

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from alexnet.models import layers

        towers = network.towers if self.scope == "tower" else 1
        return layers.LocalResponseNorm(self.n, self.k, self.alpha, self.beta, towers)

    def describe(self) -> str:
        constants = f"k = {self.k:g}, α = {self.alpha:g}, β = {self.beta:g}"
        return f"response norm over {self.n} channels of the {self.scope}, {constants}"


@dataclass(frozen=True)
class SpatialResponseNorm(LayerSpec):
    """The same formula over the n x n pixels around x in its own channel.

    It is in the 2012 program, not in the paper.
    """

    name: str
    n: int = 5
    k: float = 1.0
    alpha: float = 1e-3 / 25
    beta: float = 0.75

    def __post_init__(self) -> None:
        require(
            self.n % 2 == 1, f"{self.name}: n={self.n}: expected an odd n, to center the window"
        )

    def window(self, in_shape: Shape) -> Window:
        return Window(self.n, self.n, 1, self.n // 2)

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from alexnet.models import layers

        return layers.SpatialResponseNorm(self.n, self.k, self.alpha, self.beta)

    def describe(self) -> str:
        constants = f"k = {self.k:g}, α = {self.alpha:g}, β = {self.beta:g}"
        return f"response norm over {self.n} × {self.n} pixels, {constants}"


@dataclass(frozen=True)
class Pool(LayerSpec):
    """The `max` or the `avg` of each window; windows overlap when stride < kernel_size (3.4)."""

    name: str
    kernel_size: int = 3
    stride: int = 2
    mode: Literal["max", "avg"] = "max"

    def __post_init__(self) -> None:
        require(
            min(self.kernel_size, self.stride) >= 1,
            f"{self.name}: kernel_size={self.kernel_size}, stride={self.stride}: "
            "expected 1 or more of each",
        )

    def out_shape(self, in_shape: Shape, network: "Network", num_classes: int) -> Shape:
        rows, columns = (
            output_size(side, self.kernel_size, self.stride, network.pool_ceil_mode)
            for side in in_shape[1:]
        )
        return in_shape[0], rows, columns

    def window(self, in_shape: Shape) -> Window:
        return Window(self.kernel_size, self.kernel_size, self.stride)

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from torch import nn

        # at the edge, the average is of the part of a window that lies inside, as in 2012
        pool = nn.MaxPool2d if self.mode == "max" else nn.AvgPool2d
        return pool(self.kernel_size, self.stride, ceil_mode=network.pool_ceil_mode)

    def describe(self) -> str:
        kind = "max" if self.mode == "max" else "average"
        return f"{kind} pooling, {self.kernel_size} × {self.kernel_size}, stride {self.stride}"


@dataclass(frozen=True)
class Activation(LayerSpec):
    """A function of each unit's value: relu is max(0, x) (paper, section 3.1)."""

    function: Literal["relu", "tanh", "sigmoid"] = "relu"

    def module_name(self, block: str) -> str:
        return f"{self.function}{block}"

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from alexnet.models import layers

        return layers.ACTIVATIONS[self.function]()

    def describe(self) -> str:
        return self.function


RELU = Activation("relu")
TANH = Activation("tanh")
SIGMOID = Activation("sigmoid")


@dataclass(frozen=True)
class Dropout(LayerSpec):
    """Each unit is set to zero with probability `p` in training (paper, section 4.2).

    `rescale` says when the missing share is made up for: at "test" the outputs are multiplied by
    1 - p, as in 2012; in "train" the remaining ones are divided by it, as is usual today.
    """

    p: float = 0.5
    rescale: Literal["test", "train"] = "test"

    def __post_init__(self) -> None:
        require(0 <= self.p < 1, f"dropout p={self.p}: expected 0 or more and less than 1")

    def module_name(self, block: str) -> str:
        return f"drop{block}"

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from alexnet.models import layers

        return layers.Dropout(self.p, self.rescale, shape.index, shape.shard)

    def describe(self) -> str:
        return f"dropout of {self.p:g}, rescaled at {self.rescale} time"


@dataclass(frozen=True)
class AdaptiveAvgPool(LayerSpec):
    """Averages or stretches feature maps to the size that the recipe's own input gives.

    Maps that have that size already stay as they are. It lets a net that was built for 227 pixels
    see smaller images for a while, with the same fully connected weights.
    """

    def module_name(self, block: str) -> str:
        return "avgpool"

    def module(self, shape: "LayerShape", network: "Network") -> "nn.Module":
        from torch import nn

        return nn.AdaptiveAvgPool2d(shape.out_shape[1:])

    def describe(self) -> str:
        return "averaged to this size while images are smaller"


Layer = (
    Conv
    | LocallyConnected
    | Linear
    | LocalResponseNorm
    | SpatialResponseNorm
    | Pool
    | Activation
    | Dropout
    | AdaptiveAvgPool
)
WeightedLayer = Conv | LocallyConnected | Linear
