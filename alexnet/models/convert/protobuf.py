"""Protobuf's wire format without a schema: from the bytes of a message to its numbered fields.

A field's value is a slice of the file, never a copy: the bytes of a number, or a length-delimited
run that the caller, who knows the schema, reads as text, as packed numbers, or as a message by
calling `fields` again. So nesting goes as deep as the caller asks, and reading n bytes takes at
most n steps. Every length is checked against what is left. Groups, which the format abandoned long
ago, are refused.
"""

from collections.abc import Iterator
from typing import NamedTuple

from alexnet.core.errors import AlexNetError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # the wire types
FIXED_BYTES = {FIXED32: 4, FIXED64: 8}
MAX_VARINT_BYTES = 10
MAX_FIELD_NUMBER = 2**29 - 1


class MalformedMessage(AlexNetError):
    """Bytes that are not a message; the text is the reason."""


class Field(NamedTuple):
    """A field: its number, its wire type, the bytes of its value without tag and length."""

    number: int
    wire_type: int
    data: memoryview


def fields(message: memoryview) -> Iterator[Field]:
    """Yield every field of a message, in order; MalformedMessage."""
    offset = 0
    while offset < len(message):
        tag, after_tag = _read_varint(message, offset)
        number = tag >> 3
        wire_type = tag & 7
        if not 1 <= number <= MAX_FIELD_NUMBER:
            raise MalformedMessage(
                f"at byte {offset} of a message: field number {number}, "
                f"expected 1 to {MAX_FIELD_NUMBER}"
            )
        start, offset = _value_range(message, after_tag, wire_type)
        yield Field(number, wire_type, message[start:offset])


def varints(data: memoryview) -> Iterator[int]:
    """Yield the numbers in a field's bytes, 0 to 2**64 - 1; MalformedMessage.

    A VARINT field has one, a packed BYTES field any number.
    """
    offset = 0
    while offset < len(data):
        value, offset = _read_varint(data, offset)
        yield value


def _value_range(message: memoryview, offset: int, wire_type: int) -> tuple[int, int]:
    """Return start and end of the value of the field whose tag ends at `offset`."""
    if wire_type == VARINT:
        return offset, _read_varint(message, offset)[1]
    if wire_type == BYTES:
        length, offset = _read_varint(message, offset)
    elif wire_type in FIXED_BYTES:
        length = FIXED_BYTES[wire_type]
    else:
        raise MalformedMessage(
            f"at byte {offset} of a message: wire type {wire_type}, "
            f"expected {VARINT}, {FIXED64}, {BYTES} or {FIXED32}"
        )
    if length > len(message) - offset:
        raise MalformedMessage(
            f"at byte {offset} of a message: a value of {length} bytes, "
            f"where {len(message) - offset} are left"
        )
    return offset, offset + length


def _read_varint(data: memoryview, offset: int) -> tuple[int, int]:
    """Return the number at `offset`, seven bits a byte, lowest first, and the offset after it."""
    value = 0
    for position, byte in enumerate(data[offset : offset + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value & (2**64 - 1), offset + position + 1
    raise MalformedMessage(f"at byte {offset} of a message: a number without an end")
