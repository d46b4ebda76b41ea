"""A model's dataset and its mistakes on it: images, scores, confusions, likely wrong labels.

What takes long is computed in the background: the answer is 202 with {"done", "total"} until it is
there.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from alexnet.analysis.label_errors import Suspect, find_label_errors
from alexnet.analysis.mistakes import SplitMistakes, find_mistakes
from alexnet.analysis.plots.confusion import class_errors, confused_pairs, confusion_matrix
from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import require_same_classes
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.background_jobs import BackgroundJobs, Job, job_answer
from alexnet.inference.server.model_store import ServedModel
from alexnet.inference.server.query import class_index, whole_number
from alexnet.inference.server.served_dataset import (
    image_file,
    image_json,
    served_dataset,
    served_split,
)
from alexnet.inference.server.service import Service

MAX_MATRIX = 100  # classes whose counts are all sent
MAX_PAIRS = 2000  # of confused classes
MAX_LISTED = 1000  # images in one answer
IMAGE_CACHE = "private, max-age=3600"


class Served(NamedTuple):
    """What a request is about: a model and its open dataset."""

    model: ServedModel
    dataset: PreparedDataset


@dataclass(frozen=True, eq=False)
class DatasetAnswers:
    """The handlers of the routes; `jobs` holds the mistakes and the label errors of models."""

    service: Service
    jobs: BackgroundJobs

    async def describe(self, request: Request) -> Response:
        """Answer GET /v1/dataset."""
        served = await self._served(request)
        return JSONResponse(describe_dataset(served.dataset))

    async def image(self, request: Request) -> Response:
        """Answer GET /v1/dataset/SPLIT/INDEX.jpg."""
        served = await self._served(request)
        split = served_split(served.dataset, request.path_params["split"])
        index = request.path_params["index"]
        if index >= len(split):
            raise ApiError(404, f"image {index}: {split.name} has {len(split)}")
        data, media_type = await asyncio.to_thread(image_file, split, index)
        return Response(data, media_type=media_type, headers={"Cache-Control": IMAGE_CACHE})

    async def scores(self, request: Request) -> Response:
        """Answer GET /v1/dataset/scores."""
        served = await self._served(request)
        job = self._mistakes(request, served)
        if not job.finished:
            return job_answer(job)
        scores = await asyncio.to_thread(describe_scores, job.result, served.dataset.classes)
        return JSONResponse(scores)

    async def cell(self, request: Request) -> Response:
        """Answer GET /v1/dataset/cell: the images of a cell of the confusion matrix."""
        served = await self._served(request)
        true = class_index(request, "true", served.dataset.classes)
        predicted = class_index(request, "predicted", served.dataset.classes)
        if true is None or predicted is None:
            raise ApiError(400, "expected two classes: ?true=...&predicted=...")
        job = self._mistakes(request, served)
        if not job.finished:
            return job_answer(job)
        indices = job.result.cell(true, predicted)[:MAX_LISTED]
        return predicted_images(served, job.result, indices)

    async def mistakes(self, request: Request) -> Response:
        """Answer GET /v1/dataset/mistakes: the most confident wrong predictions."""
        served = await self._served(request)
        count = whole_number(request, "count", 60, 1, MAX_LISTED)
        job = self._mistakes(request, served)
        if not job.finished:
            return job_answer(job)
        return predicted_images(served, job.result, job.result.worst(count))

    async def suspects(self, request: Request) -> Response:
        """Answer GET /v1/dataset/suspects: images whose label is likely wrong."""
        served = await self._served(request)
        count = whole_number(request, "count", 100, 1, MAX_LISTED)
        model, dataset = served
        key = ("suspects", *model.version, dataset.digest)
        make = partial(find_label_errors, model.classifier, dataset, self.service.runtime)
        job = self.jobs.start(key, make)
        if not job.finished:
            return job_answer(job)
        return JSONResponse({"images": suspect_images(served, job.result[:count])})

    async def _served(self, request: Request) -> Served:
        model = await self.service.model(request.query_params.get("model"))
        return Served(model, await served_dataset(self.service, model))

    def _mistakes(self, request: Request, served: Served) -> Job:
        """Return the job that scores a split; AlexNetError for a dataset of other classes."""
        model, dataset = served
        require_same_classes(model.classifier.preprocessor, dataset)
        split = served_split(dataset, request.query_params.get("split"))
        key = ("mistakes", *model.version, dataset.digest, split.name)
        make = partial(find_mistakes, model.classifier, split, self.service.runtime)
        return self.jobs.start(key, make)


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes /v1/dataset..."""
    answers = DatasetAnswers(service, BackgroundJobs(service))
    return [
        Route("/v1/dataset", answers.describe),
        Route("/v1/dataset/scores", answers.scores),
        Route("/v1/dataset/cell", answers.cell),
        Route("/v1/dataset/mistakes", answers.mistakes),
        Route("/v1/dataset/suspects", answers.suspects),
        Route("/v1/dataset/{split}/{index:int}.jpg", answers.image),
    ]


def describe_dataset(dataset: PreparedDataset) -> dict[str, Any]:
    """Return a dataset's name, classes, splits, image format, and the images left out and why."""
    return {
        "name": PurePath(str(dataset.location)).name,
        "classes": dataset.classes,
        "splits": {name: len(split) for name, split in dataset.splits.items()},
        "size": dataset.decode_config.size,
        "channels": dataset.decode_config.channels,
        "left_out": [{"name": name, "reason": reason} for name, reason in dataset.bad],
    }


def describe_scores(mistakes: SplitMistakes, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the errors of a split, of its classes and of pairs of them."""
    labels, predicted = mistakes.split.labels, mistakes.predicted
    matrix = None
    if len(classes) <= MAX_MATRIX:
        matrix = confusion_matrix(labels, predicted, len(classes)).tolist()
    return {
        "split": mistakes.split.name,
        "images": mistakes.scores.images,
        **dict(mistakes.scores),
        "classes": [
            {"class": classes[label], "images": images, "errors": errors}
            for label, errors, images in class_errors(labels, predicted)
        ],
        "matrix": matrix,
        "pairs": [
            {"true": classes[true], "predicted": classes[other], "images": images}
            for true, other, images in confused_pairs(labels, predicted)[:MAX_PAIRS]
        ],
    }


def predicted_images(
    served: Served, mistakes: SplitMistakes, indices: Iterable[int]
) -> JSONResponse:
    """Answer with images of a split, what they are and what they were predicted as."""
    classes = served.dataset.classes
    split = mistakes.split
    images = [
        image_json(served.model, split, index)
        | {
            "true": classes[split.labels[index]],
            "predicted": classes[mistakes.predicted[index]],
            "probability": round(float(mistakes.probability[index]), 6),
        }
        for index in map(int, indices)
    ]
    return JSONResponse({"images": images})


def suspect_images(served: Served, suspects: Iterable[Suspect]) -> list[dict[str, Any]]:
    """Return images whose label is likely wrong, with the given class and a better one."""
    model, dataset = served
    return [
        image_json(model, dataset.splits[suspect.split], suspect.index)
        | {
            "given": dataset.classes[suspect.given_label],
            "suggested": dataset.classes[suspect.suggested],
            "score": round(suspect.score, 6),
        }
        for suspect in suspects
    ]
