"""The classes of images: POST /v1/predict."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route
from torch import Tensor

from alexnet.inference.predict import TOP_K, top_classes
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.model_store import ServedModel
from alexnet.inference.server.query import whole_number
from alexnet.inference.server.request_input import (
    FORM,
    JSON,
    ImageFile,
    content_type,
    read_images,
)
from alexnet.inference.server.service import Service

MAX_CLASSES = 100_000  # that may be asked for: no model has as many
DIGITS = 6  # of a probability


def routes(service: Service) -> list[BaseRoute]:
    """Return the route that predicts."""

    async def predict(request: Request) -> JSONResponse:
        start = time.perf_counter()
        model = await service.model(request.query_params.get("model"))
        crops = requested_crops(request, model)
        top_k = whole_number(request, "top_k", TOP_K, 1, MAX_CLASSES)
        files = await read_images(request, service.limits)
        several = content_type(request) in (FORM, JSON)
        predictions = await predict_files(service, model, files, crops, top_k, several)
        seconds = round(time.perf_counter() - start, 4)
        answer = {"model": model.name, "seconds": seconds, "predictions": predictions}
        return JSONResponse(answer)

    return [Route("/v1/predict", predict, methods=["POST"])]


def requested_crops(request: Request, model: ServedModel) -> int:
    """Return the number of crops to average, the model's own by default; ApiError 400."""
    own = model.classifier.preprocessor.augmentation.test_crops
    crops = whole_number(request, "crops", own, 1, 10)
    if crops not in (1, 9, 10):
        raise ApiError(400, f"crops={crops}: expected 1, 9 or 10")
    return crops


async def predict_files(
    service: Service,
    model: ServedModel,
    files: Sequence[ImageFile],
    crops: int,
    top_k: int,
    several: bool,
) -> list[dict[str, Any]]:
    """Return a prediction for every file, as JSON data.

    One of `several` files that cannot be read gets its `error`; a single one is an ApiError.
    """
    images = await service.decode_each(model, [file.data for file in files])
    readable = [image for image in images if isinstance(image, np.ndarray)]
    rows: Sequence[Tensor] = ()
    if readable:
        rows = list(await service.probabilities(model, readable, crops))
    remaining = iter(rows)
    predictions = []
    for file, image in zip(files, images, strict=True):
        if isinstance(image, np.ndarray):
            top = describe_top(model, next(remaining), top_k)
            predictions.append({"name": file.name, "top": top})
        elif several:
            predictions.append({"name": file.name, "top": [], "error": image.message})
        else:
            raise image
    return predictions


def describe_top(model: ServedModel, probability: Tensor, top_k: int) -> list[dict[str, Any]]:
    """Return the likeliest classes as JSON data, from probabilities (classes,)."""
    require_finite(model, probability)
    return [
        {"class": name, "probability": round(value, DIGITS)}
        for name, value in top_classes(model.classifier, probability, top_k)
    ]


def require_finite(model: ServedModel, outputs: Tensor) -> None:
    """ApiError 409 where a model's outputs are not numbers, as after a training that diverged."""
    if not outputs.isfinite().all():
        raise ApiError(409, f"model {model.name!r}: its outputs are not finite; use another")
