"""Uploads over HTTP: folders of images that a person drops on the page become a dataset.

POST   /v1/uploads                        -> {"upload": ID, "limits"}
PUT    /v1/uploads/ID/CLASS/FILE          an image's bytes; classes are the folders' names
POST   /v1/uploads/ID/prepare             {"dataset": NAME, "size", "val_fraction"}
GET    /v1/uploads/ID                     how far it is
DELETE /v1/uploads/ID
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from alexnet.inference.server import uploads
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.service import Service
from alexnet.inference.server.training_access import (
    BYTES,
    child_folder,
    read_object,
    require_name,
    require_training,
)
from alexnet.inference.server.uploads import Upload, Uploads

QUICK_SIZE = 80  # pixels of a stored square, for an input of 67
FULL_SIZE = 256
FEW_IMAGES = 1000  # below, a validation on a tenth of them says little


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes of a service's uploads, which are deleted when it ends."""
    handlers = UploadHandlers(service)
    one = "/v1/uploads/{upload}"
    return [
        Route("/v1/uploads", handlers.create, methods=["POST"]),
        Route(one, handlers.show, methods=["GET"]),
        Route(one, handlers.delete, methods=["DELETE"]),
        Route(f"{one}/prepare", handlers.prepare, methods=["POST"]),
        Route(f"{one}/{{label}}/{{file}}", handlers.put, methods=["PUT"]),
    ]


class UploadHandlers:
    """The handlers of the routes, with the uploads of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._uploads: Uploads | None = None
        if service.folder is not None:
            self._uploads = Uploads(service.folder)
            service.on_close.append(self._uploads.close)

    async def create(self, request: Request) -> Response:
        """Begin an upload."""
        require_training(self._service, request)
        await asyncio.to_thread(self._opened.remove_abandoned)
        limits = {"files": uploads.MAX_FILES, "file_bytes": self._service.limits.body}
        return JSONResponse({"upload": self._opened.create(), "limits": limits}, 201)

    async def put(self, request: Request) -> Response:
        """Store one image of an upload."""
        require_training(self._service, request, BYTES)
        upload = self._upload(request)
        label = request.path_params["label"]
        name = request.path_params["file"]
        limit = self._service.limits.body
        await uploads.receive(upload, label, name, request.stream(), limit)
        return Response(status_code=204)

    async def show(self, request: Request) -> Response:
        """Answer how far an upload is."""
        return JSONResponse(self._upload(request).to_json())

    async def delete(self, request: Request) -> Response:
        """Delete an upload."""
        require_training(self._service, request)
        await asyncio.to_thread(self._opened.delete, request.path_params["upload"])
        return Response(status_code=204)

    async def prepare(self, request: Request) -> Response:
        """Make a dataset of an upload; it goes on after the answer."""
        folder = require_training(self._service, request)
        upload = self._upload(request)
        values = await read_object(request)
        name = require_name(values.get("dataset"), "dataset")
        dataset = child_folder(folder, name)
        if dataset.exists():
            raise ApiError(409, f"{name}: exists already; choose another name")
        size = values.get("size", QUICK_SIZE)
        if size not in (QUICK_SIZE, FULL_SIZE):
            raise ApiError(400, f"size={size!r}: expected {QUICK_SIZE} or {FULL_SIZE}")
        uploads.start_preparing(upload, dataset, size, read_fraction(values, upload))
        return JSONResponse(upload.to_json(), 202)

    def _upload(self, request: Request) -> Upload:
        return self._opened.get(request.path_params["upload"])

    @property
    def _opened(self) -> Uploads:
        if self._uploads is None:
            raise ApiError(404, "no folder is served; start with: alexnet serve FOLDER")
        return self._uploads


def read_fraction(values: dict[str, Any], upload: Upload) -> float:
    """Return the share of images to validate on; by default more of few images."""
    fraction = values.get("val_fraction", 0.2 if upload.files < FEW_IMAGES else 0.1)
    if not isinstance(fraction, int | float) or not 0 <= fraction <= 0.5:
        raise ApiError(400, f"val_fraction={fraction!r}: expected a number from 0 to 0.5")
    return float(fraction)
