"""The head of an entity: which row answers now, until when that holds, and its values ready to be sent.

Knows the bytes of a head; it does not know how rows become values.

A head, little-endian: version (1 byte), kind (1: row transforms, 2: windows), how many features (2),
the length of the text at the end (4); then eight signed integers of 8 bytes: event time and known time
of the greatest row, its offset and partition, the newest known time of the entity, the time from which
on all its rows are visible, the horizon to which it was last pruned, and how often it was changed. Times
are microseconds since 1970, the least integer is "always". Of row transforms follow the values
(see `layout`) and, as text, the same values as a JSON array; of windows the text alone.
"""

import base64
import struct
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import orjson

from rayplat.core.errors import IntegrityError
from rayplat.features.instants import BEGINNING
from rayplat.features.online.keys import SLACK_US

HEADER = struct.Struct("<BBHI8q")
"""Everything before the values."""

VALUES_AT = HEADER.size
"""Where the values begin."""

ROW, WINDOW = 1, 2
VERSION = 1
"""Of the bytes of a head; others are not read."""

NEVER = int(BEGINNING)


class Head(NamedTuple):
    """The fields of a head before its values; see the module."""

    kind: int
    features: int
    text_length: int
    event: int
    known: int
    offset: int
    partition: int
    newest: int
    visible: int
    pruned: int
    changes: int

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Where the greatest row stands in the order of rows."""
        return self.event, self.known, self.offset, self.partition

    @property
    def earliest(self) -> int:
        """The earliest time at which a question about the entity is answered exactly."""
        return horizon(self.newest)


def horizon(newest: int) -> int:
    """How far back questions are answered exactly, by the newest known time."""
    return NEVER if newest < NEVER + SLACK_US else newest - SLACK_US


def write_head(head: Head, values: bytes, text: bytes) -> bytes:
    """A head as bytes; `head.text_length` is not looked at."""
    return HEADER.pack(VERSION, head[0], head[1], len(text), *head[3:]) + values + text


def write_changed(head: Head, values: bytes, text: bytes) -> bytes:
    """A head that was changed once more, as bytes; `head.text_length` is not looked at."""
    fields = head[3:10]
    return HEADER.pack(VERSION, head[0], head[1], len(text), *fields, head[10] + 1) + values + text


def read_head(data: bytes) -> Head:
    """The fields of a head.

    Raises:
        IntegrityError: the bytes are no head of this version.
    """
    try:
        version, *fields = HEADER.unpack_from(data)
    except struct.error:
        version, fields = -1, []
    if version != VERSION:
        raise IntegrityError(
            f"an entity in the online store is of version {version}, not {VERSION}",
            "remove the online store and materialize again",
        )
    return Head(*fields)


def text_of(data: bytes) -> bytes:
    """The text at the end of a head: of row transforms the values as a JSON array."""
    length = int.from_bytes(data[4:8], "little")
    return data[len(data) - length :] if length else b""


def values_of(data: bytes, head: Head) -> bytes:
    """The values of a head of row transforms."""
    return data[VALUES_AT : len(data) - head.text_length]


def to_json(values: Sequence[Any]) -> bytes:
    """Values as a JSON array: times as RFC 3339, lengths of time in microseconds, bytes as base64.

    JSON has no NaN and no infinity: they are null there; the binary values tell them.
    """
    return orjson.dumps(values, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    raise TypeError(value)
