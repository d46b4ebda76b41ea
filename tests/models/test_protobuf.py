"""The wire format against protobuf's own writer; a thousand damaged files are read or refused."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from alexnet.core.errors import AlexNetError
from alexnet.models.convert.caffe import read_caffemodel
from alexnet.models.convert.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Field,
    MalformedMessage,
    fields,
    varints,
)
from tests.helpers.caffe_files import CAFFE, ORDERS, caffemodel


def all_fields(data: bytes) -> list[Field]:
    return list(fields(memoryview(data)))


def small_model(version: int = 2) -> bytes:
    """Return a network of two small layers, about 70 weights."""
    weights = {"conv1.weight": np.arange(24.0).reshape(2, 3, 2, 2), "conv1.bias": np.arange(2.0)}
    weights |= {"fc8.weight": np.arange(40.0).reshape(5, 8), "fc8.bias": np.arange(5.0)}
    return caffemodel(weights, ORDERS["caffe"], version).SerializeToString()


def test_fields_are_those_protobuf_wrote() -> None:
    blob = CAFFE["BlobProto"](num=300, width=-1, data=[1.5, -2.0], double_data=[0.1])
    blob.shape.dim.extend([1, 2**40])
    by_number = {field.number: field for field in all_fields(blob.SerializeToString())}
    assert [(number, field.wire_type) for number, field in by_number.items()] == [
        (1, VARINT),
        (4, VARINT),
        (5, BYTES),
        (7, BYTES),
        (8, BYTES),
    ]
    assert list(varints(by_number[1].data)) == [300] and list(varints(by_number[4].data)) == [
        2**64 - 1
    ]
    assert np.array_equal(np.frombuffer(by_number[5].data, "<f4"), np.array([1.5, -2.0]))
    assert np.frombuffer(by_number[8].data, "<f8").tolist() == [0.1]
    (dims,) = fields(by_number[7].data)
    assert list(varints(dims.data)) == [1, 2**40]


def test_fixed_sizes_and_large_field_numbers() -> None:
    assert [tuple(field[:2]) for field in all_fields(b"\x0d1234" + b"\x1112345678")] == [
        (1, FIXED32),
        (2, FIXED64),
    ]
    assert all_fields(b"\xa0\x06\x07")[0].number == 100
    assert all_fields(b"") == []


def test_values_are_slices_of_the_file() -> None:
    data = bytearray(b"\x0a\x04abcd")
    (field,) = fields(memoryview(data))
    data[2:3] = b"X"
    assert bytes(field.data) == b"Xbcd"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x05abcd", "a value of 5 bytes, where 4 are left"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "where 0 are left"),
        (b"\x0d123", "a value of 4 bytes, where 3 are left"),
        (b"\x09123", "a value of 8 bytes, where 3 are left"),
        (b"\x08" + b"\xff" * 11, "a number without an end"),
        (b"\x08\x80", "a number without an end"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x0f", "wire type 7"),
        (b"\x00\x01", "field number 0"),
        (b"\xff" * 9 + b"\x01", "field number"),
    ],
)
def test_what_is_not_a_message_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message):
        all_fields(data)


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """Return a file with flipped bits, cut short, or with random bytes in place of a few."""
    data = bytearray(content)
    position = int(generator.integers(len(content)))
    match generator.integers(3):
        case 0:
            for flipped in generator.integers(0, len(data), generator.integers(1, 5)):
                data[flipped] ^= 1 << int(generator.integers(8))
        case 1:
            del data[position:]
        case _:
            end = position + int(generator.integers(0, 3))
            data[position:end] = generator.bytes(int(generator.integers(1, 10)))
    return bytes(data)


@pytest.mark.parametrize("version", [1, 2])
def test_a_damaged_file_is_read_or_refused_in_one_line(version: int, tmp_path: Path) -> None:
    content = small_model(version)
    generator = np.random.default_rng(version)
    file = tmp_path / "damaged"
    refused = 0
    for _ in range(600):
        file.write_bytes(damaged(content, generator))
        try:
            layers = read_caffemodel(file)
        except AlexNetError as error:
            refused += 1
            assert str(error).startswith(f"{file}: ") and len(str(error).splitlines()) == 1
        else:
            assert all(
                blob.dtype == np.float32 and blob.size > 0
                for blobs in layers.values()
                for blob in blobs
            )
    assert 100 < refused < 600  # a flipped bit of a weight is still a weight


def length_delimited(number: int, data: bytes) -> bytes:
    """Return a length-delimited field."""
    return (
        bytes(CAFFE["BlobShape"](dim=[number << 3 | BYTES, len(data)]).SerializeToString()[2:])
        + data
    )


def model_of(layer: bytes) -> bytes:
    """Return a NetParameter (V2) of one layer with these fields."""
    return length_delimited(100, layer)


def blob_of(shape: bytes, values: bytes = b"") -> bytes:
    """Return a layer's blob with this BlobShape and these value fields."""
    return length_delimited(7, length_delimited(7, shape) + values)


LOOSE = CAFFE["LooseBlobProto"](data=[1.0] * 30_000)
LOOSE.shape.dim.append(30_000)
SHAPE = b"\x08\xa0\x8d\x06"  # one axis of 100,000
MANY_AXES = length_delimited(1, b"\1" * 300_000)
OVERFULL = {  # what a file may be full of, and whether it can be read
    "layers": (length_delimited(100, b"") * 100_000, False),
    "blobs": (model_of(length_delimited(7, b"") * 30_000), False),
    "names": (model_of(length_delimited(1, b"a") * 30_000), True),
    "axes": (model_of(blob_of(MANY_AXES, length_delimited(5, b"1234"))), False),
    "doubles": (model_of(blob_of(SHAPE, length_delimited(8, bytes(800_000)))), True),
    "packed": (model_of(blob_of(SHAPE, length_delimited(5, bytes(400_000)))), True),
    "loose": (model_of(length_delimited(7, LOOSE.SerializeToString())), True),
}


@pytest.mark.parametrize("full_of", OVERFULL)
def test_no_file_takes_more_than_three_times_its_size(full_of: str, tmp_path: Path) -> None:
    content, readable = OVERFULL[full_of]
    (tmp_path / "file").write_bytes(content)
    tracemalloc.start()
    try:
        layers = read_caffemodel(tmp_path / "file")
    except AlexNetError:
        layers = {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bool(layers) == readable
    assert peak < 3 * len(content) + 200_000, (
        f"{peak:,} bytes of memory for a file of {len(content):,}"
    )
