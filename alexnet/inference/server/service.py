"""What all routes share: the models, the thread that computes, and the limits.

Networks compute in one thread, one job after the other, for torch uses all cores for each. Images
are decoded in other threads meanwhile. What waits is counted: beyond `Limits.queue` a request is
refused with 503 instead of waiting.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import Tensor

from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError
from alexnet.data.images import BadImage, TooManyPixels, read_size
from alexnet.data.remote import is_address
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.batcher import Batcher
from alexnet.inference.server.metrics import Metrics
from alexnet.inference.server.model_store import ModelStore, ServedModel

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What requests may take."""

    body: int = 32 << 20  # bytes of a request
    bodies: int = 256 << 20  # bytes of all requests that are being answered
    images: int = 64  # in one request
    pixels: int = 64_000_000  # of one image, told by its header before it is decoded
    queue: int = 256  # images and jobs that wait or are computed


@dataclass(eq=False)
class Service:
    """The state of a running service.

    `folder`: where runs are listed and, with `allow_training`, datasets and runs are made.
    `dataset`: shown with every model that knows none of its own.
    """

    models: ModelStore
    runtime: Runtime
    folder: Path | None = None
    dataset: str | None = None
    allow_training: bool = False
    limits: Limits = field(default_factory=Limits)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the server stops
    metrics: Metrics = field(default_factory=Metrics)
    on_close: list[Callable[[], None]] = field(default_factory=list)
    _waiting: int = 0
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="compute")
    )

    async def model(self, name: str | None) -> ServedModel:
        """Return a model by its name, read in a thread where it is not in memory; ApiError 404."""
        return await asyncio.to_thread(self.models.get, name)

    def dataset_for(self, own: str | None) -> str | None:
        """Return the location of a model's dataset: its own where it is still there, or ours."""
        return known_dataset(own) or known_dataset(self.dataset)

    async def compute(self, job: Callable[[], T]) -> T:
        """Run a job in the thread that computes; ApiError 503 where too many wait already."""
        with self._in_queue(1):
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    async def probabilities(
        self, model: ServedModel, squares: Sequence[np.ndarray], crops: int
    ) -> Tensor:
        """Return the probabilities (N, classes) of squares, computed with those of other requests.

        ApiError 503 where too many wait already.
        """
        with self._in_queue(len(squares)):
            return await self._batcher.probabilities(model.classifier, squares, crops)

    async def decode(self, model: ServedModel, data: bytes) -> np.ndarray:
        """Decode an image's bytes as the model's preprocessing does: uint8 (S, S, C).

        ApiError 413 or 415 where it is too large or cannot be read.
        """
        with self._in_queue(1):
            return await self._decode(model, data)

    async def decode_each(
        self, model: ServedModel, files: Sequence[bytes]
    ) -> list[np.ndarray | ApiError]:
        """Decode several images; in the place of one that cannot be read stands its ApiError."""
        with self._in_queue(len(files)):
            results = await asyncio.gather(
                *(self._decode(model, data) for data in files), return_exceptions=True
            )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ApiError):
                raise result
        return [result for result in results if isinstance(result, np.ndarray | ApiError)]

    async def decode_all(self, model: ServedModel, files: Sequence[bytes]) -> list[np.ndarray]:
        """Decode several images; the ApiError of the first one that cannot be read."""
        images = await self.decode_each(model, files)
        for image in images:
            if isinstance(image, ApiError):
                raise image
        return [image for image in images if isinstance(image, np.ndarray)]

    async def _decode(self, model: ServedModel, data: bytes) -> np.ndarray:
        job = partial(decode_image, model, data, self.limits.pixels)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, job)

    @contextmanager
    def _in_queue(self, count: int) -> Iterator[None]:
        """Hold places in the queue; ApiError 503 where there are not as many."""
        if self._waiting + count > self.limits.queue:
            raise ApiError(503, "too many requests are waiting; try again", retry_after=1)
        self._waiting += count
        self.metrics.queue_depth.set(self._waiting)
        try:
            yield
        finally:
            self._waiting -= count
            self.metrics.queue_depth.set(self._waiting)

    @cached_property
    def _batcher(self) -> Batcher:
        return Batcher(self._thread, self.runtime, self.metrics.batch_size.observe)

    @cached_property
    def _decoders(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.runtime.workers, thread_name_prefix="decode")

    def close(self) -> None:
        """End what the routes have started, then the threads, after their running jobs."""
        for end in self.on_close:
            end()
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self._thread.shutdown(wait=True, cancel_futures=True)


def decode_image(model: ServedModel, data: bytes, max_pixels: int) -> np.ndarray:
    """Decode an image's bytes as the model's preprocessing does: uint8 (S, S, C).

    ApiError 413 where its header tells of more than `max_pixels`, 415 where it cannot be read.
    """
    try:
        width, height = read_size(data)
        if width * height > max_pixels:
            raise TooManyPixels(f"it is {width} x {height} pixels, {max_pixels:,} are allowed")
        return model.classifier.preprocessor.decode_square(data)
    except TooManyPixels as error:
        raise ApiError(413, f"image: too large: {error}") from error
    except BadImage as error:
        raise ApiError(415, f"image: cannot be read: {error}") from error
    except AlexNetError as error:
        raise ApiError(415, f"image: {error}") from error


def known_dataset(location: str | None) -> str | None:
    """Return the location of a dataset; None where it is not known or not there any more."""
    if location is None or not (is_address(location) or Path(location).is_dir()):
        return None
    return location
