"""The models that are there: GET /v1/models."""

import asyncio
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from alexnet.inference.server.model_description import describe_model
from alexnet.inference.server.model_store import dataset_of_run
from alexnet.inference.server.service import Service
from alexnet.inference.server.vector_routes import LAYER as NEIGHBORS_LAYER
from alexnet.models.model_file import ModelInfo


def routes(service: Service) -> list[BaseRoute]:
    """Return the route that lists the models."""

    async def list_models(request: Request) -> JSONResponse:
        models = await asyncio.to_thread(describe_models, service)
        training = None if service.folder is None else {"allowed": service.allow_training}
        default = models[0]["name"] if models else None
        return JSONResponse({"default": default, "training": training, "models": models})

    return [Route("/v1/models", list_models)]


def describe_models(service: Service) -> list[dict[str, Any]]:
    """Return all models as JSON data, from what their files say."""
    return [describe(service, name, *info) for name, info in service.models.infos().items()]


def describe(service: Service, name: str, path: Path, info: ModelInfo) -> dict[str, Any]:
    """Return a model as JSON data, and whether its dataset is there."""
    has_dataset = service.dataset_for(dataset_of_run(path.parent)) is not None
    described = describe_model(name, info)
    compared = any(layer["name"] == NEIGHBORS_LAYER for layer in described["layers"])
    return described | {"dataset": has_dataset, "neighbors": has_dataset and compared}
