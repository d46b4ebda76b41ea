"""A limit on the bytes of a request's body, also of one that does not tell its length.

The limit holds as the body is read, so a chunked body that never ends is refused as well. A second
limit holds for the bodies of all requests together, since each is in memory until it is answered.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.service import Limits


class LimitedBodies:
    """Pass the bodies of an application's requests on up to the limits; ApiError 413 or 503."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._bytes = 0  # of all requests that are being answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        size = 0

        async def receive_limited() -> Message:
            nonlocal size
            self._require_size(int(length) if length.isdecimal() else 0)
            message = await receive()
            received = len(message.get("body", b""))
            size += received
            self._bytes += received
            self._require_size(size)
            if self._bytes > self._limits.bodies:
                raise ApiError(503, "too many requests are arriving; try again", retry_after=1)
            return message

        try:
            await self._app(scope, receive_limited, send)
        finally:
            self._bytes -= size

    def _require_size(self, size: int) -> None:
        if size > self._limits.body:
            raise ApiError(413, f"body: more than {self._limits.body:,} bytes; expected fewer")
