"""The model of a run as this rank holds it: its shards, their optimizers, how they train together.

The whole model is put together only to be saved and evaluated. With one process and one device,
the only shard is the model itself.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alexnet.core.device import Runtime
from alexnet.distributed.comm_cost import describe_comm
from alexnet.distributed.gather_state import broadcast_tensors, copy_shard, gather_state
from alexnet.distributed.partition import Partition
from alexnet.distributed.process_group import all_gather_object
from alexnet.distributed.strategies import Strategy, make_strategy, partition_model
from alexnet.models.alexnet import AlexNet
from alexnet.models.shapes import LayerShape
from alexnet.recipes.recipe import Training
from alexnet.recipes.schedules import PlateauState
from alexnet.training.checkpoint import Checkpoint
from alexnet.training.optimizer import NOT_REDUCED, SGD2012, make_optimizer, set_lr


@dataclass
class ShardedModel:
    """The shards of a model that this rank holds, by shard number, and how they train together."""

    shapes: tuple[LayerShape, ...]  # of the whole model
    partition: Partition
    shards: Mapping[int, AlexNet]
    optimizers: Mapping[int, SGD2012]
    strategy: Strategy
    training: Training
    runtime: Runtime

    @classmethod
    def from_model(cls, model: AlexNet, training: Training, runtime: Runtime) -> "ShardedModel":
        """Shard a whole model with its weights as the runtime asks; UsageError where it cannot."""
        shapes = model.shapes
        model = model.to(torch.promote_types(runtime.dtype, torch.float32))
        partition, shards = partition_model(model, runtime)
        optimizers = {index: make_optimizer(shard, training) for index, shard in shards.items()}
        for index, shard in shards.items():
            if runtime.dtype.itemsize < torch.float32.itemsize:
                optimizers[index].keep_masters()
            shard.to(runtime.dtype)
        strategy = make_strategy(partition, shards, runtime)
        return cls(shapes, partition, shards, optimizers, strategy, training, runtime)

    @property
    def max_lr(self) -> float:
        """The largest learning rate of the next step, over this rank's parameters."""
        groups = [
            group for optimizer in self.optimizers.values() for group in optimizer.param_groups
        ]
        return float(max(group["lr"] for group in groups))

    def set_lr(self, epoch: float, plateau: PlateauState = NOT_REDUCED) -> None:
        """Set the learning rates of the next step to the recipe's at an epoch."""
        for optimizer in self.optimizers.values():
            set_lr(optimizer, self.training, epoch, plateau)

    def step(self) -> None:
        """Apply the update rule to the gradients, then drop them."""
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()

    def masters(self) -> dict[str, Tensor]:
        """Return the whole model's weights, on every rank; float32 or more."""
        return self._gather(
            {index: optimizer.named_masters() for index, optimizer in self.optimizers.items()}
        )

    def velocities(self) -> dict[str, Tensor]:
        """Return the whole model's velocities, on every rank."""
        return self._gather(
            {index: optimizer.named_velocities() for index, optimizer in self.optimizers.items()}
        )

    def full_model(self) -> AlexNet:
        """Return the whole model, to be evaluated: itself where this rank has it, else a copy."""
        first = next(iter(self.shards.values()))
        if not self.partition.bounds:
            return first
        copy = AlexNet(first.spec, first.num_classes)
        copy.load_state_dict(self.masters())
        return copy.to(self.runtime.device, self.runtime.dtype).requires_grad_(False)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint that rank 0 has read; what the other ranks pass does not matter."""
        weights = broadcast_tensors(self.runtime.ranks, checkpoint.weights)
        velocities = broadcast_tensors(self.runtime.ranks, checkpoint.velocities)
        for index, optimizer in self.optimizers.items():
            copy_shard(self.partition, index, weights, optimizer.named_masters())
            copy_shard(self.partition, index, velocities, optimizer.named_velocities())
            optimizer.copy_masters_to_model()

    def comm_summary(self) -> dict[str, Any]:
        """Return the number of ranks and the bytes sent by purpose; empty for one device."""
        if self.runtime.parallel == "none":
            return {}
        sent: Counter[str] = sum(
            all_gather_object(self.runtime.ranks, self.strategy.bytes_sent), Counter()
        )
        return {"ranks": self.runtime.ranks.world_size, "sent_bytes": dict(sent)}

    def describe_comm(self, images: int) -> str | None:
        """Describe what a step on `images` images sends between the shards; None for one device."""
        if self.runtime.parallel == "none":
            return None
        itemsize = self.runtime.dtype.itemsize
        return describe_comm(self.shapes, self.partition, self.runtime.parallel, images, itemsize)

    def _gather(self, shards: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return gather_state(self.shapes, self.partition, self.runtime.ranks, shards)
