"""Roofline: a lower bound on the time of a workload, from its cost and the machine's limits.

The cost is the operations and the bytes that cannot be avoided. Operations are counted from the
network's description, two for a multiply-add; bytes are those that have to pass between memory and
processor even if every relu, norm and dropout were fused. The time is the sum of both parts, as if
they did not overlap: perfect overlap would leave the larger one alone, and data that stays in a
large cache can beat the memory part. The limits are measured in `machine_limits`.
"""

from dataclasses import dataclass
from math import prod

from alexnet.models.flops import LayerCost, layer_costs
from alexnet.models.shapes import infer_shapes
from alexnet.recipes.layers import Pool, WeightedLayer
from alexnet.recipes.recipe import Network

FLOAT_BYTES = 4  # of a weight and of its velocity, whatever the network computes in
# Memory passes:
UPDATE_PASSES = 5  # gradient, weight and velocity read, weight and velocity written
TRAINING_PASSES = 6  # an output: written, read twice (forward, weight gradient); its gradient alike
INFERENCE_PASSES = 2  # an output: written, and read by the next layer
NORM_PASSES = 5  # x read, y written; x and the gradient of y read, the gradient of x written


@dataclass(frozen=True)
class WorkloadCost:
    """What one repetition of a workload needs at least, and in words how that was counted."""

    name: str
    flops: int  # floating-point operations, two for a multiply-add
    bytes: int  # read and written
    derivation: str


@dataclass(frozen=True)
class MachineLimits:
    """What the machine reaches at best, measured in the same run."""

    flops_per_second: float  # the faster of a matrix product and a convolution
    bytes_per_second: float  # read and written, by a copy in memory

    def compute_seconds(self, cost: WorkloadCost) -> float:
        """Return the seconds that the operations take."""
        return cost.flops / self.flops_per_second

    def memory_seconds(self, cost: WorkloadCost) -> float:
        """Return the seconds that the memory traffic takes."""
        return cost.bytes / self.bytes_per_second

    def seconds(self, cost: WorkloadCost) -> float:
        """Return the lower bound on the seconds of a workload."""
        return self.compute_seconds(cost) + self.memory_seconds(cost)


def training_cost(
    name: str, network: Network, classes: int, batch_size: int, itemsize: int
) -> WorkloadCost:
    """Return the cost of a training step on values of `itemsize` bytes."""
    layers = layer_costs(network, classes)
    outputs = batch_size * stored_outputs(network, classes)
    derivation = (
        "counted: 2 operations a multiply-add, three times the forward pass without the gradient "
        f"of the first layer's input; {UPDATE_PASSES * FLOAT_BYTES} bytes a parameter for the "
        f"update, {TRAINING_PASSES} x {itemsize} bytes an output of a weighted layer or a pool"
    )
    return WorkloadCost(
        f"a step of {name}, {batch_size} images",
        2 * batch_size * training_multiply_adds(layers),
        update_bytes(layers) + TRAINING_PASSES * itemsize * outputs,
        derivation,
    )


def inference_cost(
    name: str, network: Network, classes: int, batch_size: int, itemsize: int
) -> WorkloadCost:
    """Return the cost of the logits of a batch with weights and values of `itemsize` bytes."""
    layers = layer_costs(network, classes)
    multiply_adds = sum(cost.multiply_adds for cost in layers)
    parameters = sum(cost.parameters for cost in layers)
    outputs = batch_size * stored_outputs(network, classes)
    derivation = (
        "counted: 2 operations a multiply-add; each weight read once, "
        f"{INFERENCE_PASSES} x {itemsize} bytes an output of a weighted layer or a pool"
    )
    return WorkloadCost(
        f"{name}, {batch_size} image{'s' if batch_size > 1 else ''}",
        2 * batch_size * multiply_adds,
        itemsize * (parameters + INFERENCE_PASSES * outputs),
        derivation,
    )


def norm_cost(name: str, shape: tuple[int, ...], itemsize: int) -> WorkloadCost:
    """Return the cost of a norm's forward and backward pass, in which memory dominates."""
    derivation = (
        f"counted: {NORM_PASSES} x {itemsize} bytes a value: x read, y written; "
        "x and the gradient of y read, the gradient of x written"
    )
    bytes_moved = NORM_PASSES * itemsize * prod(shape)
    return WorkloadCost(f"{name}, {' x '.join(map(str, shape))}", 0, bytes_moved, derivation)


def crops_cost(batch_size: int, shape: tuple[int, int, int]) -> WorkloadCost:
    """Return the cost of a batch of uint8 crops, without a bound on the cost of decoding."""
    return WorkloadCost(
        f"{batch_size} crops of {' x '.join(map(str, shape))}",
        0,
        2 * batch_size * prod(shape),
        "counted: each byte of a crop read and written once, as if nothing had to be decoded",
    )


def update_bytes(layers: tuple[LayerCost, ...]) -> int:
    """Return the bytes that an update of all parameters reads and writes."""
    return UPDATE_PASSES * FLOAT_BYTES * sum(cost.parameters for cost in layers)


def training_multiply_adds(layers: tuple[LayerCost, ...]) -> int:
    """Return the multiply-adds of an image's forward and backward pass.

    Each layer counts three times, but the gradient of the first layer's input is not needed.
    """
    multiply_adds = [cost.multiply_adds for cost in layers if cost.multiply_adds]
    return 3 * sum(multiply_adds) - multiply_adds[0]


def stored_outputs(network: Network, classes: int) -> int:
    """Return the output values of an image that have to pass through memory.

    Those of weighted layers and pools; all other layers can be fused into them.
    """
    return sum(
        prod(step.out_shape)
        for step in infer_shapes(network, classes)
        if isinstance(step.layer, WeightedLayer | Pool)
    )
