"""Values in the query of a request, checked."""

from starlette.requests import Request

from alexnet.inference.server.api_error import ApiError

MAX_DIGITS = 9  # of a whole number


def required(request: Request, name: str) -> str:
    """Return a parameter; ApiError 400 where it is missing."""
    value = request.query_params.get(name)
    if value is None:
        raise ApiError(400, f"{name}: expected in the query, ?{name}=...")
    return value


def whole_number(request: Request, name: str, default: int | None, low: int, high: int) -> int:
    """Return a parameter from `low` to `high`; ApiError 400 for another value.

    `default`: where it is missing; None: it is required.
    """
    if default is not None and name not in request.query_params:
        return default
    text = required(request, name)
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if not is_number or not low <= int(text) <= high:
        raise ApiError(400, f"{name}={text[:40]}: expected a whole number from {low} to {high}")
    return int(text)


def class_index(request: Request, name: str, classes: tuple[str, ...]) -> int | None:
    """Return the index of the class that a parameter names; None where it is missing."""
    value = request.query_params.get(name)
    if value is None:
        return None
    if value not in classes:
        raise ApiError(400, f"{name}={value}: not one of the {len(classes)} classes")
    return classes.index(value)
