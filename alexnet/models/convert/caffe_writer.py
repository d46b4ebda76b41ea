"""Write Caffe's files: a .caffemodel with the weights of layers, and a mean.binaryproto.

The messages are those that `caffe` reads, in their second version (V2). Their fields' numbers are
in Caffe's own schema, caffe.proto.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alexnet.models.convert.caffe import DATA_FIELD, LAYER_FIELDS, SHAPE_FIELD, Blob
from alexnet.models.convert.caffe_layers import CaffeLayer
from alexnet.models.convert.protobuf_writer import (
    bytes_field,
    packed_field,
    text_field,
    varint_field,
)

NET_NAME_FIELD = 1
LAYER_FIELD = 100
TYPE_FIELD, BOTTOM_FIELD, TOP_FIELD = 2, 3, 4  # of a layer


def write_caffemodel(
    path: Path, name: str, layers: Sequence[CaffeLayer], blobs: Mapping[str, Sequence[Blob]]
) -> None:
    """Write a net's layers, each with its float32 `blobs`, layer by layer; OSError."""
    with path.open("wb") as file:
        file.write(text_field(NET_NAME_FIELD, name))
        for layer in layers:
            message = _layer_message(layer, blobs.get(layer.name, ()))
            file.write(bytes_field(LAYER_FIELD, message))


def write_mean(path: Path, mean: np.ndarray) -> None:
    """Write a mean image, float32 (S, S, C) in R, G, B, as Caffe has it: 1 x C x S x S; OSError."""
    blue_first = mean[..., ::-1].transpose(2, 0, 1)
    sizes = (1, *blue_first.shape)  # num, channels, height, width
    header = b"".join(varint_field(number, size) for number, size in enumerate(sizes, 1))
    path.write_bytes(header + bytes_field(DATA_FIELD, _little_endian(blue_first)))


def _layer_message(layer: CaffeLayer, blobs: Sequence[Blob]) -> bytes:
    numbers = LAYER_FIELDS[LAYER_FIELD]
    fields = [text_field(numbers.name, layer.name), text_field(TYPE_FIELD, layer.type)]
    fields += [text_field(BOTTOM_FIELD, bottom) for bottom in layer.bottoms]
    fields += [text_field(TOP_FIELD, top) for top in layer.tops]
    fields += [bytes_field(numbers.blobs, _blob_message(blob)) for blob in blobs]
    return b"".join(fields)


def _blob_message(blob: Blob) -> bytes:
    shape = packed_field(1, blob.shape)
    return bytes_field(DATA_FIELD, _little_endian(blob)) + bytes_field(SHAPE_FIELD, shape)


def _little_endian(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values, "<f4").data.cast("B")
