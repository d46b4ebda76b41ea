"""The description of the interface: /openapi.json, and /docs, a page that shows it offline."""

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import BaseRoute, Route

from alexnet import __version__
from alexnet.inference.server.service import Service

DESCRIPTION = Path(__file__).with_name("openapi.json")
PAGE = Path(__file__).with_name("web") / "docs.html"


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes of the description and its page."""
    description = read_description()

    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(description)

    async def docs(request: Request) -> FileResponse:
        return FileResponse(PAGE)

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


def read_description() -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the interface, with the package's version."""
    description: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    description["info"]["version"] = __version__
    return description
