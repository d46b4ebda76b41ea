"""Requests that arrive together are computed together, and none waits for another to arrive.

The thread that computes takes the images that are there when it gets to them: one when the service
is idle, many when requests came during the batch before. Batches have a few fixed sizes
(`batch_sizes`); missing images are padded with copies of the first one.

An image's probabilities do not depend on its place in a batch or on the images beside it: at one
size they are the same to the bit. Between sizes the libraries may sum in another order: on a
processor with AVX512, sizes from 4 agreed to the bit in float32 and from 2 in bf16, and a single
image differed by 2e-6 and 1e-5. `predict` computes one image alone as an idle service does.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from alexnet.core.device import Runtime
from alexnet.evaluation.evaluate import probabilities
from alexnet.inference.server.batch_sizes import choose_size
from alexnet.models.model_file import Classifier

Key = tuple[Classifier, int]  # the model and the number of crops: images of a batch share them


@dataclass(frozen=True, eq=False)
class WaitingImage:
    """A square, uint8 (S, S, C), and where its probabilities, (classes,), go."""

    square: np.ndarray
    result: "Future[Tensor]" = field(default_factory=Future)

    def is_wanted(self) -> bool:
        """Return whether its request still waits; from then on the request cannot be cancelled."""
        return self.result.running() or self.result.set_running_or_notify_cancel()


class Batcher:
    """Compute the images of concurrent requests in common batches, in a thread.

    `observe` is called with the number of images of every batch.
    """

    def __init__(
        self, thread: Executor, runtime: Runtime, observe: Callable[[int], object]
    ) -> None:
        self._thread = thread
        self._runtime = runtime
        self._observe = observe
        self._waiting: dict[Key, list[WaitingImage]] = {}
        self._lock = threading.Lock()

    async def probabilities(
        self, classifier: Classifier, squares: Sequence[np.ndarray], crops: int
    ) -> Tensor:
        """Return the class probabilities (N, classes), float32, of squares uint8 (S, S, C).

        They are averaged over 1, 9 or 10 crops, as `evaluate` does.
        """
        images = [WaitingImage(square) for square in squares]
        with self._lock:
            self._waiting.setdefault((classifier, crops), []).extend(images)
        for _ in images:  # a job finds nothing to do where an earlier one took its image along
            self._thread.submit(self._compute_batch)
        return torch.stack([await asyncio.wrap_future(image.result) for image in images])

    def _compute_batch(self) -> None:
        """Compute the images that have waited longest, and those of the same model and crops."""
        with self._lock:
            if not self._waiting:
                return
            key = next(iter(self._waiting))
            waiting = [image for image in self._waiting.pop(key) if image.is_wanted()]
            if not waiting:
                return
            size = choose_size(len(waiting), key[1])
            if len(waiting) > size:
                self._waiting[key] = waiting[size:]  # behind other models' images
        _answer(waiting[:size], size, key, self._runtime)
        self._observe(min(len(waiting), size))


def _answer(images: Sequence[WaitingImage], size: int, key: Key, runtime: Runtime) -> None:
    """Compute a batch of `size`, padded where there are fewer images, and set their results."""
    classifier, crops = key
    first = images[0].square
    padding = [first] * (size - len(images))
    try:
        squares = np.stack([*(image.square for image in images), *padding])
        rows = probabilities(classifier, squares, crops, runtime)
    except Exception as error:  # each request answers for its own
        for image in images:
            image.result.set_exception(error)
        return
    for image, row in zip(images, rows, strict=False):
        image.result.set_result(row)
