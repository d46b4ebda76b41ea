"""The nearest images of a model's dataset: indexes kept in memory, computed at first use."""

import asyncio
from collections.abc import Hashable
from functools import partial

import numpy as np

from alexnet.analysis.retrieval import neighbors
from alexnet.analysis.retrieval.features import FeatureIndex, index_folder, load_or_build_index
from alexnet.core.errors import AlexNetError
from alexnet.data.image_batches import ImageBatch
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.evaluation.evaluate import no_progress
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.model_store import ServedModel, require_unchanged
from alexnet.inference.server.served_dataset import served_dataset
from alexnet.inference.server.service import Service

MAX_IMAGES = 20_000  # of a split whose index a request may wait for: minutes on a few cores
MAX_INDEXES = 4  # in memory; most of their bytes are mapped files
SPLITS = ("train", "val", "test")  # the first that has images is searched


class Stopped(AlexNetError):
    """The service stops, and with it an index that is being computed."""


class ImageIndexes:
    """The indexes of the models' datasets, by model, dataset and layer; each is made once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tasks: dict[Hashable, asyncio.Task[FeatureIndex]] = {}

    async def nearest(
        self, model: ServedModel, square: np.ndarray, layer: str, top_k: int
    ) -> tuple[neighbors.Neighbor, ...]:
        """Return the dataset's images nearest to a square uint8 (S, S, C), nearest first.

        ApiError 404 where no dataset is known, 409 where its index must be made by a command.
        """
        dataset = await served_dataset(self._service, model)
        index = await self._index(model, dataset, layer)
        job = partial(find_nearest, index, model, square, top_k, self._service)
        return await self._service.compute(job)

    async def _index(
        self, model: ServedModel, dataset: PreparedDataset, layer: str
    ) -> FeatureIndex:
        key = *model.version, dataset.digest, layer
        task = self._tasks.pop(key, None)
        if task is None or (task.done() and task.exception() is not None):
            job = asyncio.to_thread(make_index, self._service, model, dataset, layer)
            task = asyncio.create_task(job)
        self._tasks[key] = task  # the last used one is at the end
        while len(self._tasks) > MAX_INDEXES:
            self._tasks.pop(next(iter(self._tasks)))
        return await asyncio.shield(task)


def make_index(
    service: Service, model: ServedModel, dataset: PreparedDataset, layer: str
) -> FeatureIndex:
    """Read the index of a dataset, or compute it; ApiError 404 or 409."""
    split = searched_split(dataset)

    def progress(done: int, total: int) -> None:
        if service.stopping.is_set():
            raise Stopped("the service is stopping")

    folder = index_folder(model.path, dataset, split, layer)
    if len(split) > MAX_IMAGES and not folder.is_dir():
        raise ApiError(
            409, f"{len(split):,} images are too many to index now; see `alexnet neighbors`"
        )
    require_unchanged(model)
    return load_or_build_index(
        model.path, model.classifier, dataset, split, layer, service.runtime, progress
    )


def searched_split(dataset: PreparedDataset) -> Split:
    """Return the first split that has images; ApiError 404."""
    for name in SPLITS:
        split = dataset.splits.get(name)
        if split is not None and len(split):
            return split
    raise ApiError(404, f"{dataset.location}: no images in {', '.join(SPLITS)}")


def find_nearest(
    index: FeatureIndex, model: ServedModel, square: np.ndarray, top_k: int, service: Service
) -> tuple[neighbors.Neighbor, ...]:
    """Return the images nearest to a square, by exact search."""
    search = neighbors.make_search(index, "exact", None, no_progress)
    batch = ImageBatch(["image"], [square], [None])
    results = neighbors.find_neighbors(
        index, model.classifier, [batch], top_k, search, service.runtime
    )
    return next(results).neighbors
