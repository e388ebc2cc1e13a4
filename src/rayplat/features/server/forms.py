"""Answers about one view as bytes: JSON, and a binary form.

Knows the two forms; it does not know where the values come from.

JSON: `{"view", "at_us", "features": [...], "age_us": [...], "values": [[...], ...]}`. A number of `age_us`
and a line of `values` stand for each key, in the keys' order. `age_us` is how old the answer is: `at_us`
minus the event time of the row that it was made of, in microseconds; null where nothing is known within ttl
(then the values are null, or the declared defaults) and where the source has no times. NaN is null in JSON.

Binary (little-endian), for callers to whom microseconds matter: the bytes `RPF1`, the number of rows n and
the number of features (4 bytes each), 4 bytes of zeros, `at_us` (8); then n event times (8 bytes each,
microseconds since 1970; the smallest number of 64 bits where nothing is known), n lengths (4 bytes each),
and n rows of those lengths, one behind the other, in the layout of `rayplat.features.online.layout`; the
length is 0 where nothing is known. GET on the view tells the names of the features.
"""

import struct
from array import array
from collections.abc import Sequence
from typing import cast

import orjson

from rayplat.features.instants import BEGINNING
from rayplat.features.server.held import Found

MAGIC = b"RPF1"
_HEADER = struct.Struct("<4sIIIq")
_NEVER = int(BEGINNING)


class Form:
    """How answers about one view are written.

    Args:
        view: its name.
        features: the names of its features.
    """

    def __init__(self, view: str, features: Sequence[str]) -> None:
        self._width = len(features)
        self._head = b'{"view":' + orjson.dumps(view) + b',"at_us":'
        self._features = b',"features":' + orjson.dumps(list(features)) + b',"age_us":'

    def text(self, found: Found) -> tuple[bytes, bytes, bytes]:
        """The JSON form, in pieces."""
        at = found.at_us
        ages = orjson.dumps([None if e is None or e == _NEVER else at - e for e in found.events])
        head = b'%b%d%b%b,"values":[' % (self._head, at, self._features, ages)
        return head, found.body, b"]}"

    def binary(self, found: Found) -> tuple[bytes, bytes, bytes, bytes]:
        """The binary form, in pieces."""
        events = found.events
        told = events if None not in events else [_NEVER if event is None else event for event in events]
        return (
            _HEADER.pack(MAGIC, len(events), self._width, 0, found.at_us),
            array("q", cast("Sequence[int]", told)).tobytes(),
            found.sizes,
            found.body,
        )


def read_binary(data: bytes) -> tuple[int, list[int | None], list[bytes]]:
    """The binary form, taken apart: `at_us`, event times (None: none) and rows, empty where nothing is known.

    Raises:
        ValueError: the bytes are not of that form.
    """
    magic, count, _, _, at = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"these bytes begin with {magic!r}, not {MAGIC!r}")
    start = _HEADER.size
    events = struct.unpack_from(f"<{count}q", data, start)
    lengths = struct.unpack_from(f"<{count}I", data, start + 8 * count)
    place = start + 12 * count
    rows = []
    for length in lengths:
        rows.append(data[place : place + length])
        place += length
    return at, [None if event == _NEVER else event for event in events], rows
