"""Assemble the application: the routes of every subject, the page's files, errors as JSON."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.inference.server import (
    dataset_routes,
    explain_routes,
    health_routes,
    model_routes,
    oip_routes,
    openapi_routes,
    predict_routes,
    run_routes,
    unit_routes,
    upload_routes,
    vector_routes,
)
from alexnet.inference.server.api_error import ApiError, error_response
from alexnet.inference.server.body_limit import LimitedBodies
from alexnet.inference.server.metrics import MeasuredApp
from alexnet.inference.server.security import Access, GuardedApp
from alexnet.inference.server.service import Service

WEB = Path(__file__).with_name("web")
ROUTE_MODULES = (
    model_routes,
    predict_routes,
    vector_routes,
    explain_routes,
    unit_routes,
    dataset_routes,
    run_routes,
    upload_routes,
    oip_routes,
    health_routes,
    openapi_routes,
)


def make_app(service: Service, access: Access | None = None) -> Starlette:
    """Return the ASGI application of a service.

    `access`: who may ask; None: everybody, for a caller that guards it itself.
    """
    middleware = [Middleware(MeasuredApp, service.metrics)]
    if access is not None:
        middleware.append(Middleware(GuardedApp, access))
    middleware.append(Middleware(LimitedBodies, service.limits))
    return Starlette(
        routes=all_routes(service),
        middleware=middleware,
        exception_handlers={
            ApiError: answer_error,
            AlexNetError: answer_failure,
            HTTPException: answer_http_exception,
            ClientDisconnect: answer_nobody,
            Exception: answer_defect,
        },
    )


def all_routes(service: Service) -> list[BaseRoute]:
    """Return the routes of every subject, and the page's files for all other paths."""
    routes = [route for module in ROUTE_MODULES for route in module.routes(service)]
    return [*routes, Mount("/", StaticFiles(directory=WEB, html=True))]


async def answer_error(request: Request, error: Exception) -> Response:
    """Answer an ApiError as {"error": its line}."""
    assert isinstance(error, ApiError)
    return error_response(error)


async def answer_failure(request: Request, error: Exception) -> Response:
    """Answer a failure that names its cure: 400 for a wrong request, 409 for files that are."""
    status = 400 if isinstance(error, UsageError) else 409
    return error_response(ApiError(status, str(error)))


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Answer what starlette refuses, such as an unknown path, as {"error": its line}."""
    assert isinstance(error, HTTPException)
    line = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": line}, error.status_code, error.headers)


async def answer_nobody(request: Request, error: Exception) -> Response:
    """Answer a client that has gone: nothing is sent, 499 is counted."""
    return Response(status_code=499)


async def answer_defect(request: Request, error: Exception) -> Response:
    """Answer a defect of ours; the traceback goes to the log."""
    return JSONResponse({"error": "the service failed; its log tells more"}, 500)
