"""Framing: what the schema registry's serializers write before a datum.

Knows the wire format (a zero byte, the schema's id as four big-endian bytes, and for Protobuf the place
of the message in its file); it does not know schemas. Format: Confluent's "Wire format" documentation.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_HEADER = struct.Struct(">bI")
HEADER_BYTES = _HEADER.size
"""How many bytes stand before what follows the schema's id."""
_DEEPEST = 32
_VARINT_BYTES = 10


class FramingError(Exception):
    """Why a record is not framed as it should be."""


@dataclass(frozen=True, slots=True)
class Framed:
    """The records of a batch by the schema that they name.

    Attributes:
        by_schema: for each schema id, the indices of its records, in order.
        bad: for each record that names none, its index and the reason.
    """

    by_schema: Mapping[int, Sequence[int]]
    bad: Mapping[int, str]


def frames(values: Sequence[bytes | None]) -> Framed:
    """Sort a batch by schema id."""
    by_schema: dict[int, list[int]] = {}
    bad: dict[int, str] = {}
    unpack = _HEADER.unpack_from
    for index, value in enumerate(values):
        if not value:
            bad[index] = "the record has no value"
        elif len(value) < HEADER_BYTES:
            bad[index] = f"{len(value)} bytes are too few for a schema's id and a datum"
        else:
            magic, schema_id = unpack(value)
            if magic == 0:
                by_schema.setdefault(schema_id, []).append(index)
            else:
                bad[index] = (
                    f"the record begins with the byte {value[0]} and not with a zero and a schema's id"
                )
    return Framed(by_schema, bad)


def message_indexes(value: bytes, start: int) -> tuple[tuple[int, ...], int]:
    """The path of a Protobuf message in its file, and where the message begins.

    Args:
        start: where the path begins.

    Returns:
        The index of the top-level message, of the message nested in it, and so on; and the position
        behind the path. A single zero byte is short for the first message.

    Raises:
        FramingError: there is no such path.
    """
    count, position = _varint(value, start)
    if count == 0:
        return (0,), position
    if not 0 < count <= _DEEPEST:
        raise FramingError(f"the path of the message has {count} steps")
    path = []
    for _ in range(count):
        step, position = _varint(value, position)
        if step < 0:
            raise FramingError(f"the path of the message has the step {step}")
        path.append(step)
    return tuple(path), position


def _varint(value: bytes, position: int) -> tuple[int, int]:
    """A zigzag-encoded variable-length integer (Protocol Buffers, "Encoding", signed integers)."""
    number = 0
    for shift in range(_VARINT_BYTES):
        if position >= len(value):
            raise FramingError("the record ends in the path of its message")
        byte = value[position]
        position += 1
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), position
    raise FramingError("the path of the message is no variable-length integer")
