"""A whole network's tensors and the rows of them that shards hold.

They are divided when a run begins, and gathered to be saved and scored. What is saved is always
whole, so a run saved at one number of ranks goes on at another, and its model file is the same.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch import distributed as dist

from alexnet.distributed.partition import Partition
from alexnet.distributed.process_group import Ranks, broadcast_object
from alexnet.models.alexnet import AlexNet
from alexnet.models.shapes import LayerShape, bias_shape, weight_shape
from alexnet.recipes.layers import WeightedLayer

Tensors = Mapping[str, Tensor]


@torch.no_grad()
def shard_of(model: AlexNet, partition: Partition, shard: int) -> AlexNet:
    """Return a shard of a network, with its rows of the weights."""
    like = next(model.parameters())
    part = AlexNet(model.spec, model.num_classes, partition.shapes_of(shard))
    part.to(like.device, like.dtype)
    copy_shard(partition, shard, dict(model.named_parameters()), dict(part.named_parameters()))
    return part


@torch.no_grad()
def copy_shard(partition: Partition, shard: int, full: Tensors, own: Tensors) -> None:
    """Fill a shard's tensors with its rows of the full ones of the same names."""
    for name, tensor in own.items():
        rows = partition.rows(name, shard)
        tensor.copy_(full[name] if rows is None else full[name][slice(*rows)])


def gather_state(
    shapes: Sequence[LayerShape],
    partition: Partition,
    ranks: Ranks,
    own_shards: Mapping[int, Tensors],
) -> dict[str, Tensor]:
    """Return the whole network's tensors, on every rank, from what each shard has of them.

    `own_shards`: this process's tensors, by shard.
    """
    own = next(iter(own_shards.values()))
    like = next(iter(own.values()))
    full = {}
    for name, shape in _parameter_shapes(shapes).items():
        if partition.rows(name, 0) is None:
            full[name] = own[name]
            continue
        full[name] = like.new_empty(shape)
        for shard in range(partition.num_shards):
            rows = full[name][slice(*partition.rows(name, shard) or ())]
            if len(rows):
                here = shard in own_shards
                piece = own_shards[shard][name].contiguous() if here else torch.empty_like(rows)
                rows.copy_(_broadcast_from(shard, piece, ranks))
    return full


def broadcast_tensors(ranks: Ranks, tensors: Tensors) -> Tensors:
    """Return rank 0's tensors, in main memory, on every rank; what the others give is ignored."""
    if ranks.world_size == 1:
        return tensors
    specs = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    received = {}
    for name, (shape, dtype) in broadcast_object(ranks, specs).items():
        own = tensors[name].contiguous() if ranks.is_main else torch.empty(shape, dtype=dtype)
        dist.broadcast(own, src=0)
        received[name] = own
    return received


def _parameter_shapes(shapes: Sequence[LayerShape]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, weights first."""
    weighted = [shape for shape in shapes if isinstance(shape.layer, WeightedLayer)]
    weights = {f"{shape.name}.weight": weight_shape(shape) for shape in weighted}
    return weights | {f"{shape.name}.bias": bias_shape(shape) for shape in weighted}


def _broadcast_from(shard: int, piece: Tensor, ranks: Ranks) -> Tensor:
    if ranks.world_size > 1:
        dist.broadcast(piece, src=shard)
    return piece
