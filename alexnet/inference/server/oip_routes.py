"""The Open Inference Protocol v2 for every model, as Triton, KServe and others speak it: /v2.

A model takes `images`, decoded squares UINT8 (N, S, S, C) as a prepared dataset holds them, or
`files`, the bytes of image files BYTES (N); it gives `probabilities` FP32 (N, classes) and
`classes`, the names of the likeliest ones, BYTES (N, k).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from alexnet import __version__
from alexnet.inference.predict import TOP_K, top_classes
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.health_routes import require_ready
from alexnet.inference.server.model_store import ServedModel
from alexnet.inference.server.oip_tensors import (
    LENGTH_HEADER,
    InputTensor,
    OutputTensor,
    make_answer,
    parse_request,
)
from alexnet.inference.server.predict_routes import require_finite
from alexnet.inference.server.request_input import require_count
from alexnet.inference.server.service import Service

IMAGES = "images"
FILES = "files"
PROBABILITIES = "probabilities"
CLASSES = "classes"
SERVER = {"name": "alexnet", "version": __version__, "extensions": ["binary_tensor_data"]}


def routes(service: Service) -> list[BaseRoute]:
    """Return the protocol's routes."""

    async def server(request: Request) -> JSONResponse:
        return JSONResponse(SERVER)

    async def live(request: Request) -> JSONResponse:
        return JSONResponse({"live": True})

    async def ready(request: Request) -> JSONResponse:
        require_ready(service)
        return JSONResponse({"ready": True})

    async def model(request: Request) -> JSONResponse:
        return JSONResponse(describe(await service.model(request.path_params["name"])))

    async def model_ready(request: Request) -> JSONResponse:
        require_ready(service)
        model = await service.model(request.path_params["name"])
        return JSONResponse({"name": model.name, "ready": True})

    async def infer(request: Request) -> Response:
        model = await service.model(request.path_params["name"])
        return await answer(service, model, request)

    return [
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models/{name}", model),
        Route("/v2/models/{name}/ready", model_ready),
        Route("/v2/models/{name}/infer", infer, methods=["POST"]),
    ]


async def answer(service: Service, model: ServedModel, request: Request) -> Response:
    """Answer an inference request; ApiError 400, 413 or 415."""
    infer_request = parse_request(await request.body(), request.headers.get(LENGTH_HEADER))
    squares = await read_squares(service, model, infer_request.inputs)
    crops = model.classifier.preprocessor.augmentation.test_crops
    probability = await service.probabilities(model, squares, crops)
    require_finite(model, probability)
    top = [top_classes(model.classifier, row, TOP_K) for row in probability]
    names = np.array([[name for name, _ in row] for row in top])
    outputs = [OutputTensor(PROBABILITIES, probability.numpy()), OutputTensor(CLASSES, names)]
    chosen = choose_outputs(outputs, infer_request.outputs)
    body, json_length = make_answer(infer_request, model.name, chosen)
    if json_length is None:
        return Response(body, media_type="application/json")
    headers = {LENGTH_HEADER: str(json_length)}
    return Response(body, headers=headers, media_type="application/octet-stream")


async def read_squares(
    service: Service, model: ServedModel, inputs: Sequence[InputTensor]
) -> list[np.ndarray]:
    """Return the squares, uint8 (S, S, C), of a request's one input; ApiError 400, 413 or 415."""
    if len(inputs) != 1 or inputs[0].name not in (IMAGES, FILES):
        names = ", ".join(tensor.name[:20] for tensor in inputs)
        raise ApiError(400, f"inputs: found {names or 'none'}, expected either {IMAGES} or {FILES}")
    name, value = inputs[0]
    if isinstance(value, list) != (name == FILES):
        raise ApiError(400, f"{name}: expected {'BYTES' if name == FILES else 'UINT8'}")
    require_count(len(value), service.limits)
    if isinstance(value, np.ndarray):
        require_shape(model, value)
        return list(value)
    return await service.decode_all(model, value)


def require_shape(model: ServedModel, images: np.ndarray) -> None:
    """ApiError 400 unless images have the shape (N, S, S, C) of the model's records."""
    config = model.classifier.preprocessor.decode_config
    expected = (config.size, config.size, config.channels)
    if images.shape[1:] != expected:
        raise ApiError(400, f"{IMAGES}: shape {list(images.shape)}, expected {[-1, *expected]}")


def choose_outputs(
    outputs: Sequence[OutputTensor], names: Sequence[str] | None
) -> list[OutputTensor]:
    """Return the outputs of these names, in their order; all for None. ApiError 400."""
    by_name = {output.name: output for output in outputs}
    for name in names or ():
        if name not in by_name:
            raise ApiError(400, f"output {name[:40]!r}: expected {' or '.join(by_name)}")
    return [by_name[name] for name in (by_name if names is None else names)]


def describe(model: ServedModel) -> dict[str, Any]:
    """Return a model's metadata as the protocol has it."""
    preprocessor = model.classifier.preprocessor
    config = preprocessor.decode_config
    classes = len(preprocessor.classes)
    square = [config.size, config.size, config.channels]
    return {
        "name": model.name,
        "platform": "alexnet",
        "inputs": [
            {"name": IMAGES, "datatype": "UINT8", "shape": [-1, *square]},
            {"name": FILES, "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, classes]},
            {"name": CLASSES, "datatype": "BYTES", "shape": [-1, min(TOP_K, classes)]},
        ],
    }
