"""The images that a request brings in its body, in one of three forms.

An image is the raw body, whatever its Content-Type says; several are the files of a form
(multipart/form-data) or JSON, {"images": [base64, ...]}, where data: addresses are taken as well.
"""

import base64
import json
from typing import Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.service import Limits

FORM = "multipart/form-data"
JSON = "application/json"
MAX_TEXT_FIELDS = 16  # of a form; they are ignored
EXPECTED = "expected an image as the body, files of a form, or JSON with base64 images"


class ImageFile(NamedTuple):
    """An image file's bytes and what the client calls it."""

    name: str
    data: bytes


def content_type(request: Request) -> str:
    """Return the type of a request's body, without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_image(request: Request) -> bytes:
    """Return the image that is a request's raw body; ApiError 400 or 415."""
    _require_plain(request)
    if content_type(request) in (FORM, JSON):
        raise ApiError(415, f"body: found {content_type(request)}, expected an image's bytes")
    data = await request.body()
    if not data:
        raise ApiError(400, "body: it is empty, expected an image's bytes")
    return data


async def read_images(request: Request, limits: Limits) -> list[ImageFile]:
    """Return the images of a request, one or more; ApiError 400, 413 or 415."""
    _require_plain(request)
    kind = content_type(request)
    if kind == FORM:
        images = await _read_form(request, limits)
    elif kind == JSON:
        images = decode_json_images(parse_json(await request.body()), limits)
    else:
        data = await request.body()
        images = [ImageFile("image", data)] if data else []
    if not images:
        raise ApiError(400, f"no image found; {EXPECTED}")
    return images


def parse_json(data: bytes) -> Any:
    """Return the value of JSON text; ApiError 400."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"body: not JSON ({error})") from error


def decode_json_images(document: Any, limits: Limits) -> list[ImageFile]:
    """Return the images of {"images": [base64, ...]}; ApiError 400 or 413."""
    texts = document.get("images") if isinstance(document, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ApiError(400, 'body: expected {"images": [base64, ...]}')
    require_count(len(texts), limits)
    return [ImageFile(f"[{index}]", decode_base64(text)) for index, text in enumerate(texts)]


def decode_base64(text: str) -> bytes:
    """Return the bytes of a base64 text or data: address; ApiError 400."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ApiError(400, f"image: not base64 ({error})") from error


def require_count(images: int, limits: Limits) -> None:
    """ApiError 413 where a request has more images than one may have."""
    if images > limits.images:
        raise ApiError(413, f"{images} images: expected at most {limits.images} in a request")


async def _read_form(request: Request, limits: Limits) -> list[ImageFile]:
    try:
        form = request.form(max_files=limits.images, max_fields=MAX_TEXT_FIELDS)
        async with form as fields:
            files = [file for _, file in fields.multi_items() if isinstance(file, UploadFile)]
            return [
                ImageFile(file.filename or f"[{index}]", await file.read())
                for index, file in enumerate(files)
            ]
    except HTTPException as error:
        raise ApiError(400, f"form: {error.detail}") from error


def _require_plain(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ApiError(415, f"content-encoding {encoding[:40]}: expected a body as it is")
