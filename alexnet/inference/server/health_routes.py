"""Whether the service works and what it does: /healthz, /readyz and /metrics."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """Return the probes and the metrics."""

    async def live(request: Request) -> JSONResponse:
        return JSONResponse({"status": "live"})

    async def ready(request: Request) -> JSONResponse:
        require_ready(service)
        return JSONResponse({"status": "ready"})

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/healthz", live),
        Route("/readyz", ready),
        Route("/metrics", metrics),
    ]


def require_ready(service: Service) -> None:
    """ApiError 503 when the service is stopping: no more requests should be sent to it."""
    if service.stopping.is_set():
        raise ApiError(503, "the service is stopping")
