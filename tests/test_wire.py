"""The wire format against protobuf's own writer; and of a thousand damaged files none ends without a clear word."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from alexnet.errors import AlexNetError
from alexnet.weights.caffe import read_caffemodel
from alexnet.weights.wire import BYTES, FIXED32, FIXED64, VARINT, Damaged, Field, fields, varints
from tests.caffe_files import CAFFE, ORDERS, caffemodel


def all_fields(data: bytes) -> list[Field]:
    return list(fields(memoryview(data)))


def small_model(version: int = 2) -> bytes:
    """A net of two small layers, 100 weights or so."""
    weights = {"conv1.weight": np.arange(24.0).reshape(2, 3, 2, 2), "conv1.bias": np.arange(2.0)}
    weights |= {"fc8.weight": np.arange(40.0).reshape(5, 8), "fc8.bias": np.arange(5.0)}
    return caffemodel(weights, ORDERS["caffe"], version).SerializeToString()


def test_fields_come_as_protobuf_wrote_them() -> None:
    blob = CAFFE["BlobProto"](num=300, width=-1, data=[1.5, -2.0], double_data=[0.1])
    blob.shape.dim.extend([1, 2**40])
    found = {field.number: field for field in all_fields(blob.SerializeToString())}
    assert [(number, field.kind) for number, field in found.items()] == [
        (1, VARINT),
        (4, VARINT),
        (5, BYTES),
        (7, BYTES),
        (8, BYTES),
    ]
    assert list(varints(found[1].data)) == [300] and list(varints(found[4].data)) == [2**64 - 1]
    assert np.array_equal(np.frombuffer(found[5].data, "<f4"), np.array([1.5, -2.0]))
    assert np.frombuffer(found[8].data, "<f8").tolist() == [0.1]
    (dims,) = fields(found[7].data)
    assert list(varints(dims.data)) == [1, 2**40]


def test_fixed_sizes_and_large_field_numbers() -> None:
    assert [tuple(field[:2]) for field in all_fields(b"\x0d1234" + b"\x1112345678")] == [(1, FIXED32), (2, FIXED64)]
    assert all_fields(b"\xa0\x06\x07")[0].number == 100
    assert all_fields(b"") == []


def test_values_are_slices_of_the_file() -> None:
    data = bytearray(b"\x0a\x04abcd")
    (field,) = fields(memoryview(data))
    data[2:3] = b"X"
    assert bytes(field.data) == b"Xbcd"


@pytest.mark.parametrize(
    ("data", "complaint"),
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
def test_what_is_no_message_is_told(data: bytes, complaint: str) -> None:
    with pytest.raises(Damaged, match=complaint):
        all_fields(data)


def damaged(whole: bytes, draw: np.random.Generator) -> bytes:
    """A file with a few flipped bits, cut short, or with a run of random bytes where a length may have been."""
    data, place = bytearray(whole), int(draw.integers(len(whole)))
    match draw.integers(3):
        case 0:
            for where in draw.integers(0, len(data), draw.integers(1, 5)):
                data[where] ^= 1 << int(draw.integers(8))
        case 1:
            del data[place:]
        case _:
            data[place : place + int(draw.integers(0, 3))] = draw.bytes(int(draw.integers(1, 10)))
    return bytes(data)


@pytest.mark.parametrize("version", [1, 2])
def test_a_damaged_file_is_read_well_or_refused(version: int, tmp_path: Path) -> None:
    whole, draw, refused, file = small_model(version), np.random.default_rng(version), 0, tmp_path / "damaged"
    for _ in range(600):
        file.write_bytes(damaged(whole, draw))
        try:
            layers = read_caffemodel(file)
        except AlexNetError as error:
            refused += 1
            assert str(error).startswith(f"{file}: ") and len(str(error).splitlines()) == 1
        else:
            assert all(blob.dtype == np.float32 and blob.size > 0 for blobs in layers.values() for blob in blobs)
    assert 100 < refused < 600  # a flipped bit of a weight is still a weight


def held(number: int, data: bytes) -> bytes:
    """A length-delimited field."""
    return bytes(CAFFE["BlobShape"](dim=[number << 3 | BYTES, len(data)]).SerializeToString()[2:]) + data


LOOSE = CAFFE["LooseBlobProto"](data=[1.0] * 30_000)
LOOSE.shape.dim.append(30_000)
CROWDED = {  # what a file may be full of, and whether it can be read
    "layers": (held(100, b"") * 100_000, False),
    "blobs": (held(100, held(7, b"") * 30_000), False),
    "names": (held(100, held(1, b"a") * 30_000), True),
    "axes": (held(100, held(7, held(7, held(1, b"\1" * 300_000)) + held(5, b"1234"))), False),
    "doubles": (held(100, held(7, held(7, b"\x08\xa0\x8d\x06") + held(8, bytes(800_000)))), True),
    "packed": (held(100, held(7, held(7, b"\x08\xa0\x8d\x06") + held(5, bytes(400_000)))), True),
    "loose": (held(100, held(7, LOOSE.SerializeToString())), True),
}


@pytest.mark.parametrize("crowd", CROWDED)
def test_no_file_takes_more_than_three_times_its_size(crowd: str, tmp_path: Path) -> None:
    content, readable = CROWDED[crowd]
    (tmp_path / "file").write_bytes(content)
    tracemalloc.start()
    try:
        layers = read_caffemodel(tmp_path / "file")
    except AlexNetError:
        layers = {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bool(layers) == readable
    assert peak < 3 * len(content) + 200_000, f"{peak:,} bytes of memory for a file of {len(content):,}"
