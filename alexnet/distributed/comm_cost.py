"""What passes between the shards of a network in one step, worked out from its partition.

`Strategy.bytes_sent` counts what really did. Bytes are those that leave a shard, of all shards
together: channels and units on the way forward, their gradients on the way back. Gradients summed
along a ring leave each rank almost twice. Weights gathered to be saved or scored are not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from alexnet.core.device import ParallelMode
from alexnet.distributed.partition import CommOp, Partition
from alexnet.distributed.strategies import MICRO_BATCHES, ring_bytes
from alexnet.models.shapes import LayerShape, bias_shape, weight_shape

MEANING = {
    "channels": "channels or units of all towers",
    "first": "units of all towers, to the first",
    "border": "channels at the border of the towers",
    "images": "feature maps of the other ranks' images",
    "logits": "logits of all classes",
}


@dataclass(frozen=True)
class CommCost:
    """Bytes that leave all shards in a step, into a layer or the sum of gradients."""

    into: str
    what: str
    forward: int
    backward: int


def comm_costs(
    shapes: Sequence[LayerShape], partition: Partition, images: int, itemsize: int
) -> list[CommCost]:
    """Return everything that passes in a step over `images`, in numbers of `itemsize` bytes."""
    num_shards = partition.num_shards
    costs = [
        _layer_cost(layer.comm, shapes[index], num_shards, images * itemsize)
        for index, layer in enumerate(partition.layers)
        if layer.comm is not None
    ]
    if partition.last is not None:
        logits = images * itemsize * prod(shapes[-1].out_shape) * (num_shards - 1)
        costs.append(CommCost(partition.last.into, MEANING["logits"], logits, 0))
    if partition.mode == "pipeline":
        rows = images + -images % MICRO_BATCHES
        passed = rows * itemsize * prod(partition.shapes_of(0)[-1].out_shape)
        costs.append(CommCost("fc6", "feature maps, in micro-batches", passed, passed))
    replicated = sum(_parameters(shape) for shape in shapes if shape.name not in partition.bounds)
    if replicated and num_shards > 1:
        summed = num_shards * ring_bytes(replicated * itemsize, num_shards)
        costs.append(CommCost("gradients", "gradients that are summed", 0, summed))
    return costs


def bytes_per_shard(
    shapes: Sequence[LayerShape], partition: Partition, images: int, itemsize: int
) -> float:
    """Return the bytes that leave a shard in a step, on average over the shards."""
    costs = comm_costs(shapes, partition, images, itemsize)
    return sum(cost.forward + cost.backward for cost in costs) / partition.num_shards


def describe_comm(
    shapes: Sequence[LayerShape],
    partition: Partition,
    mode: ParallelMode,
    images: int,
    itemsize: int,
) -> str:
    """Describe the same in words, compared with what plain data parallel would move."""
    num_shards = partition.num_shards
    data_parallel = ring_bytes(sum(map(_parameters, shapes)) * itemsize, num_shards)
    own = bytes_per_shard(shapes, partition, images, itemsize)
    return (
        f"{mode}: each of {num_shards} sends {own / 1e6:.1f} MB a step "
        f"(with data parallel: {data_parallel / 1e6:.1f} MB)"
    )


def _layer_cost(op: CommOp, shape: LayerShape, num_shards: int, item_bytes: int) -> CommCost:
    """Return what a layer fetches; `item_bytes`: bytes that one value of every image takes."""
    channels, height, width = shape.in_shape
    pixels = height * width
    values = {
        "channels": channels * pixels * (num_shards - 1),
        "images": channels * pixels * (num_shards - 1),
        "first": channels * pixels * (num_shards - 1) // num_shards,
        "border": 2 * op.reach * pixels * (num_shards - 1),
    }[op.kind]
    return CommCost(op.into, MEANING[op.kind], values * item_bytes, values * item_bytes)


def _parameters(shape: LayerShape) -> int:
    """Return the number of a layer's parameters; 0 without any."""
    weight = weight_shape(shape)
    return prod(weight) + prod(bias_shape(shape)) if weight else 0
