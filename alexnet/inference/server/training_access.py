"""Who may train, and where: the checks of every request that makes or changes something.

Only below the served folder, only with --allow-training, only by requests that a form cannot send,
and only under names that are safe on every file system. That a request comes from this service's
own page is checked for all routes alike, before they are reached.
"""

import re
from pathlib import Path
from typing import Any

from starlette.requests import Request

from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.request_input import JSON, content_type, parse_json
from alexnet.inference.server.service import Service

NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}(?<!\.)")
# names of devices, whatever follows the first dot, on Windows
DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{kind}{n}" for kind in ("com", "lpt") for n in "123456789¹²³"]
)
MAX_JSON = 65_536  # bytes
BYTES = "application/octet-stream"


def require_folder(service: Service) -> Path:
    """Return the served folder; ApiError 404 where none is served."""
    if service.folder is None:
        raise ApiError(404, "no folder is served; start with: alexnet serve FOLDER")
    return service.folder


def require_training(service: Service, request: Request, expected: str = JSON) -> Path:
    """Return the served folder where this request may change it; else ApiError 403, 404 or 415.

    `expected`: the body's Content-Type. A form on another site's page can send neither of ours, nor
    DELETE.
    """
    folder = require_folder(service)
    if not service.allow_training:
        raise ApiError(403, "training is not allowed; start the server with --allow-training")
    sent = content_type(request)
    if sent != expected and request.method != "DELETE":
        raise ApiError(415, f"Content-Type: found {sent or 'none'}, expected {expected}")
    return folder


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request's body; ApiError 400 or 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON:
            raise ApiError(413, f"body: expected at most {MAX_JSON:,} bytes of JSON")
    value = parse_json(bytes(body) or b"{}")
    if not isinstance(value, dict):
        raise ApiError(400, "body: expected a JSON object")
    return value


def require_name(name: object, what: str) -> str:
    """Return the name of a run or dataset if it is safe; else ApiError 400."""
    if isinstance(name, str) and NAME.fullmatch(name) and not is_device(name):
        return name
    raise ApiError(
        400,
        f"{what} {name!r}: expected 1 to 64 letters, digits, - _ and dots, "
        "with no dot at the beginning or the end",
    )


def is_device(name: str) -> bool:
    """Return whether a file of that name would be a device on Windows."""
    return name.partition(".")[0].strip().lower() in DEVICES


def child_folder(folder: Path, name: str) -> Path:
    """Return a folder's child; ApiError 404 where a link leads out of the folder.

    The child need not exist.
    """
    child = folder / name
    if not is_inside(folder, child):
        raise ApiError(404, f"{name}: leads out of the served folder")
    return child


def is_inside(folder: Path, child: Path) -> bool:
    """Return whether a path, with its links followed, is below a folder."""
    try:
        return child.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False
