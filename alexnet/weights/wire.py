"""Protobuf's wire format without a schema: the bytes of a message go in, its numbered fields come out in their order.

A field's value is always a slice of the file itself, never a copy: a number's own bytes, or a length-delimited run, which whoever
knows the schema reads as text, as packed numbers, or as a message with `fields` again. So nesting goes as deep as the reader
asks and no deeper, and a read of n bytes takes at most n steps. Every length is held against what is left. Groups, which the
format gave up long ago, are refused. It knows nothing of names, defaults or the sign of numbers.
"""

from collections.abc import Iterator
from typing import NamedTuple

from alexnet.errors import AlexNetError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # the wire types
LONGEST_VARINT = 10  # bytes
LARGEST_NUMBER = 2**29 - 1  # of a field


class Damaged(AlexNetError):
    """Bytes that are no message; the text is the reason."""


class Field(NamedTuple):
    """One field: its number, its wire type, and the bytes of its value without tag and length."""

    number: int
    kind: int
    data: memoryview


def fields(message: memoryview) -> Iterator[Field]:
    """Every field of a message, in order; Damaged where its bytes are none."""
    place = 0
    while place < len(message):
        tag, after = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if not 1 <= number <= LARGEST_NUMBER:
            raise Damaged(f"at byte {place} of a message: field number {number}, expected 1 to {LARGEST_NUMBER}")
        start, place = _extent(message, after, kind)
        yield Field(number, kind, message[start:place])


def varints(data: memoryview) -> Iterator[int]:
    """The numbers in a field's bytes, 0 to 2**64 - 1: the one of a VARINT field, all those of a packed BYTES field; Damaged."""
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value


def _extent(message: memoryview, place: int, kind: int) -> tuple[int, int]:
    """From where to where the value of a field of this wire type reaches that begins at `place`."""
    if kind == VARINT:
        return place, _varint(message, place)[1]
    if kind == BYTES:
        length, place = _varint(message, place)
    elif kind in (FIXED32, FIXED64):
        length = 4 if kind == FIXED32 else 8
    else:
        raise Damaged(f"at byte {place} of a message: wire type {kind}, expected {VARINT}, {FIXED64}, {BYTES} or {FIXED32}")
    if length > len(message) - place:
        raise Damaged(f"at byte {place} of a message: a value of {length} bytes, where {len(message) - place} are left")
    return place, place + length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """The number at `place`, seven bits a byte, lowest first, and the place behind it."""
    value = 0
    for position, byte in enumerate(data[place : place + LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value & (2**64 - 1), place + position + 1
    raise Damaged(f"at byte {place} of a message: a number without an end")
