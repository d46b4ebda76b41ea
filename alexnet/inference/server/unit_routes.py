"""The images of a dataset that excite a unit most, found in the background for all units."""

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from alexnet.analysis.computation import Computation
from alexnet.analysis.receptive_field import receptive_field
from alexnet.analysis.top_images import (
    TOP_K,
    TopImages,
    load_or_find_top_images,
    unit_layers,
)
from alexnet.core.device import Runtime
from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.background_jobs import BackgroundJobs, job_answer
from alexnet.inference.server.model_store import ServedModel, require_unchanged
from alexnet.inference.server.predict_routes import require_finite
from alexnet.inference.server.query import required, whole_number
from alexnet.inference.server.served_dataset import image_json, served_dataset
from alexnet.inference.server.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """Return the route /v1/units."""
    jobs = BackgroundJobs(service)

    async def answer(request: Request) -> Response:
        model = await service.model(request.query_params.get("model"))
        layer = required(request, "layer")
        unit = whole_number(request, "unit", None, 0, 2**31)
        count = whole_number(request, "count", TOP_K, 1, TOP_K)
        check_unit(model, layer, unit)
        dataset = await served_dataset(service, model)
        job = jobs.start(
            (*model.version, dataset.digest),
            partial(find_images, model, dataset, service.runtime),
        )
        if not job.finished:
            return job_answer(job)
        images = unit_images(model, dataset, job.result, layer, unit)[:count]
        return JSONResponse({"split": job.result.split, "images": images})

    return [Route("/v1/units", answer)]


def find_images(
    model: ServedModel, dataset: PreparedDataset, runtime: Runtime
) -> Computation[TopImages]:
    """Find the images of all units step by step; AlexNetError where the model has changed."""
    require_unchanged(model)
    return (yield from load_or_find_top_images(model.path, model.classifier, dataset, runtime))


def check_unit(model: ServedModel, layer: str, unit: int) -> None:
    """ApiError 400 unless a network has this unit in a convolution or fully connected layer."""
    network = model.classifier.model
    names = unit_layers(network)
    if layer not in names:
        raise ApiError(400, f"layer={layer}: expected one of {', '.join(names)}")
    units = next(shape.out_shape[0] for shape in network.shapes if shape.name == layer)
    if unit >= units:
        raise ApiError(400, f"unit={unit}: {layer} has {units} units")


def unit_images(
    model: ServedModel, dataset: PreparedDataset, top: TopImages, layer: str, unit: int
) -> list[dict[str, Any]]:
    """Return the images that excite a unit most, with the box of what it sees there.

    The box is in pixels of the stored image.
    """
    shapes = model.classifier.model.shapes
    columns = next(shape.out_shape[2] for shape in shapes if shape.name == layer)
    margin = model.classifier.preprocessor.margin // 2
    split = dataset.splits[top.split]
    require_finite(model, top.layers[layer].value[unit])
    images = []
    for index, value, position in top.of_unit(layer, unit):
        row, column = divmod(position, columns)
        box = receptive_field(shapes, layer, row, column).clipped
        images.append(
            image_json(model, split, index)
            | {
                "class": dataset.classes[split.labels[index]],
                "value": value,
                "position": [row, column],
                "box": [side + margin for side in box],
            }
        )
    return images
