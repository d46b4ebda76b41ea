"""The failures a client is told of: an HTTP status and one line, as JSON."""

from starlette.responses import JSONResponse


class ApiError(Exception):
    """A request that cannot be answered: `status` (4xx, 503) and what was found and expected.

    `retry_after`: seconds after which a refused request may come again.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


def error_response(error: ApiError) -> JSONResponse:
    """Return {"error": its line} with its status."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return JSONResponse({"error": error.message}, error.status, headers)
