"""The words a network is written in: one frozen value per layer, listed in the order in which data flows.

A network is a plain tuple of these, so two variants can be compared by eye, printed, hashed and stored beside their weights.
What a layer computes is in `network/alexnet.py`, which sizes result in `network/geometry.py`; nothing here knows of tensors.
"""

from dataclasses import dataclass
from typing import Literal

from alexnet.errors import must_be

Shape = tuple[int, int, int]  # channels, height, width
Rounding = Literal["up", "down"]

CLASSES = 0  # the units of the last layer: as many as there are classes
Start = float | Literal["kaiming", "torch"]
KAIMING: Literal["kaiming"] = "kaiming"  # a start of deviation sqrt(2 / inputs of a unit), He et al. 2015
TORCH: Literal["torch"] = "torch"  # PyTorch's own: weights and biases uniform within 1 / sqrt(inputs of a unit)


@dataclass(frozen=True)
class Conv:
    """Convolution: `maps` kernels of size x size, each seeing 1/groups of the input maps; started N(0, std), bias constant."""

    name: str
    maps: int
    size: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    std: Start = 0.01
    bias: float = 0.0

    def __post_init__(self) -> None:
        least = min(self.maps, self.size, self.stride, self.groups, self.pad + 1)
        must_be(least >= 1, f"{self.name}: maps, size, stride and groups must be 1 or more, pad 0 or more")


@dataclass(frozen=True)
class Local:
    """Convolution without sharing: every place of the output has kernels and biases of its own; stride 1."""

    name: str
    maps: int
    size: int
    pad: int = 0
    std: Start = 0.01
    bias: float = 0.0

    def __post_init__(self) -> None:
        must_be(min(self.maps, self.size, self.pad + 1) >= 1, f"{self.name}: maps and size must be 1 or more, pad 0 or more")


@dataclass(frozen=True)
class Full:
    """Fully connected layer on the flattened input, in the order channels, rows, columns; started as a Conv is.

    With groups, each share of the units sees the same share of the inputs only.
    """

    name: str
    units: int
    groups: int = 1
    std: Start = 0.01
    bias: float = 0.0


@dataclass(frozen=True)
class Norm:
    """Response norm across maps: x / (k + alpha * sum of squares of the n maps centred on x's own) ** beta (paper, section 3.3).

    `within` says whose maps count: those of the same `tower`, or of the whole layer.
    """

    name: str
    n: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    within: Literal["tower", "layer"] = "layer"

    def __post_init__(self) -> None:
        must_be(self.n % 2 == 1, f"{self.name}: n={self.n}; a window centred on each map needs an odd n")


@dataclass(frozen=True)
class SpatialNorm:
    """The same formula over the n x n pixels around x in its own map; in the 2012 program, not in the paper."""

    name: str
    n: int = 5
    k: float = 1.0
    alpha: float = 1e-3 / 25
    beta: float = 0.75

    def __post_init__(self) -> None:
        must_be(self.n % 2 == 1, f"{self.name}: n={self.n}; a window centred on each pixel needs an odd n")


@dataclass(frozen=True)
class Pool:
    """The `max` or the `mean` of each size x size window; windows overlap when stride < size (paper, section 3.4)."""

    name: str
    size: int = 3
    stride: int = 2
    takes: Literal["max", "mean"] = "max"

    def __post_init__(self) -> None:
        must_be(min(self.size, self.stride) >= 1, f"{self.name}: size and stride must be 1 or more")


@dataclass(frozen=True)
class Activation:
    """A function of each unit's value: relu is max(0, x) (paper, section 3.1)."""

    function: Literal["relu", "tanh", "sigmoid"] = "relu"


RELU, TANH, SIGMOID = Activation("relu"), Activation("tanh"), Activation("sigmoid")


@dataclass(frozen=True)
class Dropout:
    """Each unit is silenced with probability `p` while training (paper, section 4.2).

    `rescale` says when the missing share is made up for: at "test" the outputs are multiplied by 1 - p, as in 2012;
    while "train"ing the surviving ones are divided by it, as is usual today.
    """

    p: float = 0.5
    rescale: Literal["test", "train"] = "test"

    def __post_init__(self) -> None:
        must_be(0 <= self.p < 1, f"dropout p={self.p}: expected 0 or more and less than 1")


@dataclass(frozen=True)
class Fit:
    """Stretches maps to the size planned for the recipe's own input, by averaging: nothing happens to maps that have it already.

    It lets a net that was built for 227 pixels see smaller pictures for a while, with the same fully connected weights.
    """


Layer = Conv | Local | Full | Norm | SpatialNorm | Pool | Activation | Dropout | Fit
Weighted = Conv | Local | Full
