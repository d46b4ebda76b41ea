"""Several processes as one run: how they meet, agree and end together, by torch.distributed.

`torchrun` starts them and tells each in its environment which one it is. One process alone is the
same thing with one rank, and needs none of it. When a rank fails it leaves its reason in the store,
where the others find it; one that was killed leaves none, and is named for that.
"""

import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch import distributed as dist

from alexnet.core.errors import AlexNetError, UsageError

if TYPE_CHECKING:
    from torch.distributed import Store

TIMEOUT = timedelta(minutes=10)  # for a rank that is alive but slow: saving, or a slow disk
SECONDS_FOR_REASONS = 3.0  # in which the remaining ranks can tell why they end
# Seconds for gloo's threads to release the last tensors, for which they need the interpreter:
# without them one process in five was aborted at its exit.
SECONDS_FOR_GLOO = 0.2


@dataclass(frozen=True)
class Ranks:
    """Which of the run's processes this is.

    `local_rank`: its number on its machine. `store`: torch's key-value store, which lasts over the
    attempts that torchrun makes; None for a single process.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    store: "Store | None" = field(default=None, repr=False, compare=False)

    @property
    def is_main(self) -> bool:
        """Return whether this is the rank that writes files and messages."""
        return self.rank == 0

    def set_flag(self, name: str) -> None:
        """Set a flag for the attempts that torchrun may start after this one."""
        if self.store is not None:
            self.store.set(name, "set")

    def has_flag(self, name: str) -> bool:
        """Return whether an earlier attempt has set the flag."""
        return self.store is not None and bool(self.store.check([name]))


SINGLE_PROCESS = Ranks()


@contextmanager
def init_distributed() -> Iterator[Ranks]:
    """Join the process group of this run and leave it at the end; yield this process's rank.

    AlexNetError, on the ranks that only lost the others, tells why those ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    ranks, store = _join()
    try:
        yield ranks
    except BaseException as error:
        # torchrun sends SIGTERM as soon as one rank has ended; this one ends with a reason.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _report_reason(store, ranks, error)
        if not torch.cuda.is_available():  # NCCL would wait here for ranks that have ended
            dist.destroy_process_group()  # so that ranks which wait for this one fail at once
        reasons = _reasons_of_others(store, ranks) if _lost_connection(error) else None
        if reasons is None:
            raise
        raise AlexNetError(f"rank {ranks.rank} of {ranks.world_size} stops: {reasons}") from error
    dist.destroy_process_group()
    time.sleep(SECONDS_FOR_GLOO)


def all_gather_object(ranks: Ranks, value: Any) -> list[Any]:
    """Return the value of each rank, in their order; any value that can be pickled."""
    if ranks.world_size == 1:
        return [value]
    values: list[Any] = [None] * ranks.world_size
    dist.all_gather_object(values, value)
    return values


def all_gather_scalars(ranks: Ranks, values: Sequence[float]) -> Tensor:
    """Return the numbers of each rank, float64 (world_size, count), in one small exchange."""
    own = torch.tensor(values, dtype=torch.float64)
    if ranks.world_size == 1:
        return own[None]
    gathered = [torch.empty_like(own) for _ in range(ranks.world_size)]
    dist.all_gather(gathered, own)
    return torch.stack(gathered)


def broadcast_object(ranks: Ranks, value: Any) -> Any:
    """Return the value of rank 0 on every rank."""
    if ranks.world_size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def assert_equal_across_ranks(ranks: Ranks, facts: dict[str, str]) -> None:
    """UsageError, on every rank, naming the facts that are not the same on all ranks."""
    first, *others = all_gather_object(ranks, facts)
    for rank, theirs in enumerate(others, start=1):
        different = [
            f"{name} ({theirs[name]}, {first[name]})"
            for name in facts
            if theirs[name] != first[name]
        ]
        if different:
            raise UsageError(
                f"rank {rank} and rank 0 do not agree in: {', '.join(different)}; "
                "start all ranks with the same"
            )


def _join() -> tuple[Ranks, "Store"]:
    """Join the process group that the environment describes.

    Return the ranks, and the part of the store that belongs to this attempt. Until all have met,
    SIGTERM ends a rank at once: it has nothing to save, and waits where Python sees no signal.
    """
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    store, rank, world_size = next(dist.rendezvous("env://", timeout=TIMEOUT))
    attempt = agree_on_attempt(store, rank, world_size)
    attempt_store = dist.PrefixStore(f"alexnet/{attempt}", store)
    ranks = Ranks(rank, world_size, int(os.environ.get("LOCAL_RANK", rank)), store)
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(ranks.local_rank % torch.cuda.device_count())
    dist.init_process_group(
        backend, store=attempt_store, rank=rank, world_size=world_size, timeout=TIMEOUT
    )
    signal.signal(signal.SIGTERM, handler)
    return ranks, attempt_store


def agree_on_attempt(store: "Store", rank: int, world_size: int) -> str:
    """Return a name for this attempt, the same on all its ranks.

    torchrun keeps the store from one attempt to the next, with the addresses of ranks that have
    ended, and machines may count their attempts differently. So rank 0 draws a random name, and
    every other rank a random token, with which it greets rank 0 and is answered: an answer with
    another token is to a rank of an earlier attempt.
    """
    token = uuid.uuid4().hex
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    if rank:
        store.set(f"hello/{rank}", token)
        while not (answer := _get(store, f"welcome/{rank}")).startswith(token):
            _wait(deadline, f"rank {rank} has waited {TIMEOUT} for rank 0")
        attempt = answer.removeprefix(token)
        store.set(f"met/{rank}", attempt)
        return attempt
    others = range(1, world_size)
    while missing := [other for other in others if _get(store, f"met/{other}") != token]:
        for other in missing:
            if greeting := _get(store, f"hello/{other}"):
                store.set(f"welcome/{other}", greeting + token)
        _wait(deadline, f"rank 0 has waited {TIMEOUT} for ranks {missing}")
    return token


def _get(store: "Store", name: str) -> str:
    """Return a value of the store, "" as long as there is none; do not wait for it."""
    return str(store.get(name).decode()) if store.check([name]) else ""


def _wait(deadline: float, message: str) -> None:
    if time.monotonic() > deadline:
        raise AlexNetError(f"{message}; start all ranks, on all machines")
    time.sleep(0.02)


def _report_reason(store: "Store", ranks: Ranks, error: BaseException) -> None:
    """Tell the others why this rank ends: its own reason, or "" if it only lost the others."""
    reason = str(error) if isinstance(error, AlexNetError) else f"{type(error).__name__}: {error}"
    try:
        store.set(f"ended/{ranks.rank}", "" if _lost_connection(error) else reason)
    except RuntimeError:  # the store was in a rank that has ended
        return


def _lost_connection(error: BaseException) -> bool:
    """Return whether another rank may have ended: gloo and NCCL have no error class for it."""
    own_errors = torch.OutOfMemoryError | torch.AcceleratorError
    return isinstance(error, RuntimeError) and not isinstance(error, own_errors)


def _reasons_of_others(store: "Store", ranks: Ranks) -> str | None:
    """Return why the others ended, as far as they told; None if nobody knows a reason."""
    keys = {rank: f"ended/{rank}" for rank in range(ranks.world_size) if rank != ranks.rank}
    deadline = time.monotonic() + SECONDS_FOR_REASONS
    try:
        while not all(store.check([key]) for key in keys.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        reasons = {
            rank: store.get(key).decode() if store.check([key]) else None
            for rank, key in keys.items()
        }
    except RuntimeError:
        return "rank 0 has been killed, or its machine cannot be reached"
    silent = [str(rank) for rank, reason in reasons.items() if reason is None]
    if silent:
        return f"rank {', '.join(silent)} has been killed, or does not answer"
    return "; ".join(f"rank {rank}: {reason}" for rank, reason in reasons.items() if reason) or None
