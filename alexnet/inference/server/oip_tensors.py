"""The tensors of the Open Inference Protocol v2: as JSON lists, or as bytes after the JSON.

A request with bytes tells the length of its JSON in the header Inference-Header-Content-Length; the
bytes of each input follow in order, `binary_data_size` of them. A BYTES tensor is a row of strings,
each after its length as four bytes; in JSON its strings are base64.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.request_input import decode_base64, parse_json

LENGTH_HEADER = "inference-header-content-length"
MAX_DIMENSIONS = 8
MAX_DIGITS = 9  # of a length


class InputTensor(NamedTuple):
    """A named input: uint8 values in its shape, or the bytes of image files."""

    name: str
    value: "np.ndarray | list[bytes]"


class OutputTensor(NamedTuple):
    """A named output: float32 (N, classes), or names as an array (N, k) of str."""

    name: str
    value: np.ndarray


class InferRequest(NamedTuple):
    """What a request asks for; `binary`: whether an output is to come as bytes, not as JSON."""

    id: str | None
    inputs: list[InputTensor]
    outputs: list[str] | None  # None: all
    binary: Mapping[str, bool]  # for the outputs that say so themselves
    binary_by_default: bool


# ---- requests


def parse_request(body: bytes, json_length: str | None) -> InferRequest:
    """Return an inference request; ApiError 400 where it is not one.

    `json_length`: the header's value; None where the whole body is JSON.
    """
    length = len(body)
    if json_length is not None:
        is_number = json_length.isdecimal() and len(json_length) <= MAX_DIGITS
        if not is_number or int(json_length) > length:
            raise ApiError(400, f"{LENGTH_HEADER}: {json_length[:20]}, the body has {length} bytes")
        length = int(json_length)
    document = _object(parse_json(body[:length]), "body")
    specs = [_object(spec, "inputs") for spec in _list(document.get("inputs"), "inputs")]
    parameters = _object(document.get("parameters", {}), "parameters")
    requested = None
    if "outputs" in document:
        requested = [_object(each, "outputs") for each in _list(document["outputs"], "outputs")]
    return InferRequest(
        _text(document["id"], "id") if "id" in document else None,
        _read_inputs(specs, body[length:]),
        None if requested is None else [_text(each.get("name"), "name") for each in requested],
        _binary_choices(requested or []),
        parameters.get("binary_data_output") is True,
    )


def _binary_choices(outputs: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Return whether to send an output as bytes, by its name, where the request says so."""
    choices = {}
    for output in outputs:
        parameters = _object(output.get("parameters", {}), "parameters")
        if "binary_data" in parameters:
            choices[_text(output.get("name"), "name")] = parameters["binary_data"] is True
    return choices


def _read_inputs(specs: Sequence[dict[str, Any]], data: bytes) -> list[InputTensor]:
    inputs = []
    for spec in specs:
        name = _text(spec.get("name"), "name")
        shape = _shape(spec.get("shape"), name)
        size = _object(spec.get("parameters", {}), "parameters").get("binary_data_size")
        datatype = spec.get("datatype")
        if size is None:
            value = _from_json(spec.get("data"), name, datatype, shape)
        else:
            if type(size) is not int or not 0 <= size <= len(data):
                raise ApiError(400, f"{name}: binary_data_size is {size}, {len(data)} are left")
            value = _from_bytes(data[:size], name, datatype, shape)
            data = data[size:]
        inputs.append(InputTensor(name, value))
    if data:
        raise ApiError(400, f"body: {len(data)} bytes are left after the inputs")
    return inputs


def _from_json(
    data: Any, name: str, datatype: Any, shape: tuple[int, ...]
) -> "np.ndarray | list[bytes]":
    if datatype == "BYTES":
        texts = [_text(text, name) for text in _list(data, name)]
        _require_length(len(texts), name, shape)
        return [decode_base64(text) for text in texts]
    _require_uint8(name, datatype)
    try:
        values = np.array(_list(data, name))
    except ValueError as error:
        raise ApiError(400, f"{name}: its lists have different lengths") from error
    if values.size and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255):
        raise ApiError(400, f"{name}: expected whole numbers from 0 to 255")
    _require_length(values.size, name, shape)
    return values.astype(np.uint8).reshape(shape)


def _from_bytes(
    data: bytes, name: str, datatype: Any, shape: tuple[int, ...]
) -> "np.ndarray | list[bytes]":
    if datatype == "BYTES":
        texts = split_strings(data, name)
        _require_length(len(texts), name, shape)
        return texts
    _require_uint8(name, datatype)
    _require_length(len(data), name, shape)
    return np.frombuffer(data, np.uint8).reshape(shape)


def split_strings(data: bytes, name: str) -> list[bytes]:
    """Return the strings of a BYTES tensor, each after its length; ApiError 400."""
    texts = []
    start = 0
    while start < len(data):
        end = start + 4
        if end <= len(data):
            end += struct.unpack_from("<I", data, start)[0]
        if end > len(data) or end < start + 4:
            raise ApiError(400, f"{name}: a string's length is past the end of its bytes")
        texts.append(data[start + 4 : end])
        start = end
    return texts


# ---- answers


def make_answer(
    request: InferRequest, model: str, outputs: Sequence[OutputTensor]
) -> tuple[bytes, int | None]:
    """Return an answer's body, and the length of its JSON where bytes follow it."""
    specs = []
    data = b""
    for output in outputs:
        as_bytes = request.binary.get(output.name, request.binary_by_default)
        spec, binary = _write_output(output, as_bytes)
        specs.append(spec)
        data += binary
    document: dict[str, Any] = {"model_name": model, "outputs": specs}
    if request.id is not None:
        document["id"] = request.id
    text = json.dumps(document).encode()
    return text + data, len(text) if data else None


def _write_output(output: OutputTensor, as_bytes: bool) -> tuple[dict[str, Any], bytes]:
    """Return an output as JSON data and the bytes that follow, none where its values are in it."""
    texts = output.value.dtype.kind in "UO"
    spec: dict[str, Any] = {
        "name": output.name,
        "datatype": "BYTES" if texts else "FP32",
        "shape": list(output.value.shape),
    }
    if not as_bytes:
        return spec | {"data": output.value.flatten().tolist()}, b""
    data = join_strings(output.value) if texts else output.value.astype("<f4").tobytes()
    return spec | {"parameters": {"binary_data_size": len(data)}}, data


def join_strings(texts: np.ndarray) -> bytes:
    """Return names as the bytes of a BYTES tensor."""
    encoded = [str(text).encode() for text in texts.flatten()]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


# ---- checks


def _shape(value: Any, name: str) -> tuple[int, ...]:
    sizes = _list(value, f"{name}: shape")
    is_shape = all(type(size) is int and size >= 1 for size in sizes)
    if not is_shape or not 1 <= len(sizes) <= MAX_DIMENSIONS:
        raise ApiError(400, f"{name}: shape is {str(sizes)[:80]}, expected whole numbers from 1")
    return tuple(sizes)


def _require_uint8(name: str, datatype: Any) -> None:
    if datatype != "UINT8":
        raise ApiError(400, f"{name}: datatype is {str(datatype)[:20]}, expected UINT8 or BYTES")


def _require_length(length: int, name: str, shape: tuple[int, ...]) -> None:
    if length != prod(shape):
        raise ApiError(400, f"{name}: {length} values, its shape {list(shape)} has {prod(shape)}")


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ApiError(400, f"{name}: found {type(value).__name__}, expected an object")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ApiError(400, f"{name}: found {type(value).__name__}, expected a list")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ApiError(400, f"{name}: found {type(value).__name__}, expected a string")
    return value
