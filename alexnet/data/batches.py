"""A split and a view as a stream of batches with a position that can be saved and found again at once.

The order of an epoch is a function of (seed, epoch), so a position is two numbers and any batch can be made without the ones
before it. Worker threads read, decode and cut ahead, a few batches deep; what they make does not depend on how many they are.
Batches carry bytes; the arithmetic of views is done where the network is, and a GPU fetches the next ones while it computes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from alexnet.data import pixels
from alexnet.data.ahead import prefetched
from alexnet.data.store import Split
from alexnet.data.views import Draws, View, draw, turned
from alexnet.randomness import key, permutation
from alexnet.ranks import ALONE, Ranks
from alexnet.recipes.recipe import Recipe, Training


@dataclass(frozen=True)
class Position:
    """Where a run stands: whole epochs done, and batches done in the one under way."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batch:
    """Pictures on their way to the network: their numbers, labels (N,), the draws made for them, and the crops of some `rows`.

    Crops are uint8 (n, H, W, C). Of several ranks, each cuts only those that it has to see.
    """

    pictures: np.ndarray
    labels: Tensor
    draws: Draws
    rows: slice
    crops: Tensor


Placed = tuple[Position, Batch]
CPU = torch.device("cpu")


def every(pictures: int) -> slice:
    """All rows of a batch."""
    return slice(0, pictures)


def side_at(recipe: Recipe, epoch: float) -> int:
    """Side of the square that is seen at an epoch, pixels; never more than the network's own input."""
    own, sizes = recipe.network.input[1], recipe.views.sizes
    return own if sizes is None else min(own, int(sizes.at(epoch)))


@dataclass(frozen=True)
class Stream:
    """The training batches of a split: `batch(position)` makes any one of them, `after(position)` yields all from there on."""

    split: Split
    view: View
    training: Training
    seed: int
    workers: int
    rows: Callable[[int], slice] = every  # of a batch of so many pictures: those whose crops are wanted
    device: torch.device = CPU  # where `after` brings the crops

    @property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return self.training.batches(len(self.split))

    def epoch(self, position: Position) -> float:
        """The epoch at a position, a fraction inside one: what schedules are asked for."""
        return position.epoch + position.batch / self.batches_per_epoch

    def order(self, epoch: int) -> np.ndarray:
        """The order of pictures in an epoch."""
        return permutation(key(self.seed, "order", epoch if self.training.reshuffle else 0), len(self.split))

    def after(self, position: Position) -> Iterator[Placed]:
        """Every batch from a position to the end of the run, each with its own position."""
        batches = prefetched(self._jobs(position), self.workers)
        return travelling(batches, self.device) if self.device.type == "cuda" else batches

    def batch(self, position: Position, order: np.ndarray) -> Batch:
        """The batch at a position of an epoch in that order."""
        size = self.training.batch
        places = np.arange(position.batch * size, min(len(self.split), (position.batch + 1) * size))
        pictures = order[places]
        draws = draw(self.view.views, self.view.margin, self.seed, position.epoch, pictures, places)
        rows = self.rows(len(pictures))
        own = draws.of(rows)
        squares = [turned(self.split.pixels(int(i)), angle) for i, angle in zip(pictures[rows], own.angles, strict=True)]
        crops = pixels.crops(squares, (own.offsets, own.mirror), self.view.input[1:], pinned=self.device.type == "cuda")
        return Batch(pictures, torch.from_numpy(self.split.labels[pictures]), draws, rows, crops)

    def _jobs(self, position: Position) -> Iterator[Callable[[], Placed]]:
        first = position.batch
        for epoch in range(position.epoch, self.training.epochs):
            order = self.order(epoch)
            for number in range(first, self.batches_per_epoch):
                yield partial(self._placed, Position(epoch, number), order)
            first = 0

    def _placed(self, position: Position, order: np.ndarray) -> Placed:
        return position, self.batch(position, order)


def travelling(batches: Iterable[Placed], device: torch.device) -> Iterator[Placed]:
    """The batches with their crops on a GPU, where those of the next one travel while the net computes with these."""
    way, sent = torch.cuda.Stream(device), None
    for position, batch in batches:
        with torch.cuda.stream(way):
            crops = batch.crops.to(device, non_blocking=True)
        if sent is not None:
            yield _arrived(*sent)
        sent = position, replace(batch, crops=crops), way.record_event()
    if sent is not None:
        yield _arrived(*sent)


def _arrived(position: Position, batch: Batch, event: torch.cuda.Event) -> Placed:
    """A batch that the stream in use may work on: it waits for the crops, and their memory waits for it."""
    using = torch.cuda.current_stream(batch.crops.device)
    using.wait_event(event)
    batch.crops.record_stream(using)
    return position, batch


def in_order(split: Split, size: int, workers: int, ranks: Ranks = ALONE) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every record of a split once, in stored order: (squares uint8 (N, S, S, C), labels (N,)) a batch.

    Of several ranks, each gets every so many-th batch, beginning with that of its own number.
    """

    def job(first: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        places = range(first, min(first + size, len(split)))
        return lambda: (np.stack([split.pixels(i) for i in places]), split.labels[places.start : places.stop])

    return prefetched((job(first) for first in range(ranks.rank * size, len(split), ranks.world * size)), workers)
