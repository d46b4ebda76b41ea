"""How the shards of a network learn together: each strategy one class with the same methods.

`SingleDevice` is the neutral one. `DataParallel` is torch's DistributedDataParallel over whole
networks; `TowerParallel` and `HybridParallel` run a partitioned network; `PipelineParallel` is
torch's pipelining with micro-batches. After `forward_backward` the parameters of this process have
the gradients of the mean loss over the whole batch, so that the update rule needs to know nothing
of ranks. Order, crops and dropout are functions of (seed, epoch, image), so every strategy trains
the same network.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from alexnet.core.device import Runtime
from alexnet.distributed.comm import LocalComm, RankComm
from alexnet.distributed.gather_state import shard_of
from alexnet.distributed.partition import Partition, partition, shard_slice
from alexnet.distributed.partitioned_model import PartitionedModel
from alexnet.distributed.process_group import Ranks
from alexnet.models.alexnet import AlexNet
from alexnet.models.fusion import fuse

MICRO_BATCHES = 4  # in flight between the convolutions and the fully connected layers
IGNORED = -100  # the label of a row that only fills up a micro-batch; F.cross_entropy skips it


@dataclass(frozen=True)
class StepInput:
    """A batch as a strategy gets it.

    images (n, C, H, W) of its own rows, dropout keys and labels (N,) of all images.
    """

    images: Tensor
    keys: Tensor
    labels: Tensor
    label_smoothing: float


class Strategy(Protocol):
    """What the trainer knows of a strategy."""

    bytes_sent: Counter[str]  # that have left this process's shards, by what they went into

    def rows(self, count: int) -> slice:
        """Return which rows of a batch of `count` images this process has to see; at least one."""

    def forward_backward(self, step: StepInput) -> Tensor:
        """Compute loss and gradients.

        Returns this process's share of (the mean loss, the wrong answers), to be added up over the
        ranks.
        """


def partition_model(model: AlexNet, runtime: Runtime) -> tuple[Partition, dict[int, AlexNet]]:
    """Return a runtime's partition, and this process's shards by number, each on its device.

    UsageError where the network cannot be partitioned so.
    """
    ranks = runtime.ranks
    devices = runtime.devices
    num_shards = max(ranks.world_size, len(devices))
    ids = (ranks.rank,) if ranks.world_size > 1 else tuple(range(len(devices)))
    parts = partition(model.shapes, runtime.parallel, num_shards, model.spec.towers)
    if runtime.parallel in ("none", "data"):
        return parts, {ids[0]: model.to(runtime.device)}
    shards = {
        shard: shard_of(model, parts, shard).to(device)
        for shard, device in zip(ids, devices, strict=True)
    }
    return parts, shards


def make_strategy(parts: Partition, shards: Mapping[int, AlexNet], runtime: Runtime) -> Strategy:
    """Return the strategy that a runtime asks for, over these shards."""
    ranks = runtime.ranks
    match runtime.parallel:
        case "none":
            return SingleDevice(shards[0])
        case "data":
            return DataParallel(shards[ranks.rank], ranks)
        case "towers":
            comm = RankComm(ranks) if ranks.world_size > 1 else LocalComm(runtime.devices)
            return TowerParallel(PartitionedModel(parts, shards, comm), runtime.devices)
        case "hybrid":
            return HybridParallel(PartitionedModel(parts, shards, RankComm(ranks)), ranks)
        case "pipeline":
            return PipelineParallel(parts, shards[ranks.rank], ranks)


class SingleDevice:
    """One process, one device, the whole network."""

    def __init__(self, model: AlexNet) -> None:
        self.model = fuse(model)
        self.bytes_sent = Counter[str]()

    def rows(self, count: int) -> slice:
        return slice(0, count)

    def forward_backward(self, step: StepInput) -> Tensor:
        logits = self.model.train()(step.images, step.keys)
        return _backward(logits, step.labels, step.label_smoothing, len(step.labels))


class DataParallel:
    """Whole networks, each with its share of every batch; gradients are summed during backward."""

    def __init__(self, model: AlexNet, ranks: Ranks) -> None:
        self.ranks = ranks
        self.bytes_sent = Counter[str]()
        self.model = nn.parallel.DistributedDataParallel(fuse(model))
        self.model.register_comm_hook(self, _sum_bucket)

    def rows(self, count: int) -> slice:
        return _at_least_one(shard_slice(count, self.ranks.rank, self.ranks.world_size))

    def forward_backward(self, step: StepInput) -> Tensor:
        count = len(step.labels)
        rows = self.rows(count)
        labels = step.labels[rows]
        if rows != shard_slice(count, self.ranks.rank, self.ranks.world_size):
            labels = torch.full_like(labels, IGNORED)
        logits = self.model.train()(step.images, step.keys[rows])
        return _backward(logits, labels, step.label_smoothing, count)


class TowerParallel:
    """Each shard is one tower; all see the same images. The loss is the first tower's."""

    def __init__(self, model: PartitionedModel, devices: tuple[torch.device, ...]) -> None:
        self.model = model
        self.devices = devices
        self.bytes_sent = model.comm.bytes_sent

    def rows(self, count: int) -> slice:
        return slice(0, count)

    def forward_backward(self, step: StepInput) -> Tensor:
        count = len(step.labels)
        images = [step.images.to(device) for device in self.devices]
        keys = [step.keys.to(device) for device in self.devices]
        end, *_ = self.model.train()(images, keys, slice(0, count), ())
        if 0 in self.model.shard_ids:
            return _backward(end, step.labels, step.label_smoothing, count)
        end.backward()  # the token: the gradient comes from the first tower
        return torch.zeros(2)


class HybridParallel:
    """Convolutions on a rank's own images, shares of the fully connected layers on everyone's."""

    def __init__(self, model: PartitionedModel, ranks: Ranks) -> None:
        self.model = model
        self.ranks = ranks
        self.bytes_sent = model.comm.bytes_sent
        self.replicated = [
            parameter
            for name, parameter in model.models[0].named_parameters()
            if model.partition.rows(name, 0) is None
        ]

    def rows(self, count: int) -> slice:
        return _at_least_one(shard_slice(count, self.ranks.rank, self.ranks.world_size))

    def forward_backward(self, step: StepInput) -> Tensor:
        count = len(step.labels)
        world_size = self.ranks.world_size
        shares = [shard_slice(count, rank, world_size) for rank in range(world_size)]
        images_per_rank = tuple(share.stop - share.start for share in shares)
        (logits,) = self.model.train()(
            [step.images], [step.keys], self.rows(count), images_per_rank
        )
        result = _backward(logits, step.labels, step.label_smoothing, count)
        for work in [self._all_reduce(parameter) for parameter in self.replicated]:
            work.wait()
        return result * self.ranks.is_main  # every rank has computed the whole loss

    def _all_reduce(self, parameter: Tensor) -> Any:
        assert parameter.grad is not None
        self.bytes_sent["gradients"] += ring_bytes(parameter.grad.nbytes, self.ranks.world_size)
        return dist.all_reduce(parameter.grad, async_op=True)


class PipelineParallel:
    """The convolutions on rank 0, the fully connected layers on rank 1, micro-batches in flight."""

    def __init__(self, parts: Partition, shard: AlexNet, ranks: Ranks) -> None:
        self.partition = parts
        self.ranks = ranks
        self.bytes_sent = Counter[str]()
        self.stage = _FlatStage(shard)
        # by the shape of a micro-batch: each of torch's stages knows one
        self.schedules: dict[tuple[int, ...], Any] = {}
        self.step: StepInput | None = None
        self.results: list[Tensor] = []

    def rows(self, count: int) -> slice:
        return slice(0, count if self.ranks.is_main else 1)

    def forward_backward(self, step: StepInput) -> Tensor:
        padding = -len(step.labels) % MICRO_BATCHES
        keys = F.pad(step.keys, (0, padding))
        labels = F.pad(step.labels, (0, padding), value=IGNORED)
        self.step = step
        self.results = [torch.zeros(2, device=step.labels.device)]
        self.stage.train()
        schedule = self._schedule(step.images[0], len(labels) // MICRO_BATCHES)
        if self.ranks.is_main:
            schedule.step(F.pad(step.images, (0, 0, 0, 0, 0, 0, 0, padding)), keys=keys)
        else:
            schedule.step(target=labels, losses=[], keys=keys, return_outputs=False)
        # feature maps on the way there, their gradients on the way back
        values = len(labels) * math.prod(self.partition.shapes_of(0)[-1].out_shape)
        self.bytes_sent["fc6"] += values * step.images.element_size()
        return torch.stack(self.results).sum(0)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return a micro-batch's part of the loss, noted for `forward_backward`."""
        assert self.step is not None
        loss, wrong = _loss(logits, labels, self.step.label_smoothing, len(self.step.labels))
        self.results.append(torch.stack([loss.detach(), wrong]))
        return loss

    def _schedule(self, image: Tensor, count: int) -> Any:
        """Return torch's schedule for micro-batches of `count` images of that shape."""
        # takes seconds to import, and is only needed here
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B

        shape = (count, *image.shape)
        if shape not in self.schedules:
            between, classes = (self.partition.shapes_of(shard)[-1].out_shape for shard in (0, 1))
            images = torch.empty(shape, dtype=image.dtype, device="meta")
            maps = _meta(count, math.prod(between), image.dtype)
            logits = _meta(count, classes[0], image.dtype)
            rank = self.ranks.rank
            stage = PipelineStage(
                self.stage,
                rank,
                2,
                image.device,
                input_args=(images, maps)[rank],
                output_args=(maps, logits)[rank],
            )
            self.schedules[shape] = Schedule1F1B(
                stage, MICRO_BATCHES, self._loss, scale_grads=False
            )
        return self.schedules[shape]


class _FlatStage(nn.Module):
    """A stage of the pipeline: a shard of the network, whose output travels as rows."""

    def __init__(self, shard: AlexNet) -> None:
        super().__init__()
        self.shard = fuse(shard)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        return self.shard(x, keys).flatten(1)


def _meta(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(rows, columns, dtype=dtype, device="meta", requires_grad=True)


def _backward(logits: Tensor, labels: Tensor, label_smoothing: float, count: int) -> Tensor:
    """Run the backward pass; return (the share of the mean loss over `count`, wrong answers)."""
    loss, wrong = _loss(logits, labels, label_smoothing, count)
    loss.backward()
    return torch.stack([loss.detach(), wrong])


def _loss(
    logits: Tensor, labels: Tensor, label_smoothing: float, count: int
) -> tuple[Tensor, Tensor]:
    """Return what these rows add to the mean loss over `count` images, and the wrong answers."""
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels.to(logits.device)
    total = F.cross_entropy(
        exact, labels, label_smoothing=label_smoothing, reduction="sum", ignore_index=IGNORED
    )
    wrong = (exact.argmax(1) != labels) & (labels != IGNORED)
    return total / count, wrong.sum().to(total.dtype)


def _sum_bucket(strategy: DataParallel, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Sum a bucket of gradients over the ranks: no mean, the loss is divided by the whole batch."""
    gradients = bucket.buffer()
    strategy.bytes_sent["gradients"] += ring_bytes(gradients.nbytes, strategy.ranks.world_size)
    work = dist.all_reduce(gradients, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def ring_bytes(size: int, ranks: int) -> int:
    """Return the bytes each rank sends in a ring all-reduce: all but its own share, twice."""
    return 2 * size * (ranks - 1) // ranks


def _at_least_one(rows: slice) -> slice:
    """Let a rank without images see the first one all the same; its result does not count."""
    return rows if rows.stop > rows.start else slice(0, 1)
