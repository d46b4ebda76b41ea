"""What passes between the shards of a network: feature maps forward, gradients back, bytes counted.

`RankComm` is between processes: one shard each, sends and receives of torch.distributed, seen by
autograd as operations with a gradient. `LocalComm` is inside one process: all shards here, each on
its device, and copying is all there is to it. Both take the list of what the shards of this process
have and return the list of what they need. Sums of gradients run in the order of the ranks, so that
the same ranks always get the same bits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch import distributed as dist

from alexnet.distributed.partition import CommOp
from alexnet.distributed.process_group import Ranks

Tensors = list[Tensor]


class Communicator(Protocol):
    """How the shards of this process get what they need."""

    bytes_sent: Counter[str]  # that have left a shard of this process, by the layer they went into

    def fetch(self, op: CommOp, tensors: Tensors, sizes: Sequence[int]) -> Tensors:
        """Return what the shards need.

        `sizes`: channels, images or classes of every shard, in their order.
        """


@dataclass
class LocalComm:
    """Shards on several devices of one process."""

    devices: tuple[torch.device, ...]
    bytes_sent: Counter[str] = field(default_factory=Counter)

    def fetch(self, op: CommOp, tensors: Tensors, sizes: Sequence[int]) -> Tensors:
        """Return all channels on every device, or on the first; or the channels at the borders."""
        if op.kind == "border":
            return [self._with_border(op, tensors, shard) for shard in range(len(tensors))]
        receivers = range(1 if op.kind == "first" else len(tensors))
        for receiver in receivers:
            self._count(op, *(x for sender, x in enumerate(tensors) if sender != receiver))
        gathered = [
            torch.cat([x.to(self.devices[receiver]) for x in tensors], 1) for receiver in receivers
        ]
        return gathered + tensors[len(gathered) :]

    def _with_border(self, op: CommOp, tensors: Tensors, shard: int) -> Tensor:
        left = [tensors[shard - 1][:, -op.reach :]] if shard else []
        right = [tensors[shard + 1][:, : op.reach]] if shard + 1 < len(tensors) else []
        self._count(op, *left, *right)
        return torch.cat([x.to(self.devices[shard]) for x in (*left, tensors[shard], *right)], 1)

    def _count(self, op: CommOp, *moved: Tensor) -> None:
        there_and_back = 1 + moved[0].requires_grad if moved else 0
        self.bytes_sent[op.into] += there_and_back * sum(x.nbytes for x in moved)


@dataclass
class RankComm:
    """The shard of this process, and the way to the other ranks."""

    ranks: Ranks
    bytes_sent: Counter[str] = field(default_factory=Counter)

    def fetch(self, op: CommOp, tensors: Tensors, sizes: Sequence[int]) -> Tensors:
        """Return what the shard of this rank needs from the others."""
        (x,) = tensors
        if op.kind == "border":
            return [_ExchangeBorders.apply(x, self, op)]
        if op.kind == "first":
            return [_GatherOnFirst.apply(x, self, op, tuple(sizes))]
        axis = 0 if op.kind == "images" else 1
        return [_AllGather.apply(x, self, op, axis, tuple(sizes))]

    def batch_send_recv(
        self, into: str, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor]
    ) -> None:
        """Send tensors to ranks and fill others from them; each must be dense (see `_dense`)."""
        sends = [
            dist.P2POp(dist.isend, _flat(x), rank) for rank, x in outgoing.items() if x.numel()
        ]
        receives = [
            dist.P2POp(dist.irecv, _flat(x), rank) for rank, x in incoming.items() if x.numel()
        ]
        self.bytes_sent[into] += sum(x.nbytes for x in outgoing.values())
        for work in dist.batch_isend_irecv(sends + receives) if sends or receives else []:
            work.wait()

    @property
    def peers(self) -> list[int]:
        """All ranks but this one."""
        return [rank for rank in range(self.ranks.world_size) if rank != self.ranks.rank]

    @property
    def neighbors(self) -> tuple[list[int], list[int]]:
        """The ranks before and after this one: none or one each."""
        rank = self.ranks.rank
        before = [rank - 1] if rank > 0 else []
        after = [rank + 1] if rank + 1 < self.ranks.world_size else []
        return before, after


class _AllGather(torch.autograd.Function):
    """Every rank's x, concatenated along an axis; the gradient is the sum of all ranks' for it.

    Logits are the exception: every rank computes the same loss from them, so its own part of the
    gradient is at hand.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, comm: RankComm, op: CommOp, axis: int, sizes: tuple[int, ...]
    ) -> Tensor:
        ctx.context = comm, op, axis, sizes
        own = _dense(x)
        pieces = {rank: _empty_with(own, axis, sizes[rank]) for rank in comm.peers}
        comm.batch_send_recv(op.into, dict.fromkeys(comm.peers, own), pieces)
        pieces[comm.ranks.rank] = own
        return torch.cat([pieces[rank] for rank in range(comm.ranks.world_size)], axis)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        comm, op, axis, sizes = ctx.context
        parts = list(gradient.split(sizes, axis))
        own = _dense(parts[comm.ranks.rank])
        if op.kind != "logits":
            received = {rank: torch.empty_like(own) for rank in comm.peers}
            outgoing = {rank: _dense(parts[rank]) for rank in comm.peers}
            comm.batch_send_recv(op.into, outgoing, received)
            received[comm.ranks.rank] = own
            ordered = [received[rank] for rank in range(comm.ranks.world_size)]
            own = sum(ordered[1:], ordered[0])
        return own, None, None, None, None


class _GatherOnFirst(torch.autograd.Function):
    """Every rank's channels on rank 0; the others get a token that receives their gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, comm: RankComm, op: CommOp, sizes: tuple[int, ...]) -> Tensor:
        ctx.context = comm, op, sizes
        own = _dense(x)
        if not comm.ranks.is_main:
            ctx.like = own
            comm.batch_send_recv(op.into, {0: own}, {})
            return own.new_zeros(())
        pieces = {rank: _empty_with(own, 1, sizes[rank]) for rank in comm.peers}
        comm.batch_send_recv(op.into, {}, pieces)
        return torch.cat([own, *pieces.values()], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        comm, op, sizes = ctx.context
        if comm.ranks.is_main:
            parts = [_dense(part) for part in gradient.split(sizes, 1)]
            comm.batch_send_recv(op.into, {rank: parts[rank] for rank in comm.peers}, {})
            return parts[0], None, None, None
        own = torch.empty_like(ctx.like)
        comm.batch_send_recv(op.into, {}, {0: own})
        return own, None, None, None


class _ExchangeBorders(torch.autograd.Function):
    """x with the nearest channels of the neighboring ranks on either side; gradients go back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, comm: RankComm, op: CommOp) -> Tensor:
        ctx.context = comm, op
        ctx.channels = x.shape[1]
        left, right = comm.neighbors
        edges = {rank: _dense(x[:, : op.reach]) for rank in left}
        edges |= {rank: _dense(x[:, -op.reach :]) for rank in right}
        received = {rank: torch.empty_like(edge) for rank, edge in edges.items()}
        comm.batch_send_recv(op.into, edges, received)
        before = [received[rank] for rank in left]
        after = [received[rank] for rank in right]
        return torch.cat([*before, x, *after], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        comm, op = ctx.context
        left, right = comm.neighbors
        sizes = [op.reach * len(left), ctx.channels, op.reach * len(right)]
        before, own, after = gradient.split(sizes, 1)
        outgoing = {rank: _dense(before) for rank in left}
        outgoing |= {rank: _dense(after) for rank in right}
        received = {rank: torch.empty_like(edge) for rank, edge in outgoing.items()}
        comm.batch_send_recv(op.into, outgoing, received)
        own = own.clone()
        for rank in left:
            own[:, : op.reach] += received[rank]
        for rank in right:
            own[:, -op.reach :] += received[rank]
        return own, None, None


def _dense(x: Tensor) -> Tensor:
    """Return x without gaps in memory: feature maps channels last, everything else row by row."""
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    return x.contiguous(memory_format=layout)


def _empty_with(like: Tensor, axis: int, size: int) -> Tensor:
    """Return an empty dense tensor shaped as `like`, but of another size along an axis."""
    shape = [size if index == axis else count for index, count in enumerate(like.shape)]
    return _dense(like.new_empty(shape))


def _flat(x: Tensor) -> Tensor:
    return x.as_strided((x.numel(),), (1,))
