"""Images as vectors: POST /v1/features, a layer's output; POST /v1/neighbors, the nearest images.

The neighbors are searched in the dataset that the model was trained on, by the index that
`alexnet neighbors` keeps next to the model file. Where there is none yet, the first request has it
computed, in a thread of its own, if the dataset is small enough to be waited for.
"""

from functools import partial
from math import prod
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from alexnet.analysis.retrieval.features import extract_features
from alexnet.analysis.retrieval.neighbors import Neighbor
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.image_index import ImageIndexes
from alexnet.inference.server.model_store import ServedModel
from alexnet.inference.server.predict_routes import require_finite
from alexnet.inference.server.query import whole_number
from alexnet.inference.server.request_input import read_image, read_images
from alexnet.inference.server.served_dataset import image_path
from alexnet.inference.server.service import Service

LAYER = "fc7"  # the paper's, section 6.1
MAX_VALUES = 4_000_000  # of an answer: 64 images of fc7 are 262,144
DIGITS = 6  # of a distance


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes for features and neighbors."""
    indexes = ImageIndexes(service)

    async def features(request: Request) -> JSONResponse:
        model = await service.model(request.query_params.get("model"))
        layer = request.query_params.get("layer", LAYER)
        shape = layer_shape(model, layer)
        files = await read_images(request, service.limits)
        require_values(len(files) * prod(shape))
        squares = np.stack(await service.decode_all(model, [file.data for file in files]))
        job = partial(extract_features, model.classifier, squares, layer, service.runtime)
        vectors = await service.compute(job)
        require_finite(model, vectors)
        answer = {"layer": layer, "shape": list(shape), "features": vectors.tolist()}
        return JSONResponse(answer)

    async def neighbors(request: Request) -> JSONResponse:
        model = await service.model(request.query_params.get("model"))
        top_k = whole_number(request, "top_k", 10, 1, 100)
        square = await service.decode(model, await read_image(request))
        nearest = await indexes.nearest(model, square, LAYER, top_k)
        return JSONResponse({"neighbors": [describe(each, model) for each in nearest]})

    return [
        Route("/v1/features", features, methods=["POST"]),
        Route("/v1/neighbors", neighbors, methods=["POST"]),
    ]


def layer_shape(model: ServedModel, layer: str) -> tuple[int, ...]:
    """Return the shape (C, H, W) of a named layer's output; ApiError 404."""
    network = model.classifier.model
    shapes = {shape.name: shape.out_shape for shape in network.shapes if shape.name}
    shapes["prob"] = (network.num_classes, 1, 1)
    if layer not in shapes:
        raise ApiError(404, f"layer {layer[:40]!r}: not found; expected {', '.join(shapes)}")
    return shapes[layer]


def require_values(count: int) -> None:
    """ApiError 413 where an answer would have too many values."""
    if count > MAX_VALUES:
        raise ApiError(413, f"{count:,} values: expected at most {MAX_VALUES:,}; send fewer images")


def describe(neighbor: Neighbor, model: ServedModel) -> dict[str, Any]:
    """Return a neighbor as JSON data, with the path of its picture."""
    return neighbor.to_json() | {
        "distance": round(neighbor.distance, DIGITS),
        "image": image_path(model, neighbor.split, neighbor.index),
    }
