"""A partitioned network: every shard computes its part of a step, and between steps they exchange.

The shards are `AlexNet`s of some layers or of shards of layers, so that what a layer does is said
in one place only. A norm whose window crosses the border of the towers is computed with the
neighbors' channels next to its own, which are then left out again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alexnet.distributed.comm import Communicator
from alexnet.distributed.partition import CommOp, Partition, PartitionedLayer
from alexnet.models.alexnet import AlexNet
from alexnet.models.fusion import FusedAlexNet, fuse, run_step


@dataclass(frozen=True)
class Stage:
    """Fused layers that run as one: what they fetch first, and what each shard contributes to it.

    `steps`: by shard of this process, which of its fused steps it is; None: it computes nothing.
    """

    comm: CommOp | None
    sizes: tuple[int, ...]
    steps: tuple[int | None, ...]


class PartitionedModel(nn.Module):
    """The shards of a partitioned network that this process holds, and how they communicate."""

    def __init__(
        self, partition: Partition, shards: Mapping[int, AlexNet], comm: Communicator
    ) -> None:
        super().__init__()
        self.partition = partition
        self.comm = comm
        self.shard_ids = tuple(shards)
        self.models = tuple(shards.values())  # as the optimizers know them
        fused = [fuse(model) for model in self.models]
        self.shards = nn.ModuleList(fused)
        self.stages = _stages(partition, _all_starts(partition, self.models[0]), fused)
        last_parts = partition.layers[-1].parts
        self.classes = tuple(part.out_shape[0] for part in last_parts if part is not None)

    def forward(
        self,
        images: list[Tensor],
        keys: list[Tensor],
        rows: slice,
        images_per_rank: tuple[int, ...],
    ) -> list[Tensor]:
        """Return what every shard here ends with: logits (N, classes), or a token for backward.

        `images` (n, C, H, W) are those that each shard sees. `keys` (N,) name all images' dropout
        draws, on every shard's device; `rows`: which images of the batch these are;
        `images_per_rank`: how many each rank brings to where they are gathered.
        """
        tensors = images
        dropout_keys = [key[rows] for key in keys]
        for stage in self.stages:
            if stage.comm is not None and stage.comm.kind == "images":
                tensors = [
                    x[: images_per_rank[shard]]
                    for x, shard in zip(tensors, self.shard_ids, strict=True)
                ]
                tensors = self.comm.fetch(stage.comm, tensors, images_per_rank)
                dropout_keys = keys
            elif stage.comm is not None:
                tensors = self.comm.fetch(stage.comm, tensors, stage.sizes)
            tensors = self._compute(stage, tensors, dropout_keys)
        if self.partition.last is None:
            return tensors
        return self.comm.fetch(self.partition.last, tensors, self.classes)

    def _compute(self, stage: Stage, tensors: list[Tensor], keys: list[Tensor]) -> list[Tensor]:
        """Return what every shard computes in a stage; of a bordered norm, its own channels."""
        outputs = []
        for number, x in enumerate(tensors):
            step = stage.steps[number]
            if step is not None:
                fused = self.shards[number]
                assert isinstance(fused, FusedAlexNet)
                x = run_step(fused.steps[step], x, keys[number])
                if stage.comm is not None and stage.comm.kind == "border":
                    x = _own_channels(x, stage, self.shard_ids[number])
            outputs.append(x)
        return outputs


def _own_channels(x: Tensor, stage: Stage, shard: int) -> Tensor:
    """Leave out the neighbors' channels."""
    assert stage.comm is not None
    first = stage.comm.reach if shard else 0
    own = x[:, first : first + stage.sizes[shard]]
    return own.contiguous(memory_format=torch.channels_last)


def _all_starts(partition: Partition, model: AlexNet) -> tuple[int, ...]:
    """Return where the fused steps begin: the first shard has every one, and may lie elsewhere."""
    with torch.device("meta"):
        first = AlexNet(model.spec, model.num_classes, partition.shapes_of(0))
    return fuse(first).starts


def _stages(
    partition: Partition, starts: tuple[int, ...], fused: Sequence[FusedAlexNet]
) -> tuple[Stage, ...]:
    """Return the fused steps as they run, all shards alike."""
    ends = [*starts[1:], len(partition.layers)]
    return tuple(
        Stage(
            _only_comm(partition.layers[start:end]),
            _output_sizes(partition.layers[start - 1]),
            tuple(shard.starts.index(start) if start in shard.starts else None for shard in fused),
        )
        for start, end in zip(starts, ends, strict=True)
    )


def _only_comm(layers: Sequence[PartitionedLayer]) -> CommOp | None:
    ops = [layer.comm for layer in layers if layer.comm is not None]
    return ops[0] if ops else None


def _output_sizes(before: PartitionedLayer) -> tuple[int, ...]:
    return tuple(part.out_shape[0] for part in before.parts if part is not None)
