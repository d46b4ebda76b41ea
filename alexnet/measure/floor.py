"""The floor: the least time a machine could take for a piece of work, from its operations, its bytes and the machine's ceilings.

Operations are counted from the network's description, two for every multiply-add; bytes are those that have to pass between
memory and processor even if every relu, norm and dropout were done on the way. Both parts are added as if neither overlapped
the other: perfect overlap would leave the larger one alone, and data that stays in a large cache can beat the part of memory.
"""

from dataclasses import dataclass
from math import prod

from alexnet.network.accounting import Cost, costs
from alexnet.recipes.recipe import Network

FLOAT = 4  # bytes of a weight and of its velocity, whatever the network computes in
UPDATE = 5  # streams of an update: gradient, weight and velocity read, weight and velocity written
TRAINED = 6  # streams of an output in training: written, read twice (forward, weights' gradient); its gradient the same
INFERRED = 2  # written, and read by the next layer
NORM = 5  # streams of a norm forward and backward: x read, y written; x and y's gradient read, x's gradient written
STORED = ("conv", "local", "full", "pool")  # the layers whose outputs are kept; all others work on the way between them


@dataclass(frozen=True)
class Needs:
    """What one repetition of a piece of work cannot do without, and in words how that was counted."""

    name: str
    operations: int  # floating-point, two for a multiply-add
    bytes: int  # read and written
    counted: str


@dataclass(frozen=True)
class Ceilings:
    """What the machine gives, measured in the same run."""

    operations: float  # a second: the better of a matrix product and a convolution, in the precision used
    bytes: float  # a second, read and written: a copy in memory

    def seconds(self, needs: Needs) -> float:
        """The floor of a piece of work."""
        return sum(self.parts(needs))

    def parts(self, needs: Needs) -> tuple[float, float]:
        """Its two parts in seconds: operations, memory."""
        return needs.operations / self.operations, needs.bytes / self.bytes


def training(name: str, network: Network, classes: int, batch: int, width: int) -> Needs:
    """A training step of `batch` pictures with values of `width` bytes."""
    layers = costs(network, classes)
    counted = (
        "counted: 2 operations a multiply-add, three times the forward pass's less the first layer's input gradient; "
        f"{UPDATE * FLOAT} bytes a parameter for the update, {TRAINED} x {width} bytes an output of a weighted layer or a pool"
    )
    return Needs(
        f"a step of {name}, {batch} pictures",
        2 * batch * training_multiply_adds(layers),
        update_bytes(layers) + TRAINED * width * batch * stored_values(layers),
        counted,
    )


def inference(name: str, network: Network, classes: int, batch: int, width: int) -> Needs:
    """The logits of `batch` pictures with weights and values of `width` bytes."""
    layers = costs(network, classes)
    return Needs(
        f"{name}, {batch} picture{'s' if batch > 1 else ''}",
        2 * batch * sum(cost.multiply_adds for cost in layers),
        width * (sum(cost.parameters for cost in layers) + INFERRED * batch * stored_values(layers)),
        "counted: 2 operations a multiply-add; "
        f"each weight once, {INFERRED} x {width} bytes an output of a weighted layer or a pool",
    )


def norm(name: str, shape: tuple[int, ...], width: int) -> Needs:
    """A norm of a tensor forward and backward: only memory counts, there is little to compute."""
    return Needs(
        f"{name}, {' x '.join(map(str, shape))}",
        0,
        NORM * width * prod(shape),
        f"counted: {NORM} x {width} bytes a value: x read, y written; x and y's gradient read, x's gradient written",
    )


def crops(batch: int, shape: tuple[int, int, int]) -> Needs:
    """A batch of crops: each byte read and written once; what decoding costs at least nobody knows."""
    return Needs(
        f"{batch} crops of {' x '.join(map(str, shape))}",
        0,
        2 * batch * prod(shape),
        "counted: each byte of a crop read and written once, as if nothing had to be decoded",
    )


def update_bytes(layers: tuple[Cost, ...]) -> int:
    """What an update reads and writes."""
    return UPDATE * FLOAT * sum(cost.parameters for cost in layers)


def training_multiply_adds(layers: tuple[Cost, ...]) -> int:
    """Those of one picture's forward and backward pass: each layer three times, but nobody wants the pixels' gradient."""
    every = [cost.multiply_adds for cost in layers if cost.multiply_adds]
    return 3 * sum(every) - every[0]


def stored_values(layers: tuple[Cost, ...]) -> int:
    """The outputs of one picture that have to go through memory: those of weighted layers and of pools."""
    return sum(prod(cost.shape) for cost in layers if cost.kind in STORED)
