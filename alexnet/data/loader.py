"""The training batches of a split from any point of a run, and all records in stored order.

The order of an epoch is a function of (seed, epoch), so the state of a loader is two numbers, and
any batch can be made without those before it. Worker threads read, decode and crop a few batches
ahead; the batches do not depend on how many threads there are. Batches carry uint8 crops: the
arithmetic of augmentation runs on the network's device, and a GPU copies the next batch while it
computes. It is not a PyTorch DataLoader because a run must be resumable at any step.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from alexnet.core.rng import key, permutation
from alexnet.data.augmentation import AugmentParams, draw_augment_params, rotate
from alexnet.data.crop_normalize import CropPlacement, crop_batch
from alexnet.data.prefetch import prefetch
from alexnet.data.prepared import Split
from alexnet.data.transforms import Preprocessor
from alexnet.distributed.process_group import SINGLE_PROCESS, Ranks
from alexnet.recipes.recipe import Recipe, Training

CPU = torch.device("cpu")


@dataclass(frozen=True)
class LoaderState:
    """A point of a run: the epochs finished, and the batches finished in the current one."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batch:
    """One training batch of N images, with the crops of those rows that this rank needs."""

    indices: np.ndarray  # int64 (N,), in the split
    labels: Tensor  # int64 (N,)
    params: AugmentParams  # of all N images
    rows: slice  # the rows of the batch whose crops are here
    crops: Tensor  # uint8 (rows, H, W, C)


LoaderItem = tuple[LoaderState, Batch]


def all_rows(images: int) -> slice:
    """Return all rows of a batch."""
    return slice(0, images)


def resolution_at(recipe: Recipe, epoch: float) -> int:
    """Return the side of the network's input at an epoch, pixels, at most that of the network."""
    input_size = recipe.network.input[1]
    schedule = recipe.augmentation.resolution_schedule
    return input_size if schedule is None else min(input_size, int(schedule.at(epoch)))


@dataclass(frozen=True)
class TrainLoader:
    """The training batches of a split; `batch` makes any of them, `iterate_from` yields the rest.

    `rows`: from a batch's size to the rows whose crops are wanted here. `device`: where
    `iterate_from` puts the crops.
    """

    split: Split
    preprocessor: Preprocessor
    training: Training
    seed: int
    workers: int
    rows: Callable[[int], slice] = all_rows
    device: torch.device = CPU

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch; the last may be smaller."""
        return self.training.steps_per_epoch(len(self.split))

    def epoch(self, state: LoaderState) -> float:
        """Return the epoch of a state, with a fraction inside an epoch, for schedules."""
        return state.epoch + state.batch / self.steps_per_epoch

    def order(self, epoch: int) -> np.ndarray:
        """Return the order of the split's images in an epoch, int64 (len(split),)."""
        shuffle = epoch if self.training.reshuffle else 0
        return permutation(key(self.seed, "order", shuffle), len(self.split))

    def iterate_from(self, state: LoaderState) -> Iterator[LoaderItem]:
        """Yield every batch from a state to the end of the run, each with its own state."""
        batches = prefetch(self._jobs(state), self.workers)
        return prefetch_to_device(batches, self.device) if self.device.type == "cuda" else batches

    def batch(self, state: LoaderState, order: np.ndarray) -> Batch:
        """Return the batch at a state of an epoch in the given order."""
        first = state.batch * self.training.batch_size
        end = min(len(self.split), first + self.training.batch_size)
        positions = np.arange(first, end)
        indices = order[positions]
        params = self._params(state.epoch, indices, positions)
        rows = self.rows(len(indices))
        labels = torch.from_numpy(self.split.labels[indices])
        return Batch(indices, labels, params, rows, self._crops(indices[rows], params.rows(rows)))

    def _params(self, epoch: int, indices: np.ndarray, positions: np.ndarray) -> AugmentParams:
        augmentation = self.preprocessor.augmentation
        margin = self.preprocessor.margin
        return draw_augment_params(augmentation, margin, self.seed, epoch, indices, positions)

    def _crops(self, indices: np.ndarray, params: AugmentParams) -> Tensor:
        """Read some images of the split and cut their crops: uint8 (N, H, W, C)."""
        images = [
            rotate(self.split.pixels(int(i)), angle)
            for i, angle in zip(indices, params.angles, strict=True)
        ]
        height, width = self.preprocessor.input_shape[1:]
        placement = CropPlacement(params.offsets, params.mirror)
        return crop_batch(images, placement, (height, width), pinned=self.device.type == "cuda")

    def _jobs(self, state: LoaderState) -> Iterator[Callable[[], LoaderItem]]:
        first = state.batch
        for epoch in range(state.epoch, self.training.epochs):
            order = self.order(epoch)
            for batch in range(first, self.steps_per_epoch):
                yield partial(self._item, LoaderState(epoch, batch), order)
            first = 0

    def _item(self, state: LoaderState, order: np.ndarray) -> LoaderItem:
        return state, self.batch(state, order)


def prefetch_to_device(items: Iterable[LoaderItem], device: torch.device) -> Iterator[LoaderItem]:
    """Yield batches with their crops on a GPU; the next one is copied while this one is in use."""
    stream = torch.cuda.Stream(device)
    pending: tuple[LoaderState, Batch, torch.cuda.Event] | None = None
    for state, batch in items:
        with torch.cuda.stream(stream):
            crops = batch.crops.to(device, non_blocking=True)
        if pending is not None:
            yield _wait_for_copy(*pending)
        pending = (state, replace(batch, crops=crops), stream.record_event())
    if pending is not None:
        yield _wait_for_copy(*pending)


def _wait_for_copy(state: LoaderState, batch: Batch, copied: torch.cuda.Event) -> LoaderItem:
    """Let the current stream wait for the crops, and their memory for the current stream."""
    stream = torch.cuda.current_stream(batch.crops.device)
    stream.wait_event(copied)
    batch.crops.record_stream(stream)
    return state, batch


def iterate_split(
    split: Split, batch_size: int, workers: int, ranks: Ranks = SINGLE_PROCESS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a split once in stored order: (images uint8 (N, S, S, C), labels int64 (N,)) a batch.

    Rank r of n gets the batches r, r + n, r + 2n, ...
    """
    starts = range(ranks.rank * batch_size, len(split), ranks.world_size * batch_size)
    jobs = (partial(_read_range, split, start, start + batch_size) for start in starts)
    return prefetch(jobs, workers)


def _read_range(split: Split, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of the records start ... end - 1, as far as there are any."""
    end = min(end, len(split))
    images = np.stack([split.pixels(i) for i in range(start, end)])
    return images, split.labels[start:end]
