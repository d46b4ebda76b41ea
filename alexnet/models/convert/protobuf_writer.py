"""Protobuf's wire format, written without a schema: the fields of a message as bytes.

A message is its fields' bytes one after another, so a caller who knows the schema adds them up; a
message inside another is a field of bytes. What is written here, `protobuf.fields` reads.
"""

from collections.abc import Iterable

from alexnet.models.convert.protobuf import BYTES, VARINT


def varint(value: int) -> bytes:
    """Return a number from 0 to 2**64 - 1, seven bits a byte, lowest first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def varint_field(number: int, value: int) -> bytes:
    """Return a field that holds a number."""
    return varint(number << 3 | VARINT) + varint(value)


def bytes_field(number: int, value: bytes | memoryview) -> bytes:
    """Return a field that holds bytes, packed numbers, or a message."""
    return b"".join((varint(number << 3 | BYTES), varint(len(value)), value))


def text_field(number: int, value: str) -> bytes:
    """Return a field that holds a text."""
    return bytes_field(number, value.encode())


def packed_field(number: int, values: Iterable[int]) -> bytes:
    """Return a repeated field of numbers, packed."""
    return bytes_field(number, b"".join(map(varint, values)))
